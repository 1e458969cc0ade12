//! The part of `[migrate.preflight]` that says what has to be there: tables, relations, a staging, a backup,
//! commands; and the part of validation that is about it.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;

use super::quantity::{DurationOrNever, HumanDuration};
use super::secret::Secret;
use super::validate::Check;

/// What has to be there before a migration. Nothing of it is asked for by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Demands {
    /// Tables and columns, as SQL writes their names.
    pub required: Vec<String>,
    /// Relations between tables that have no foreign key.
    pub relations: Vec<Reference>,
    /// Whether `pg_stat_statements` and a log of slow statements are asked for.
    pub monitoring: bool,
    /// Where it was rehearsed: a URL, or the version of the server there.
    pub staging: Option<Secret>,
    /// How old the newest verified backup may be, unless the run makes one.
    pub backup_age: Option<Duration>,
    /// Commands that are checks.
    pub commands: Vec<CheckCommand>,
}

/// A relation between tables, `child(columns) -> parent(columns)`; names as SQL writes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The table whose rows refer to others.
    pub child: String,
    /// By these columns.
    pub columns: Vec<String>,
    /// The table that they refer to.
    pub parent: String,
    /// And these of its columns.
    pub keys: Vec<String>,
}

impl Reference {
    fn parse(text: &str) -> Option<Self> {
        let (child, parent) = text.split_once("->")?;
        let (child, columns) = side(child)?;
        let (parent, keys) = side(parent)?;
        (columns.len() == keys.len()).then_some(Self {
            child,
            columns,
            parent,
            keys,
        })
    }
}

/// `table(a, b)`.
fn side(text: &str) -> Option<(String, Vec<String>)> {
    let (table, columns) = text.trim().strip_suffix(')')?.split_once('(')?;
    let columns = columns.split(',').map(|it| it.trim().to_owned());
    let columns: Vec<_> = columns.collect();
    let table = table.trim().to_owned();
    // Names, and nothing that would be more of a query than that.
    let is_name = |it: &str| !it.is_empty() && !it.contains([';', '(', ')', '\'']);
    (is_name(&table) && columns.iter().all(|it| is_name(it))).then_some((table, columns))
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (columns, keys) = (self.columns.join(", "), self.keys.join(", "));
        write!(f, "{}({columns}) -> {}({keys})", self.child, self.parent)
    }
}

/// A command that is a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckCommand {
    /// What it is called.
    pub name: String,
    /// What the shell is given.
    pub command: String,
    /// How long it may take.
    pub timeout: Duration,
}

/// The same as it is written.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawCheckCommand {
    name: Option<String>,
    command: String,
    timeout: Option<HumanDuration>,
}

/// How long such a command may take if it does not say.
const TIMEOUT: Duration = Duration::from_secs(60);

/// What is written of it.
pub(super) struct RawDemands {
    pub(super) required: Option<Vec<String>>,
    pub(super) relations: Option<Vec<String>>,
    pub(super) monitoring: Option<bool>,
    pub(super) staging: Option<Secret>,
    pub(super) backup_age: Option<DurationOrNever>,
    pub(super) commands: Option<Vec<RawCheckCommand>>,
}

impl Check<'_> {
    pub(super) fn demands(&mut self, raw: RawDemands) -> Demands {
        let mut relations = Vec::new();
        for text in raw.relations.unwrap_or_default() {
            match Reference::parse(&text) {
                Some(relation) => relations.push(relation),
                None => self.wrong(
                    "migrate.preflight.relations",
                    &format!("\"{text}\" is not of the form child(column) -> parent(column)"),
                ),
            }
        }
        let mut commands = Vec::new();
        for (index, raw) in raw.commands.unwrap_or_default().into_iter().enumerate() {
            let key = format!("migrate.preflight.commands.{index}");
            self.not_empty(&format!("{key}.command"), Some(&raw.command));
            commands.push(CheckCommand {
                timeout: self.time(&format!("{key}.timeout"), raw.timeout, TIMEOUT),
                name: raw.name.unwrap_or_else(|| format!("command {}", index + 1)),
                command: raw.command,
            });
        }
        Demands {
            required: raw.required.unwrap_or_default(),
            relations,
            monitoring: raw.monitoring.unwrap_or_default(),
            staging: raw.staging,
            backup_age: raw.backup_age.and_then(|DurationOrNever(it)| it),
            commands,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relations_are_read_and_nothing_but_names_is_taken() {
        let text = "public.item(order_id, line) -> \"Order\"(id, line)";
        let relation = Reference::parse(text).expect("a relation");
        assert_eq!(relation.to_string(), text);
        for wrong in [
            "item -> orders",
            "item(a) -> orders(a, b)",
            "item() -> orders(id)",
            "item(a) -> orders(id); drop table x(a)",
        ] {
            assert_eq!(Reference::parse(wrong), None, "{wrong}");
        }
    }
}
