//! Did every earlier migration come to a known end?

use super::{Check, Problem};

pub(super) fn check(problems: &[Problem]) -> Check {
    let mine = |problem: &&Problem| match problem {
        Problem::Dirty(_) => true,
        Problem::Script { .. }
        | Problem::Changed { .. }
        | Problem::Missing(..)
        | Problem::OutOfOrder { .. }
        | Problem::NoDown(..)
        | Problem::NoWayBack(_)
        | Problem::Traffic { .. }
        | Problem::Tool(_) => false,
    };
    let wrong = problems
        .iter()
        .filter(mine)
        .map(ToString::to_string)
        .collect();
    Check::of("dirty", wrong, "no earlier migration stopped part-way")
        .hint("`pgdrain migrate repair` looks at what it left, and says how to go on")
}
