//! Do the roles exist that files name by `-- pgdrain:owner`, and may we become them?

use std::collections::BTreeMap;

use super::Check;
use super::ground::{Ground, Work};
use super::privileges::membership;

const NAME: &str = "owners";

pub(super) async fn check(
    ground: &Ground<'_>,
    work: &Work<'_>,
) -> Result<Check, tokio_postgres::Error> {
    let mut named = BTreeMap::new();
    for step in &work.plan.steps {
        if let Some(owner) = step.script.directives().owner.as_deref() {
            named.entry(owner).or_insert(step.file.as_str());
        }
    }
    if named.is_empty() {
        return Ok(Check::does_not_apply(NAME, "no file names a role"));
    }
    let mut wrong = Vec::new();
    for (owner, file) in &named {
        match membership(ground.session, owner).await? {
            None => wrong.push(format!("{file}: role {owner:?} does not exist")),
            Some(false) => wrong.push(format!("{file}: we may not SET ROLE to {owner:?}")),
            Some(true) => {}
        }
    }
    let well = format!("{} roles are there, and we may become them", named.len());
    Ok(Check::of(NAME, wrong, well)
        .hint("create the role, or grant it to the one that runs migrations"))
}
