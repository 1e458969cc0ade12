//! Holds the schema as it is against what was left.

use std::time::Duration;

use super::Schema;
use super::kept::{self, Left};
use crate::runner::connect::Session;
use crate::runner::verify::differences;

/// The line that names the server's major version: the next one writes definitions in other words.
const MAJOR: &str = "meta\tserver_major\t";

/// How a schema stands to what was left.
#[derive(Debug)]
pub(in crate::runner) enum Standing {
    /// There is nothing to compare it with, for this reason.
    Nothing(String),
    /// It is what was left.
    Same(Left),
    /// It is another one.
    Drifted {
        left: Left,
        /// The lines that differ; none if those that were left are not kept any more.
        differences: Option<Vec<String>>,
    },
}

/// How the schema stands; it is read only if there is something to compare it with. Lines whose names match
/// one of `ignore` do not count.
pub(in crate::runner) async fn look(
    session: &Session,
    ignore: &[String],
    time: Duration,
) -> Result<Standing, tokio_postgres::Error> {
    let client = &session.client;
    let Some(left) = kept::left(client).await? else {
        let text = "no run has left a schema to compare with yet";
        return Ok(Standing::Nothing(text.to_owned()));
    };
    let Some(fingerprint) = left.fingerprint else {
        let text = format!("how {} left the schema is not known", left.by);
        return Ok(Standing::Nothing(text));
    };
    let schema = Schema::read(session, time).await?;
    if fingerprint == schema.fingerprint {
        return Ok(Standing::Same(left));
    }
    let Some(lines) = kept::lines(client, &fingerprint).await? else {
        let differences = None;
        return Ok(Standing::Drifted { left, differences });
    };
    if major(&lines) != major(&schema.lines) {
        let text = "the server has become another major version, which writes definitions anew";
        return Ok(Standing::Nothing(text.to_owned()));
    }
    let differences = differences(&counting(&lines, ignore), &counting(&schema.lines, ignore));
    Ok(match differences.is_empty() {
        true => Standing::Same(left),
        false => Standing::Drifted {
            left,
            differences: Some(differences),
        },
    })
}

fn major(lines: &[String]) -> Option<&str> {
    lines.iter().find_map(|it| it.strip_prefix(MAJOR))
}

/// The lines that count.
fn counting(lines: &[String], ignore: &[String]) -> Vec<String> {
    let name = |line: &String| line.split('\t').nth(1).unwrap_or_default().to_owned();
    let ignored = |line: &&String| ignore.iter().any(|it| matches(it, &name(line)));
    lines.iter().filter(|it| !ignored(it)).cloned().collect()
}

/// Whether a pattern names something, or what it is part of: `*` stands for any characters.
fn matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else {
        return false;
    };
    for part in parts {
        // The first place will do: what follows may be anything at all.
        match rest.find(part) {
            Some(at) => rest = rest.get(at + part.len()..).unwrap_or_default(),
            None => return false,
        }
    }
    pattern.ends_with('*') || rest.is_empty() || rest.starts_with('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_names_a_thing_and_its_parts() {
        for (pattern, name, does) in [
            ("public.cache", "public.cache", true),
            ("public.cache", "public.cache.id", true),
            ("public.cache", "public.cached", false),
            ("public.log_*", "public.log_2024", true),
            ("public.log_*", "public.log_2024.id", true),
            ("public.log_*_old", "public.log_2024_old.id", true),
            ("public.log_*_old", "public.log_2024_new", false),
            ("*", "anything", true),
            ("other.*", "public.cache", false),
        ] {
            assert_eq!(matches(pattern, name), does, "{pattern} {name}");
        }
    }

    #[test]
    fn what_is_ignored_makes_no_difference() {
        let lines = |all: &[&str]| all.iter().map(ToString::to_string).collect::<Vec<_>>();
        let left = lines(&["rel\tpublic.a\tr", "rel\tpublic.log_1\tr"]);
        let now = lines(&["rel\tpublic.a\tr", "rel\tpublic.log_2\tr"]);
        let ignore = ["public.log_*".to_owned()];
        assert_eq!(counting(&left, &ignore), counting(&now, &ignore));
        assert_eq!(
            differences(&counting(&left, &[]), &counting(&now, &[])).len(),
            2
        );
    }
}
