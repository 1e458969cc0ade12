//! Are there invalid indexes on what files change? Each write pays for them and no query uses them;
//! they are what a CREATE INDEX CONCURRENTLY leaves that failed.

use super::Check;
use super::ground::Work;
use crate::runner::shape::Kind;

const NAME: &str = "indexes";

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "it names the few kinds of acts that it is about"
)]
pub(super) async fn check(work: &Work<'_>) -> Result<Check, tokio_postgres::Error> {
    let changed = work.changed();
    if changed.is_empty() {
        return Ok(Check::does_not_apply(
            NAME,
            "no file changes a table that is there",
        ));
    }
    // An index that somebody builds now is not valid yet. That of a partitioned table is not while
    // a partition has none.
    let sql = "select i.relname::text, format('%s on %s is invalid: drop it (DROP INDEX \
                      CONCURRENTLY %I.%I) or rebuild it (REINDEX)', i.relname, \
                      t.oid::pg_catalog.regclass, n.nspname, i.relname) \
               from pg_catalog.pg_index x \
               join pg_catalog.pg_class i on i.oid = x.indexrelid \
               join pg_catalog.pg_class t on t.oid = x.indrelid \
               join pg_catalog.pg_namespace n on n.oid = i.relnamespace \
               where x.indrelid = any ($1) \
                 and not (x.indisvalid and x.indisready and x.indislive) \
                 and not exists (select from pg_catalog.pg_stat_progress_create_index p \
                                 where p.index_relid = i.oid) \
               order by 1";
    let rows = work.reader.client().query(sql, &[&changed]).await?;
    let statements = work.studied.iter().flat_map(|it| &it.statements);
    let named: Vec<&str> = statements
        .flat_map(|it| &it.acts)
        .filter_map(|act| match &act.kind {
            Kind::CreateIndex { name, .. } => name.as_deref(),
            Kind::Drop(dropped) => Some(dropped.name.name.as_str()),
            Kind::Reindex { .. } => act.on.as_ref().map(|on| on.name.as_str()),
            _ => None,
        })
        .collect();
    let (mut wrong, mut notes) = (Vec::new(), Vec::new());
    for row in &rows {
        let (index, text): (&str, String) = (row.get(0), row.get(1));
        match named.contains(&index) {
            true => notes.push(format!("{index} is invalid, and a file is about it")),
            false => wrong.push(text),
        }
    }
    Ok(
        Check::of(NAME, wrong, "no invalid index that no file is about")
            .hint("drop or rebuild it before")
            .with_notes(notes),
    )
}
