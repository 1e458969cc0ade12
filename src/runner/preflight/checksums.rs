//! Are the files of what is applied still what they were?

use super::{Check, Plan, Problem};

pub(super) fn check(problems: &[Problem], plan: Option<&Plan>) -> Check {
    let wrong = problems
        .iter()
        .filter(|it| is_mine(it))
        .map(ToString::to_string)
        .collect();
    let check = Check::of("checksums", wrong, "no applied file has changed")
        .hint("bring the files back as they were, and write a new one for what is new");
    match plan {
        Some(plan) => check.with(plan.notes.clone()),
        None => check,
    }
}

fn is_mine(problem: &Problem) -> bool {
    match problem {
        Problem::Changed { .. } | Problem::Missing(..) => true,
        Problem::Script { .. }
        | Problem::Dirty(_)
        | Problem::OutOfOrder { .. }
        | Problem::NoDown(..)
        | Problem::NoWayBack(_)
        | Problem::Traffic { .. }
        | Problem::Tool(_) => false,
    }
}
