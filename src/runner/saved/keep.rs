//! Saves what a plan touches into `pgdrain.saved_object`, and reads it from there.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio_postgres::Client;
use tokio_postgres::types::{Json, ToSql};

use super::read::{Scope, read};
use super::{SavedError, SavedKind, SavedObject};
use crate::config::SaveObjects;
use crate::runner::catalog::Reader;
use crate::runner::connect::Connector;
use crate::runner::history::Ledger;
use crate::runner::plan::{self, Plan};
use crate::runner::shape::{Kind, ObjectKind, read as acts_of};

/// More are not saved: what a run keeps must stay small beside what it changes.
const OBJECTS_MAX: usize = 20_000;
const BYTES_MAX: usize = 64 << 20;

/// So many runs keep what they saved.
const RUNS_MAX: i64 = 100;

/// One view of the catalogs, with names that are whole. It waits for whoever alters a table, but not
/// for long.
const BEGIN: &str = "\
    begin isolation level repeatable read, read only; \
    set local lock_timeout = '5s'; \
    set local statement_timeout = '60s'; \
    set local quote_all_identifiers = off; \
    set local search_path = ''";

/// How old entries go: those of all but the newest runs.
const PRUNE: &str = "\
    delete from pgdrain.saved_object where run_id not in ( \
        select run_id from pgdrain.run order by started_at desc limit $1)";

const WRITE: &str = "\
    insert into pgdrain.saved_object (run_id, place, kind, name, relation, statements) \
    select $1::text::uuid, place, o->>'kind', o->>'name', o->>'relation', \
           array(select s from jsonb_array_elements_text(o->'statements') \
                        with ordinality e (s, n) order by n) \
    from jsonb_array_elements($2::jsonb) with ordinality all_of (o, place)";

/// What came of saving.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::runner) enum Saving {
    /// So many objects are saved.
    Saved(usize),
    /// They are too many, and nobody had asked for all of them; how many, in a sentence.
    TooMany(String),
}

/// Saves what a plan touches.
pub(in crate::runner) struct Saver<'a> {
    pub(in crate::runner) connector: &'a Arc<Connector>,
    pub(in crate::runner) database: &'a str,
    pub(in crate::runner) owner: Option<&'a str>,
    pub(in crate::runner) plan: &'a Plan,
    pub(in crate::runner) how: SaveObjects,
}

impl Saver<'_> {
    /// Reads the objects on a session of its own and writes them with the ledger, all of them or
    /// none.
    ///
    /// # Errors
    /// When the catalogs cannot be read in time, or the history cannot be written.
    pub(in crate::runner) async fn save(
        &self,
        ledger: &Ledger,
        run: &str,
    ) -> Result<Saving, SavedError> {
        let reader = Reader::open(self.connector, self.database, self.owner).await?;
        let read = self.read(&reader).await;
        reader.close().await;
        let objects = read.map_err(SavedError::server(
            "the definitions of views, policies and grants cannot be read",
        ))?;
        let statements = objects.iter().flat_map(|it| &it.statements);
        let bytes: usize = statements.map(String::len).sum();
        if objects.len() > OBJECTS_MAX || bytes > BYTES_MAX {
            let text = format!(
                "{} objects ({} MiB of definitions) are too many to be saved",
                objects.len(),
                bytes >> 20
            );
            return match self.how {
                SaveObjects::All => Err(SavedError::Different(text)),
                SaveObjects::Touched | SaveObjects::None => Ok(Saving::TooMany(text)),
            };
        }
        write(ledger, run, &objects).await?;
        Ok(Saving::Saved(objects.len()))
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "it names the few kinds of acts that it is about"
    )]
    async fn read(&self, reader: &Reader) -> Result<Vec<SavedObject>, tokio_postgres::Error> {
        let client = reader.client();
        let acts = self.plan.steps.iter().flat_map(|step| {
            let statements = step.script.statements().iter();
            statements.flat_map(|it| acts_of(step.script.sql(it)))
        });
        let mut functions = Vec::new();
        let mut whole = self.how == SaveObjects::All;
        for act in acts {
            match act.kind {
                Kind::Drop(it) if it.what == ObjectKind::Function => functions.push(it.name.name),
                // Nobody can tell what these touch.
                Kind::Unknown(_) | Kind::Dynamic => whole = true,
                Kind::Drop(it)
                    if matches!(
                        it.what,
                        ObjectKind::Schema | ObjectKind::Owned | ObjectKind::Extension
                    ) =>
                {
                    whole = true;
                }
                _ => {}
            }
        }
        let touched: Vec<u32> = match whole {
            true => Vec::new(),
            false => {
                let catalog = reader.catalog(&plan::wanted(self.plan)).await?;
                catalog.relations.keys().copied().collect()
            }
        };
        client.batch_execute(BEGIN).await?;
        let scope = match whole {
            true => Scope::default(),
            false => Scope::around(client, &touched, functions).await?,
        };
        read(client, &scope).await
    }
}

async fn write(ledger: &Ledger, run: &str, objects: &[SavedObject]) -> Result<(), SavedError> {
    let client = &ledger.session().client;
    let what = "the definitions of views, policies and grants cannot be saved";
    let pruned = client.execute(PRUNE, &[&RUNS_MAX]).await;
    pruned.map_err(SavedError::server(what))?;
    let all = Json(json!(objects));
    let parameters: [&(dyn ToSql + Sync); 2] = [&run, &all];
    let written = client.execute(WRITE, &parameters).await;
    written.map_err(SavedError::server(what))?;
    Ok(())
}

/// What was saved before a run, in the order in which it can be made.
///
/// # Errors
/// When nothing was.
pub(super) async fn saved(client: &Client, run: &str) -> Result<Vec<SavedObject>, SavedError> {
    let none = || SavedError::NotFound(format!("nothing was saved before run {run}"));
    let sql = "select to_regclass('pgdrain.saved_object') is not null";
    let what = "what was saved cannot be read";
    let there = client.query_one(sql, &[]).await;
    if !there.map_err(SavedError::server(what))?.get::<_, bool>(0) {
        return Err(none());
    }
    let sql = "select kind, name, relation, statements from pgdrain.saved_object \
               where run_id::text = $1 order by place";
    let rows = client.query(sql, &[&run]).await;
    let mut objects = Vec::new();
    for row in rows.map_err(SavedError::server(what))? {
        let word: &str = row.get(0);
        let Some(kind) = SavedKind::parse(word) else {
            let text = format!("a saved {word} is of a newer version of pgdrain");
            return Err(SavedError::Different(text));
        };
        objects.push(SavedObject {
            kind,
            name: row.get(1),
            relation: row.get(2),
            statements: row.get(3),
        });
    }
    match objects.is_empty() {
        true => Err(none()),
        false => Ok(objects),
    }
}

/// How long whoever puts objects back waits for the end of a migration.
pub(super) const LOCK_WAIT: Duration = Duration::from_secs(2);
