//! What `CREATE INDEX CONCURRENTLY` leaves behind when it fails: an index that is invalid. Every write
//! pays for it, no query uses it, and its name is taken.

use tokio_postgres::Client;

use super::Executor;
use crate::runner::plan::Step;
use crate::runner::report::Failure;
use crate::runner::shape::{self, Kind, Name};
use crate::runner::split::Statement;
use crate::runner::stop::Stop;

/// An index that a statement builds without keeping others out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::runner) struct ConcurrentIndex {
    /// On this table.
    pub(in crate::runner) table: Name,
    /// Its name, which is in the schema of the table.
    pub(in crate::runner) name: String,
}

impl ConcurrentIndex {
    /// The index that a statement builds; none if it does not build one, or does not name it.
    pub(in crate::runner) fn of(sql: &str) -> Option<Self> {
        if !shape::is_readable(sql) {
            return None;
        }
        shape::read(sql).into_iter().find_map(|act| {
            let Kind::CreateIndex {
                name: Some(name),
                concurrently: true,
                ..
            } = act.kind
            else {
                return None;
            };
            let table = act.on?;
            Some(Self { table, name })
        })
    }

    /// The index as SQL has it, if it is there and invalid; not while somebody still builds it.
    pub(in crate::runner) async fn remains(
        &self,
        client: &Client,
    ) -> Result<Option<String>, tokio_postgres::Error> {
        let sql = "select pg_catalog.format('%I.%I', n.nspname, c.relname) \
                   from pg_catalog.pg_index x \
                   join pg_catalog.pg_class c on c.oid = x.indexrelid \
                   join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
                   where x.indrelid = pg_catalog.to_regclass($1) and c.relname = $2::text \
                     and not (x.indisvalid and x.indisready and x.indislive) \
                     and not exists (select from pg_catalog.pg_stat_progress_create_index p \
                                     where p.index_relid = c.oid)";
        let row = client
            .query_opt(sql, &[&self.table.quoted(), &self.name])
            .await?;
        Ok(row.map(|row| row.get(0)))
    }
}

impl Executor<'_> {
    /// Makes ready for another try of a statement that ran where no transaction undoes it; false if
    /// nobody can tell whether it happened.
    pub(super) async fn clear_remains(
        &mut self,
        step: &Step,
        statement: &Statement,
        stop: &Stop,
    ) -> Result<bool, Failure> {
        let sql = step.script.written(statement);
        let acts = match shape::is_readable(sql) {
            true => shape::read(sql),
            false => Vec::new(),
        };
        let drops = |kind: &Kind| matches!(kind, Kind::Drop(it) if it.concurrently);
        if acts.len() == 1 && acts.iter().all(|act| drops(&act.kind)) {
            // The index is still there, perhaps no longer valid: to drop it again does the rest.
            return Ok(true);
        }
        let Some(index) = ConcurrentIndex::of(sql) else {
            return Ok(false);
        };
        let session = self.session().map_err(Failure::from)?;
        let remains = index.remains(&session.client).await;
        if let Some(name) = remains.map_err(|error| Failure::from_error(&error))? {
            self.run
                .note(format!("{}: dropping the invalid index {name}", step.file));
            self.ask(&format!("drop index concurrently {name}"), stop)
                .await?;
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_that_is_built_concurrently_is_known_by_name_and_table() {
        let of = |sql: &str| ConcurrentIndex::of(sql).map(|it| (it.table.to_string(), it.name));
        let found = Some(("shop.t".to_owned(), "i".to_owned()));
        assert_eq!(
            of("create unique index concurrently i on shop.t (a)"),
            found
        );
        assert_eq!(of("create index i on t (a)"), None);
        assert_eq!(of("create index concurrently on t (a)"), None);
        assert_eq!(of("drop index concurrently i"), None);
    }
}
