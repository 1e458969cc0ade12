//! What would run, and may it run in this order?

use super::{Check, Plan, Problem};

pub(super) fn check(problems: &[Problem], plan: Option<&Plan>) -> Check {
    let mine = |problem: &&Problem| match problem {
        Problem::OutOfOrder { .. } | Problem::NoDown(..) => true,
        Problem::Script { .. }
        | Problem::Changed { .. }
        | Problem::Missing(..)
        | Problem::Dirty(_)
        | Problem::NoWayBack(_)
        | Problem::Traffic { .. }
        | Problem::Tool(_) => false,
    };
    let wrong = problems
        .iter()
        .filter(mine)
        .map(ToString::to_string)
        .collect();
    let files: Vec<_> = plan
        .iter()
        .flat_map(|it| &it.steps)
        .map(|it| it.file.clone())
        .collect();
    let text = match (plan, files.len()) {
        (None, _) => "the order of the files is in order".to_owned(),
        (Some(_), 0) => "there is nothing to do".to_owned(),
        (Some(_), 1) => "one file will run".to_owned(),
        (Some(_), many) => format!("{many} files will run"),
    };
    let check = Check::of("pending", wrong, text)
        .hint("give a late file a new version; write the way back that is missing");
    if check.is_passed() {
        check.with(files)
    } else {
        check
    }
}
