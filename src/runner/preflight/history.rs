//! Does what other tools left in the database agree with the files, and can they be told?

use super::{Check, Known, Session, Subject};
use crate::runner::adopt::ToolTable;
use crate::runner::plan::Problem;

const NAME: &str = "history";

pub(super) async fn check(session: &Session, subject: &Subject<'_>, known: &mut Known) -> Check {
    let mut wrong: Vec<_> = known.problems.iter().map(Problem::to_string).collect();
    if subject.write_back {
        match &known.table {
            None => wrong.push(
                "the files' own tool cannot be told: it has no history here (let it make its table \
                 first, or name it with --history)"
                    .to_owned(),
            ),
            Some(table) => match may_write(session, table).await {
                Ok(true) => {}
                Ok(false) => wrong.push(format!("our role may not write {table}")),
                Err(error) => return Check::unknown(NAME, &error),
            },
        }
    }
    let adopted = known.rows.iter().filter(|it| it.adopted).count();
    let text = match &known.table {
        None => "no other tool keeps a history of these files".to_owned(),
        Some(table) => format!(
            "{adopted} migrations are known from {table} ({})",
            table.format
        ),
    };
    Check::of(NAME, wrong, text)
        .hint("make the two histories agree; --history and --write-back say which one is meant")
        .with_notes(known.notes.clone())
}

async fn may_write(session: &Session, table: &ToolTable) -> Result<bool, tokio_postgres::Error> {
    let sql = "select bool_and(has_table_privilege($1::text::regclass, it)) \
               from unnest(array['SELECT', 'INSERT', 'UPDATE', 'DELETE']) it";
    let row = session.client.query_one(sql, &[&table.quoted()]).await?;
    Ok(row.get(0))
}
