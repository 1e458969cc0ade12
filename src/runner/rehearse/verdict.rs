//! Which limits a rehearsal went over: pure.

use std::time::Duration;

use super::types::{Course, Limits};
use crate::config::HumanDuration;

/// What took longer than it may, a sentence each.
pub(super) fn over(course: &Course, limits: &Limits) -> Vec<String> {
    let rows = course
        .scale
        .map(|it| format!("with {it} rows, "))
        .unwrap_or_default();
    let mut all = Vec::new();
    let mut compare = |what: String, took: u64, limit: HumanDuration| {
        if Duration::from_millis(took) > limit.0 {
            all.push(format!("{rows}{what} took {took} ms, the limit is {limit}"));
        }
    };
    for it in &course.up.files {
        compare(it.file.file.clone(), it.file.elapsed_ms, limits.migration);
        let indexes = it.trace.iter().filter(|it| is_index(&it.text));
        for statement in indexes {
            let what = format!("the index of {} line {}", it.file.file, statement.line);
            compare(what, statement.elapsed_ms, limits.index);
        }
    }
    if let Some(down) = &course.down {
        compare("the way down".to_owned(), down.elapsed_ms, limits.rollback);
    }
    all
}

/// By the first words of the statement.
fn is_index(words: &str) -> bool {
    ["CREATE INDEX", "CREATE UNIQUE INDEX"]
        .iter()
        .any(|it| words.starts_with(it))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runner::rehearse::{Leg, RehearsedFile, StatementTrace};
    use crate::runner::report::{FileOutcome, FileReport};
    use crate::runner::script::TxMode;
    use crate::runner::source::Version;
    use crate::runner::types::StepTraffic;

    fn file(took: u64, index: u64) -> RehearsedFile {
        RehearsedFile {
            file: FileReport {
                version: Version::number(1),
                file: "1_a.up.sql".to_owned(),
                mode: TxMode::File,
                traffic: StepTraffic::Open,
                outcome: FileOutcome::Applied,
                statements: 1,
                elapsed_ms: took,
                batches: None,
                watch: None,
            },
            trace: vec![StatementTrace {
                number: 1,
                line: 3,
                text: "CREATE UNIQUE INDEX".to_owned(),
                sha256: String::new(),
                elapsed_ms: index,
                locks: Vec::new(),
                sampled: false,
                rewritten: Vec::new(),
            }],
        }
    }

    #[test]
    fn what_takes_longer_than_document_3_allows_is_named() {
        let course = |took, index, down| Course {
            scale: Some(1000),
            up: Leg {
                files: vec![file(took, index)],
                ..Leg::default()
            },
            down: Some(Leg {
                elapsed_ms: down,
                ..Leg::default()
            }),
            ..Course::default()
        };
        let limits = Limits::default();
        assert!(over(&course(30_000, 10_000, 20_000), &limits).is_empty());
        assert_eq!(
            over(&course(30_001, 10_001, 20_001), &limits),
            [
                "with 1000 rows, 1_a.up.sql took 30001 ms, the limit is 30s",
                "with 1000 rows, the index of 1_a.up.sql line 3 took 10001 ms, the limit is 10s",
                "with 1000 rows, the way down took 20001 ms, the limit is 20s",
            ]
        );
    }
}
