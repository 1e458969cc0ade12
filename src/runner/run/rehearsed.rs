//! Whether a run has led to the schema that a rehearsal of the same files led to.

use tokio_postgres::types::Json;

use super::{End, Findings, Job};
use crate::runner::drift::shape;
use crate::runner::history::Ledger;
use crate::runner::rehearse::{Course, Shapes};
use crate::runner::report::{FileOutcome, FileReport, chain};
use crate::runner::traffic::Traffic;
use crate::runner::types::{Direction, RunState};

/// So many rehearsals are looked at, the last first.
const LOOK: i64 = 20;

impl<T: Traffic> Job<T> {
    /// Says so, or that it has not. A rehearsal counts that began with the schema that this run began with, and ran
    /// its files; owners and grants are left out, which are in a copy only if our role is a superuser.
    pub(super) async fn hold_against_rehearsal(
        &self,
        ledger: &Ledger,
        (state, _): End,
        findings: &Findings,
    ) {
        let schemas = &findings.schemas;
        let (Some(before), Some(now)) = (&schemas.before, &schemas.now) else {
            return;
        };
        if state != RunState::Succeeded || self.request.direction != Direction::Up {
            return;
        }
        let found = rehearsals(ledger).await;
        let found = match found {
            Ok(found) => found,
            Err(error) => {
                let why = chain(&error);
                return self
                    .run
                    .note(format!("rehearsals cannot be looked at: {why}"));
            }
        };
        let before = shape(&before.lines);
        let same = |(_, shapes, files): &&(String, Shapes, Vec<String>)| {
            shapes.before == before && *files == names(&findings.files)
        };
        let Some((rehearsal, shapes, _)) = found.iter().find(same) else {
            return;
        };
        self.run.note(match shapes.after == shape(&now.lines) {
            true => format!("the schema is the one that rehearsal {rehearsal} led to"),
            false => format!(
                "the schema is another one than rehearsal {rehearsal} led to: the files were others then, or do \
                 not do the same again"
            ),
        });
    }
}

fn names(files: &[FileReport]) -> Vec<String> {
    let done = files.iter().filter(|it| it.outcome == FileOutcome::Applied);
    done.map(|it| it.file.clone()).collect()
}

/// Rehearsals with the rows or the schema of the database: which, how the schema was, and the files.
async fn rehearsals(
    ledger: &Ledger,
) -> Result<Vec<(String, Shapes, Vec<String>)>, tokio_postgres::Error> {
    let client = &ledger.session().client;
    let there = "select to_regclass('pgdrain.rehearsal') is not null";
    if !client.query_one(there, &[]).await?.get::<_, bool>(0) {
        return Ok(Vec::new());
    }
    let sql = "select rehearsal_id::text, report -> 'courses' from pgdrain.rehearsal \
               order by started_at desc limit $1";
    let mut found = Vec::new();
    for row in client.query(sql, &[&LOOK]).await? {
        // Those of a version that wrote others are no rehearsals to compare with.
        let Ok(Json(courses)) = row.try_get::<_, Json<Vec<Course>>>(1) else {
            continue;
        };
        let whole = courses.into_iter().find(|it| it.scale.is_none());
        if let Some((course, shapes)) = whole.and_then(|it| it.shapes.clone().map(|s| (it, s))) {
            let files: Vec<_> = course.up.files.into_iter().map(|it| it.file).collect();
            found.push((row.get(0), shapes, names(&files)));
        }
    }
    Ok(found)
}
