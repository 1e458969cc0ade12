//! Are the tables and columns there that somebody wrote down as required?
//!
//! What files name themselves is rule `missing-relation`'s; this is the list of what the application cannot
//! do without: if something of it is missing, the schema is not the one that was meant.

use super::Check;
use super::ground::Ground;

const NAME: &str = "required";

/// Names among $1 that are neither a relation nor a column of one.
const MISSING: &str = "\
    select name from unnest($1::text[]) with ordinality as wanted (name, place), \
         lateral parse_ident(name) as parts, \
         lateral (select to_regclass(nullif(array_to_string(array( \
             select quote_ident(part) from unnest(parts[:cardinality(parts) - 1]) part), '.'), '')) \
         ) as table_of (oid) \
    where to_regclass(name) is null \
      and not exists (select from pg_attribute a where a.attrelid = table_of.oid \
                      and a.attname = parts[cardinality(parts)] and a.attnum > 0 \
                      and not a.attisdropped) \
    order by place";

pub(super) async fn check(ground: &Ground<'_>) -> Result<Check, tokio_postgres::Error> {
    let required = &ground.limits.demands.required;
    if required.is_empty() {
        return Ok(Check::does_not_apply(NAME, "nothing is required"));
    }
    let missing = ground.lines(MISSING, &[required]).await?;
    let missing = missing.into_iter().map(|it| format!("{it} is missing"));
    let well = format!("{} tables and columns are there", required.len());
    Ok(Check::of(NAME, missing.collect(), well)
        .hint("this is not the schema that was meant: see `pgdrain migrate verify --against`"))
}
