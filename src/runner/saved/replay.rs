//! Puts saved objects back, in one transaction that is looked at before it is committed.

use tokio::time::Instant;
use tokio_postgres::Client;

use super::compare::{Comparison, compare};
use super::keep::{LOCK_WAIT, saved};
use super::read::{Scope, read};
use super::{ReplayRequest, Replayed, SavedError, SavedObject};
use crate::runner::connect::Session;
use crate::runner::history::Ledger;

/// Whole names, short waits for others; what makes views on rows that they compute may take long.
const BEGIN: &str = "\
    set idle_session_timeout = 0; \
    set default_transaction_read_only = off; \
    begin isolation level read committed; \
    set local lock_timeout = '5s'; \
    set local statement_timeout = '30min'; \
    set local quote_all_identifiers = off; \
    set local standard_conforming_strings = on; \
    set local check_function_bodies = off; \
    set local search_path = ''";

/// Puts back what was saved before a run. The ledger's session takes the lock of migrations, `session`
/// does the work.
///
/// # Errors
/// When there is nothing to put back, a migration runs, or the server refuses. Then nothing of it was
/// done. What stands in the way is part of the answer.
pub(super) async fn replay(
    ledger: &Ledger,
    session: &Session,
    request: &ReplayRequest,
) -> Result<Replayed, SavedError> {
    if !request.dry_run {
        let locked = ledger.lock(Instant::now() + LOCK_WAIT, None).await;
        locked.map_err(crate::runner::history::LedgerError::from)?;
    }
    let all = saved(&ledger.session().client, &request.run).await?;
    let wanted = chosen(all, &request.objects)?;
    let client = &session.client;
    let begun = client.batch_execute(BEGIN).await;
    begun.map_err(SavedError::server("no transaction"))?;
    let Comparison {
        unchanged,
        todo,
        refused,
    } = held_against(client, &wanted).await?;
    let answer = Replayed {
        run: request.run.clone(),
        dry_run: request.dry_run,
        done: refused.is_empty(),
        unchanged,
        replayed: todo,
        refused,
    };
    if !answer.done {
        return Ok(Replayed {
            replayed: Vec::new(),
            ..answer
        });
    }
    if request.dry_run || answer.replayed.is_empty() {
        return Ok(answer);
    }
    for object in &answer.replayed {
        for statement in &object.statements {
            let done = client.batch_execute(statement).await;
            done.map_err(SavedError::server(format!(
                "{object}, nothing was put back"
            )))?;
        }
    }
    // Triggers of the database may have had a hand in it, and the old text may mean something else now.
    let after = held_against(client, &wanted).await?;
    if after.unchanged != wanted.len() {
        let names = after.todo.iter().map(ToString::to_string);
        let names: Vec<_> = names.chain(after.refused).collect();
        return Err(SavedError::Different(format!(
            "nothing was put back: what was made is not what was saved: {}",
            names.join("; ")
        )));
    }
    let committed = client.batch_execute("commit").await;
    committed.map_err(SavedError::server(
        "whether it was put back is not known (a dry run shows it)",
    ))?;
    Ok(answer)
}

async fn held_against(client: &Client, wanted: &[SavedObject]) -> Result<Comparison, SavedError> {
    let looked = async {
        let scope = Scope::of(client, wanted).await?;
        let present = read(client, &scope).await?;
        let names: Vec<_> = wanted.iter().filter_map(|it| it.relation.clone()).collect();
        let sql = "select name from unnest($1::text[]) name where to_regclass(name) is not null";
        let there = client.query(sql, &[&names]).await?;
        let there: Vec<String> = there.iter().map(|row| row.get(0)).collect();
        Ok(compare(wanted, &present, &there))
    };
    let looked: Result<_, tokio_postgres::Error> = looked.await;
    looked.map_err(SavedError::server("what is there cannot be read"))
}

/// The objects that are named, all of them if none is.
fn chosen(all: Vec<SavedObject>, names: &[String]) -> Result<Vec<SavedObject>, SavedError> {
    if names.is_empty() {
        return Ok(all);
    }
    let unknown: Vec<_> = names
        .iter()
        .filter(|name| !all.iter().any(|it| it.to_string() == **name))
        .map(String::as_str)
        .collect();
    if !unknown.is_empty() {
        let text = format!("not saved before that run: {}", unknown.join(", "));
        return Err(SavedError::NotFound(text));
    }
    let chosen = all.into_iter();
    Ok(chosen
        .filter(|it| names.contains(&it.to_string()))
        .collect())
}
