//! What putting saved objects back comes to, given what is there now.

use std::collections::BTreeMap;

use super::{SavedKind, SavedObject};

/// What is to be done, if nothing stands in the way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Comparison {
    /// How many objects are as they had been saved.
    pub(super) unchanged: usize,
    /// What is to be put back, in order.
    pub(super) todo: Vec<SavedObject>,
    /// What is in the way.
    pub(super) refused: Vec<String>,
}

/// Holds what was saved against what is there. `there` names the relations that exist, of those that
/// saved objects belong to.
///
/// What is missing is made. A state (grants, row security) that is another is set. A thing of that
/// name that is another is in the way: it may be somebody's, or the new version of it.
pub(super) fn compare(
    saved: &[SavedObject],
    present: &[SavedObject],
    there: &[String],
) -> Comparison {
    let present: BTreeMap<_, _> = present.iter().map(|it| ((it.kind, &it.name), it)).collect();
    let mut comparison = Comparison::default();
    for object in saved {
        match present.get(&(object.kind, &object.name)) {
            Some(other) if other.statements == object.statements => comparison.unchanged += 1,
            Some(_) if object.kind.is_state() => comparison.todo.push(object.clone()),
            Some(other) => comparison.refused.push(different(object, other)),
            None => match missing(object, &comparison.todo, there) {
                None => comparison.todo.push(object.clone()),
                Some(why) => comparison.refused.push(format!("{object}: {why}")),
            },
        }
    }
    comparison
}

/// Why something that is not there cannot be made.
fn missing(object: &SavedObject, todo: &[SavedObject], there: &[String]) -> Option<String> {
    let is_there = |name: &String| there.contains(name);
    match (object.kind, &object.relation) {
        (SavedKind::View | SavedKind::MaterializedView, _) => is_there(&object.name)
            .then(|| "another relation has its name: rename or drop that one first".to_owned()),
        (_, Some(relation)) => {
            let made = todo.iter().any(|it| it.name == *relation);
            (!made && !is_there(relation)).then(|| format!("{relation} is not there"))
        }
        (_, None) => Some("it is not there".to_owned()),
    }
}

/// Where two objects of one name part.
fn different(saved: &SavedObject, other: &SavedObject) -> String {
    let lacks = |of: &SavedObject, from: &SavedObject| {
        let lacking = of
            .statements
            .iter()
            .find(|it| !from.statements.contains(it));
        lacking.map_or_else(|| "nothing more".to_owned(), |it| one_line(it))
    };
    format!(
        "{saved}: another one is in its place. Saved: {}. There: {}. Drop or rename it first, or name \
         what else to put back",
        lacks(saved, other),
        lacks(other, saved)
    )
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(kind: SavedKind, name: &str, relation: &str, statement: &str) -> SavedObject {
        SavedObject {
            kind,
            name: name.to_owned(),
            relation: (!relation.is_empty()).then(|| relation.to_owned()),
            statements: vec![statement.to_owned()],
        }
    }

    #[test]
    fn what_is_missing_is_made_and_what_differs_is_in_the_way() {
        let view = object(SavedKind::View, "a.v", "a.v", "create view");
        let rule = object(SavedKind::Rule, "a.v.r", "a.v", "create rule");
        let policy = object(SavedKind::Policy, "a.t.p", "a.t", "create policy");
        let grants = object(SavedKind::Grants, "a.t", "a.t", "grant");
        let saved = [view.clone(), rule.clone(), policy.clone(), grants.clone()];
        let there = ["a.t".to_owned()];

        let empty = compare(&saved, &[], &there);
        assert_eq!((empty.todo.len(), empty.refused.len()), (4, 0));
        let same = compare(&saved, &saved, &there);
        assert_eq!((same.unchanged, same.todo.len()), (4, 0));

        let mut policy_now = policy.clone();
        policy_now.statements = vec!["create\n  another policy".to_owned()];
        let mut grants_now = grants.clone();
        grants_now.statements = Vec::new();
        let now = [policy_now, grants_now];
        let found = compare(&saved, &now, &there);
        assert_eq!(found.todo, [view.clone(), rule.clone(), grants.clone()]);
        assert_eq!(found.refused.len(), 1);
        let expected = "Saved: create policy. There: create another policy.";
        assert!(found.refused[0].contains(expected), "{found:?}");

        // Without their table, and with a table in the view's place.
        let found = compare(&saved, &[], &["a.v".to_owned()]);
        assert_eq!(found.todo, [rule]);
        assert_eq!(
            found.refused,
            [
                "view/a.v: another relation has its name: rename or drop that one first",
                "policy/a.t.p: a.t is not there",
                "grants/a.t: a.t is not there",
            ]
        );
    }
}
