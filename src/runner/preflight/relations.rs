//! Are there rows that lead nowhere by a relation that has no foreign key?
//!
//! The server knows nothing of such a relation; somebody wrote it down. Reading all rows takes its time: what
//! is not done within `rows_time` is unknown.

use super::Check;
use super::ground::{Ground, Work};
use super::orphans::{Answer, Questions};
use crate::config::Reference;

const NAME: &str = "relations";

pub(super) async fn check(
    ground: &Ground<'_>,
    work: &Work<'_>,
) -> Result<Check, tokio_postgres::Error> {
    let declared = &ground.limits.demands.relations;
    if declared.is_empty() {
        return Ok(Check::does_not_apply(NAME, "none is written down"));
    }
    let mut questions = Questions::new(work.reader, ground.limits.rows_time);
    let (mut wrong, mut unknown) = (Vec::new(), Vec::new());
    for relation in declared {
        match questions.finds(&orphans(relation)).await {
            Answer::No => {}
            Answer::Yes => wrong.push(format!("{relation}: there are rows that lead nowhere")),
            Answer::NotKnown(why) => unknown.push(format!("{relation}: {why}")),
        }
    }
    questions.done().await?;
    let check = match (wrong.is_empty(), unknown.is_empty()) {
        (true, false) => {
            let text = "it was not found out whether rows lead nowhere";
            Check::not_known(NAME, text).with(unknown)
        }
        (true, true) | (false, _) => {
            let well = format!("{} relations looked at, no orphan found", declared.len());
            Check::of(NAME, wrong, well).with_notes(unknown)
        }
    };
    Ok(check.hint("mend or delete the rows; give more time by migrate.preflight.rows_time"))
}

/// A query for rows whose columns are all set and lead nowhere. Names are as the operator wrote them.
fn orphans(relation: &Reference) -> String {
    let Reference {
        child,
        columns,
        parent,
        keys,
    } = relation;
    let set: Vec<_> = columns
        .iter()
        .map(|it| format!("c.{it} is not null"))
        .collect();
    let pairs = columns.iter().zip(keys);
    let same: Vec<_> = pairs
        .map(|(column, key)| format!("p.{key} = c.{column}"))
        .collect();
    format!(
        "select from {child} c where {} and not exists (select from {parent} p where {})",
        set.join(" and "),
        same.join(" and ")
    )
}
