//! Can those constraints be validated that files validate, and which are not valid besides?
//!
//! NOT VALID is a step on the way of a constraint, often over several releases: it is named. What
//! stops a run is a `VALIDATE` of a CHECK, or of a NOT NULL (Postgres 18), that rows violate; foreign keys are the
//! `orphans` check's.

use std::collections::BTreeSet;

use super::Check;
use super::ground::{Ground, Work};
use super::orphans::{Answer, Questions};
use crate::runner::shape::Kind;

const NAME: &str = "constraints";

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "it names the few kinds of acts that it is about"
)]
pub(super) async fn check(
    ground: &Ground<'_>,
    work: &Work<'_>,
) -> Result<Check, tokio_postgres::Error> {
    let changed = work.changed();
    if changed.is_empty() {
        return Ok(Check::does_not_apply(
            NAME,
            "no file changes a table that is there",
        ));
    }
    let validated: BTreeSet<(u32, &str)> = work
        .acts()
        .filter_map(|(_, act, relation)| match &act.kind {
            Kind::Validate { constraint } => Some((relation.oid, constraint.as_str())),
            _ => None,
        })
        .collect();
    // The expression is deparsed: that waits for whoever alters the table, up to the lock_timeout.
    let sql = "select c.conrelid, c.conname::text, c.conrelid::pg_catalog.regclass::text, \
                      case c.contype \
                          when 'c' then pg_catalog.pg_get_expr(c.conbin, c.conrelid) \
                          when 'n' then (select format('%I is not null', a.attname) \
                                         from pg_catalog.pg_attribute a \
                                         where a.attrelid = c.conrelid and a.attnum = c.conkey[1]) end \
               from pg_catalog.pg_constraint c \
               where c.conrelid = any ($1) and not c.convalidated \
                 and coalesce(to_jsonb(c) ->> 'conenforced', 'true') = 'true' order by 3, 2";
    let rows = work.reader.client().query(sql, &[&changed]).await?;
    let mut questions = Questions::new(work.reader, ground.limits.rows_time);
    let (mut wrong, mut unknown, mut notes) = (Vec::new(), Vec::new(), Vec::new());
    for row in &rows {
        let (oid, name, table): (u32, &str, &str) = (row.get(0), row.get(1), row.get(2));
        let expression: Option<&str> = row.get(3);
        if !validated.contains(&(oid, name)) {
            notes.push(format!(
                "{name} on {table} is NOT VALID, and no file validates it"
            ));
            continue;
        }
        let Some(expression) = expression else {
            continue;
        };
        let violating = format!("select from {table} where not ({expression})");
        match questions.finds(&violating).await {
            Answer::No => {}
            Answer::Yes => wrong.push(format!("rows of {table} violate {name}")),
            Answer::NotKnown(why) => unknown.push(format!("{name} on {table}: {why}")),
        }
    }
    questions.done().await?;
    let check = match (wrong.is_empty(), unknown.is_empty()) {
        (true, false) => {
            let text = "it was not found out whether rows violate what is to be validated";
            Check::not_known(NAME, text).with(unknown)
        }
        (true, true) | (false, _) => {
            let well = "what the files validate can be validated";
            Check::of(NAME, wrong, well).with_notes(unknown)
        }
    };
    Ok(check
        .hint("mend the rows before; give more time by migrate.preflight.rows_time")
        .with_notes(notes))
}
