//! Types and functions: which change of a type writes every row again, which default has to be
//! computed for each row.

use crate::runner::catalog::Catalog;
use crate::runner::shape::Name;

/// Functions of the server's own that are known without asking it: none of them locks a table.
pub(super) const BUILTIN: [&str; 38] = [
    "abs",
    "age",
    "array_agg",
    "array_length",
    "btrim",
    "coalesce",
    "concat",
    "count",
    "current_setting",
    "date_trunc",
    "extract",
    "format",
    "gen_random_uuid",
    "generate_series",
    "greatest",
    "jsonb_build_object",
    "left",
    "length",
    "lower",
    "max",
    "md5",
    "min",
    "nextval",
    "now",
    "nullif",
    "pg_notify",
    "pg_try_advisory_lock",
    "random",
    "replace",
    "round",
    "row_number",
    "set_config",
    "setval",
    "string_agg",
    "substr",
    "sum",
    "trim",
    "upper",
];

/// Of these, and of some others that extensions bring, the ones that give another value each time.
const VOLATILE: [&str; 9] = [
    "clock_timestamp",
    "gen_random_uuid",
    "nextval",
    "random",
    "setval",
    "timeofday",
    "uuid_generate_v1",
    "uuid_generate_v4",
    "uuidv7",
];

/// Whether a function gives another value each time; `None` if it is not known.
pub(in crate::runner) fn is_volatile(catalog: Option<&Catalog>, function: &Name) -> Option<bool> {
    if let Some(catalog) = catalog {
        return catalog.functions.get(function).map(|it| it.volatile == 'v');
    }
    let name = function.name.as_str();
    match VOLATILE.contains(&name) {
        true => Some(true),
        false if BUILTIN.contains(&name) => Some(false),
        false => None,
    }
}

/// Whether every row is written again when a column goes from one type to another.
///
/// The exceptions are those of the transformations that `ATColumnChangeRequiresRewrite` sees
/// through: a length or precision that grows, or ends; text and varchar; cidr to inet. Everything
/// else is taken for a rewrite, also what depends on the time zone.
pub(in crate::runner) fn rewrites(from: &str, to: &str) -> bool {
    let (from_base, from_mods) = parts(from);
    let (to_base, to_mods) = parts(to);
    let grows = || match (from_mods.as_slice(), to_mods.as_slice()) {
        (_, []) => true,
        ([from], [to]) => from <= to,
        // numeric(precision, scale): another scale rounds.
        ([from, scale], [to, same]) => from <= to && scale == same,
        _ => false,
    };
    match (from_base.as_str(), to_base.as_str()) {
        (from, to) if from == to => match from {
            "character varying" | "numeric" | "bit varying" => !grows(),
            "timestamp without time zone"
            | "timestamp with time zone"
            | "interval"
            | "time without time zone"
            | "time with time zone" => !grows(),
            _ => from_mods != to_mods,
        },
        ("character varying", "text") | ("cidr", "inet") => false,
        ("text", "character varying") => !to_mods.is_empty(),
        _ => true,
    }
}

/// A type's name as `format_type` writes it, and the numbers in its parentheses.
fn parts(ty: &str) -> (String, Vec<u32>) {
    let lower = ty.to_lowercase();
    let (head, rest) = lower.split_once('(').unwrap_or((&lower, ""));
    let (inside, tail) = rest.split_once(')').unwrap_or(("", rest));
    let numbers = inside
        .split(',')
        .filter_map(|it| it.trim().parse().ok())
        .collect();
    let base = format!("{} {}", head.trim(), tail.trim());
    let base = base.split_whitespace().collect::<Vec<_>>().join(" ");
    let base = match base.trim_start_matches("pg_catalog.") {
        "varchar" => "character varying",
        "char" | "bpchar" => "character",
        "int" | "int4" => "integer",
        "int8" => "bigint",
        "int2" => "smallint",
        "decimal" => "numeric",
        "bool" => "boolean",
        "varbit" => "bit varying",
        "float8" => "double precision",
        "float4" => "real",
        "timestamp" => "timestamp without time zone",
        "timestamptz" => "timestamp with time zone",
        "time" => "time without time zone",
        "timetz" => "time with time zone",
        other => other,
    };
    (base.to_owned(), numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_known_to_keep_the_rows_is_no_rewrite() {
        let free = [
            ("character varying(80)", "varchar(200)"),
            ("character varying(80)", "text"),
            ("text", "varchar"),
            ("numeric(10,2)", "numeric(12, 2)"),
            ("numeric(10,2)", "numeric"),
            ("timestamp(3) without time zone", "timestamp"),
            ("integer", "int4"),
        ];
        for (from, to) in free {
            assert!(!rewrites(from, to), "{from} to {to}");
        }
        let costly = [
            ("character varying(80)", "varchar(10)"),
            ("text", "varchar(10)"),
            ("numeric(10,2)", "numeric(12,3)"),
            ("integer", "bigint"),
            ("timestamp without time zone", "timestamptz"),
            ("json", "jsonb"),
            ("mood", "text"),
        ];
        for (from, to) in costly {
            assert!(rewrites(from, to), "{from} to {to}");
        }
    }

    #[test]
    fn volatility_is_unknown_rather_than_guessed() {
        assert_eq!(is_volatile(None, &Name::bare("now")), Some(false));
        assert_eq!(is_volatile(None, &Name::bare("random")), Some(true));
        assert_eq!(is_volatile(None, &Name::bare("my_default")), None);
        let asked = Catalog::default();
        assert_eq!(is_volatile(Some(&asked), &Name::bare("now")), None);
    }
}
