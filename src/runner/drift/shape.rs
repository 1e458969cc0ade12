//! A schema without what a copy of it may lack: owners and grants, which only a superuser restores.

use crate::runner::source::Sha256;
use crate::runner::verify;

/// The SHA-256 of a schema's lines without pgdrain's own, owners, grants and default privileges.
pub(in crate::runner) fn shape(lines: &[String]) -> String {
    let mut lines = verify::without_own(lines.to_vec());
    lines.retain(|line| {
        let kind = line.split('\t').next().unwrap_or_default();
        !(kind == "owner" || kind == "defacl" || kind.starts_with("acl."))
    });
    Sha256::of(lines.join("\n").as_bytes()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_and_grants_do_not_count_and_all_else_does() {
        let lines = |all: &[&str]| shape(&all.iter().map(ToString::to_string).collect::<Vec<_>>());
        let plain = lines(&["column\ta\tint", "rel\ta\tr"]);
        let more = [
            "acl.rel\ta\tx",
            "column\ta\tint",
            "defacl\tb\ty",
            "owner\ta\tann",
            "rel\ta\tr",
            "rel\tpgdrain.run\tr",
        ];
        assert_eq!(lines(&more), plain);
        assert_ne!(lines(&["column\ta\tbigint", "rel\ta\tr"]), plain);
    }
}
