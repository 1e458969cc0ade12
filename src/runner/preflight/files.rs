//! Can every file that will run be cut into statements that may run?

use super::{Check, Problem};

pub(super) fn check(problems: &[Problem]) -> Check {
    let wrong = problems
        .iter()
        .filter(|it| is_mine(it))
        .map(ToString::to_string)
        .collect();
    Check::of("files", wrong, "every file to run can be run").hint("correct the files")
}

/// Whether a file itself is at fault.
pub(super) fn concern(problems: &[Problem]) -> bool {
    problems.iter().any(is_mine)
}

fn is_mine(problem: &Problem) -> bool {
    match problem {
        Problem::Script { .. } | Problem::NoWayBack(_) | Problem::Traffic { .. } => true,
        Problem::Changed { .. }
        | Problem::Missing(..)
        | Problem::Dirty(_)
        | Problem::OutOfOrder { .. }
        | Problem::NoDown(..)
        | Problem::Tool(_) => false,
    }
}
