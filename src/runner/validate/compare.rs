//! Two pictures and what a file says of itself: everything that changed without a word.

use std::collections::{BTreeMap, BTreeSet};

use super::declared::Declared;
use super::picture::{Picture, Relation};
use crate::config::Validate;
use crate::runner::saved::{Grants, Privilege};
use crate::runner::shape::Name;

/// What a file changed and did not say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::runner) struct Problem {
    /// A sentence with the name of the object.
    pub(in crate::runner) text: String,
    /// The directive that would have said so.
    pub(in crate::runner) declare: String,
}

/// Privileges that mean something for a table and for a view alike.
const OF_VIEWS: [&str; 4] = ["SELECT", "INSERT", "UPDATE", "DELETE"];

/// Everything that changed and may not have.
pub(in crate::runner) fn compare(
    before: &Picture,
    after: &Picture,
    declared: &Declared,
    asked: &Validate,
) -> Vec<Problem> {
    let comparison = Comparison {
        before,
        after,
        declared,
        names: after.relations.values().map(|it| (&it.name, it)).collect(),
        problems: Vec::new(),
    };
    comparison.all(asked)
}

struct Comparison<'a> {
    before: &'a Picture,
    after: &'a Picture,
    declared: &'a Declared,
    names: BTreeMap<&'a Name, &'a Relation>,
    problems: Vec<Problem>,
}

impl<'a> Comparison<'a> {
    fn all(mut self, asked: &Validate) -> Vec<Problem> {
        for relation in self.before.relations.values() {
            if asked.views {
                self.view(relation);
                self.writes(relation);
            }
            for now in self.targets(relation) {
                if asked.grants {
                    self.owner(relation, now);
                }
                if asked.row_security {
                    self.row_security(relation, now);
                    self.policies(relation, now);
                }
            }
        }
        if asked.grants {
            self.grants();
        }
        if asked.constraints {
            self.constraints();
        }
        if asked.indexes {
            self.indexes();
        }
        self.problems
    }

    fn add(&mut self, text: String, declare: String) {
        self.problems.push(Problem { text, declare });
    }

    /// What a relation has become: what has its name now, and itself under another name.
    fn targets(&self, relation: &Relation) -> Vec<&'a Relation> {
        let by_name = self.names.get(&relation.name).copied();
        let itself = self.after.relations.get(&relation.oid);
        let other = itself.filter(|it| by_name.is_none_or(|named| named.oid != it.oid));
        by_name.into_iter().chain(other).collect()
    }

    fn view(&mut self, was: &Relation) {
        if !was.is_view() || self.declared.view(&was.name) {
            return;
        }
        let declare = format!("changes view {}", was.shown);
        let itself = self.after.relations.get(&was.oid);
        let named = self.names.get(&was.name).copied();
        match (itself, named) {
            (Some(now), _) if now.body == was.body => {}
            (Some(now), _) => {
                let text = format!("view {} is another one now", now.shown);
                self.add(text, declare);
            }
            (None, Some(now)) if now.is_view() => {
                let text = format!("view {} was made anew, which no statement says", was.shown);
                self.add(text, declare);
            }
            (None, _) => {
                let text = format!(
                    "view {} is gone, and no statement drops it by name",
                    was.shown
                );
                self.add(text, declare);
            }
        }
    }

    fn writes(&mut self, was: &Relation) {
        let Some(then) = was.writes.filter(|_| !self.declared.writes(&was.name)) else {
            return;
        };
        // Who drops a table or a view and puts nothing in its place says so.
        let Some(now) = self.names.get(&was.name) else {
            return;
        };
        let lost = then & !now.writes.unwrap_or(0);
        let verbs: Vec<_> = [(8, "INSERT"), (4, "UPDATE"), (16, "DELETE")]
            .into_iter()
            .filter(|(bit, _)| lost & bit != 0)
            .map(|(_, verb)| verb)
            .collect();
        if !verbs.is_empty() {
            let text = format!("{} no longer takes {}", was.shown, verbs.join(", "));
            self.add(text, format!("changes writes {}", was.shown));
        }
    }

    fn owner(&mut self, was: &Relation, now: &Relation) {
        let table = was.part_of.and_then(|it| self.before.relations.get(&it));
        let said = self.declared.owner(&was.name)
            || self.declared.owner(&now.name)
            || table.is_some_and(|it| self.declared.owner(&it.name));
        if was.owner != now.owner && !said {
            let text = format!(
                "{} belongs to {}, not to {}",
                now.shown, now.owner, was.owner
            );
            self.add(text, format!("changes owner {}", now.shown));
        }
    }

    fn row_security(&mut self, was: &Relation, now: &Relation) {
        let said = self.declared.row_security(&was.name) || self.declared.row_security(&now.name);
        if !was.is_table() || said {
            return;
        }
        let declare = format!("changes row_security {}", now.shown);
        if now.is_table() {
            for (then, it_is, what) in [
                (was.row_security, now.row_security, "row security"),
                (was.forced, now.forced, "row security for its owner"),
            ] {
                if then != it_is {
                    let word = if it_is { "on" } else { "off" };
                    self.add(
                        format!("{what} of {} is {word} now", now.shown),
                        declare.clone(),
                    );
                }
            }
        } else if now.is_view() && was.row_security && !now.invoker {
            let text = format!(
                "{} was a table with row security; as a view without security_invoker it shows every \
                 row that its owner sees",
                now.shown
            );
            self.add(text, declare);
        }
    }

    fn policies(&mut self, was: &Relation, now: &Relation) {
        let said = self.declared.row_security(&was.name) || self.declared.row_security(&now.name);
        if !was.is_table() || !now.is_table() || said {
            return;
        }
        let of = |picture: &'a Picture, oid: u32| {
            let all = picture.policies.range((oid, String::new())..);
            all.take_while(move |((table, _), _)| *table == oid)
                .map(|((_, name), policy)| (name, policy))
                .collect::<BTreeMap<_, _>>()
        };
        let (then, after) = (of(self.before, was.oid), of(self.after, now.oid));
        let declare = format!("changes row_security {}", now.shown);
        for (name, policy) in &then {
            let what = match after.get(name) {
                Some(it) if it.says(policy) => continue,
                Some(_) => "is another one now",
                None => "is gone",
            };
            self.add(
                format!("policy {name:?} of {} {what}", now.shown),
                declare.clone(),
            );
        }
        for name in after.keys().filter(|it| !then.contains_key(*it)) {
            self.add(
                format!("policy {name:?} of {} is new", now.shown),
                declare.clone(),
            );
        }
    }

    fn grants(&mut self) {
        let key = |it: &'a Grants| (it.class.as_str(), it.name.as_str());
        let by_name: BTreeMap<_, _> = self.after.grants.iter().map(|it| (key(it), it)).collect();
        let by_oid: BTreeMap<_, _> = self
            .after
            .grants
            .iter()
            .map(|it| ((it.class.as_str(), it.oid), it))
            .collect();
        for was in &self.before.grants {
            let named = by_name.get(&key(was)).copied();
            let itself = by_oid.get(&(was.class.as_str(), was.oid)).copied();
            let other = itself.filter(|it| named.is_none_or(|named| named.oid != it.oid));
            for now in named.into_iter().chain(other) {
                self.grants_of(was, now);
            }
        }
    }

    fn grants_of(&mut self, was: &Grants, now: &Grants) {
        let name = |it: &Grants| Name {
            schema: Some(it.schema.clone()),
            name: it.bare.clone(),
        };
        if self.declared.grants(&name(was)) || self.declared.grants(&name(now)) {
            return;
        }
        let as_view = was.oid != now.oid && self.became_a_view(was.oid, now.oid);
        let owners = [was.owner.as_str(), now.owner.as_str()];
        let names = [name(was), name(now)];
        let held = |it: &Grants, before: bool| -> BTreeSet<String> {
            it.all
                .iter()
                .filter(|it| {
                    !it.grantee
                        .as_deref()
                        .is_some_and(|who| owners.contains(&who))
                })
                .filter(|it| !as_view || OF_VIEWS.contains(&it.privilege.as_str()))
                .filter_map(|it| self.words(it, before.then_some(&names)))
                .collect()
        };
        let (then, after) = (held(was, true), held(now, false));
        let lost: Vec<_> = then.difference(&after).map(String::as_str).collect();
        let new: Vec<_> = after.difference(&then).map(String::as_str).collect();
        let mut parts = Vec::new();
        if !lost.is_empty() {
            parts.push(format!("lost {}", lost.join(", ")));
        }
        if !new.is_empty() {
            parts.push(format!("new {}", new.join(", ")));
        }
        if !parts.is_empty() {
            let text = format!("grants on {}: {}", now.name, parts.join("; "));
            // A routine is declared by its name alone.
            let bare = now.name.split('(').next().unwrap_or_default();
            self.add(text, format!("changes grants {bare}"));
        }
    }

    fn became_a_view(&self, was: u32, now: u32) -> bool {
        let then = self.before.relations.get(&was);
        let after = self.after.relations.get(&now);
        then.is_some_and(|it| !it.is_view()) && after.is_some_and(Relation::is_view)
    }

    /// A privilege in words; of one that was there before, as it is to be now: none for those on
    /// columns that the file drops, and under the new name of a column that has one.
    fn words(&self, it: &Privilege, before: Option<&[Name; 2]>) -> Option<String> {
        let who = it.grantee.as_deref().unwrap_or("PUBLIC");
        let option = if it.grantable {
            " WITH GRANT OPTION"
        } else {
            ""
        };
        let Some(column) = &it.column else {
            return Some(format!("{} of {who}{option}", it.privilege));
        };
        let column = match before {
            Some(tables) => self.declared.column_now(tables, column)?,
            None => column.as_str(),
        };
        Some(format!("{} ({column}) of {who}{option}", it.privilege))
    }

    fn constraints(&mut self) {
        for (oid, it) in &self.after.not_valid {
            let table = Name {
                schema: Some(it.schema.clone()),
                name: it.table.clone(),
            };
            if self.before.not_valid.contains_key(oid) || self.declared.constraint(&table, &it.name)
            {
                continue;
            }
            let text = format!("constraint {:?} of {} is not valid", it.name, it.shown);
            self.add(text, format!("changes constraint {}", it.shown));
        }
    }

    fn indexes(&mut self) {
        for (oid, it) in &self.after.invalid {
            let name = |name: &str| Name {
                schema: Some(it.schema.clone()),
                name: name.to_owned(),
            };
            let said = self.declared.index(&name(&it.name), &name(&it.table));
            if self.before.invalid.contains_key(oid) || said {
                continue;
            }
            let text = format!("index {} of {} is invalid", it.shown, it.table);
            self.add(text, format!("changes index {}", it.shown));
        }
    }
}
