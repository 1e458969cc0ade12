//! Plans before and after, held against each other by their shapes. Pure.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Explained;

/// What the server says where it could not look in time, which says nothing about the statement: a lock
/// that was held, a statement that was ended, a lack of memory or disk. The classes of SQLSTATEs.
const NOT_NOW: [&str; 6] = ["55P03", "57014", "40P01", "53", "57P", "58"];

/// Statements as they were planned before and after.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PlanComparison {
    /// Those that could be planned before.
    pub statements: Vec<PlanCompared>,
    /// Those that could not, and so are not compared.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<LeftOut>,
}

/// One statement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlanCompared {
    /// Its text, cut.
    pub text: String,
    /// What has become of its plan.
    pub change: PlanChange,
    /// The plan's nodes before, what they read and by which index.
    pub before: Vec<String>,
    /// The same after; empty if it is the same, or there is none.
    pub after: Vec<String>,
    /// What the planner thought it costs.
    pub cost_before: Option<f64>,
    /// The same after.
    pub cost_after: Option<f64>,
    /// Why there is no plan after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// What has become of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PlanChange {
    /// The same nodes over the same relations and indexes.
    Same,
    /// Others.
    Changed,
    /// The statement can no longer be planned.
    Lost,
    /// It could not be asked for in time.
    Unknown,
}

/// A statement that is not compared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// Its text, cut.
    pub text: String,
    /// Why.
    pub why: String,
}

impl PlanComparison {
    /// Of the same statements at two moments, in the same order.
    pub(in crate::runner) fn new(before: &[Explained], after: &[Explained]) -> Self {
        let mut comparison = Self::default();
        for (old, new) in before.iter().zip(after) {
            match &old.error {
                Some(why) => comparison.left_out.push(LeftOut {
                    text: old.headline(),
                    why: why.clone(),
                }),
                None => comparison.statements.push(one(old, new)),
            }
        }
        comparison
    }

    /// Those of which something is to be said.
    pub(in crate::runner) fn notable(&self) -> impl Iterator<Item = &PlanCompared> {
        self.statements.iter().filter(|it| match it.change {
            PlanChange::Same => false,
            PlanChange::Changed | PlanChange::Lost | PlanChange::Unknown => true,
        })
    }

    /// Statements that can no longer be planned, and why.
    pub(in crate::runner) fn lost(&self) -> Vec<String> {
        let lost = self.statements.iter();
        let lost = lost.filter(|it| it.change == PlanChange::Lost);
        lost.map(|it| format!("{}: {}", it.text, it.error.as_deref().unwrap_or("no plan")))
            .collect()
    }
}

fn one(old: &Explained, new: &Explained) -> PlanCompared {
    let not_now = |state: &String| NOT_NOW.iter().any(|it| state.starts_with(it));
    let change = match (&new.error, &new.sqlstate) {
        (None, _) if old.plan == new.plan => PlanChange::Same,
        (None, _) => PlanChange::Changed,
        (Some(_), Some(state)) if !not_now(state) => PlanChange::Lost,
        (Some(_), _) => PlanChange::Unknown,
    };
    PlanCompared {
        text: old.headline(),
        change,
        before: old.plan.clone(),
        after: match change {
            PlanChange::Changed => new.plan.clone(),
            PlanChange::Same | PlanChange::Lost | PlanChange::Unknown => Vec::new(),
        },
        cost_before: old.cost,
        cost_after: new.cost,
        error: new.error.clone(),
    }
}

impl fmt::Display for PlanComparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = |change| self.statements.iter().filter(move |it| it.change == change);
        write!(
            f,
            "plans of {} statements: {} changed",
            self.statements.len(),
            of(PlanChange::Changed).count()
        )?;
        for (what, many) in [
            ("can no longer be planned", of(PlanChange::Lost).count()),
            ("are not known", of(PlanChange::Unknown).count()),
            ("could not be compared", self.left_out.len()),
        ] {
            if many > 0 {
                write!(f, ", {many} {what}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(text: &str, node: &str) -> Explained {
        Explained {
            text: text.to_owned(),
            plan: vec![node.to_owned()],
            cost: Some(8.0),
            ..Explained::default()
        }
    }

    fn failed(text: &str, sqlstate: &str) -> Explained {
        Explained {
            text: text.to_owned(),
            error: Some("why".to_owned()),
            sqlstate: Some(sqlstate.to_owned()),
            ..Explained::default()
        }
    }

    #[test]
    fn each_statement_is_held_against_itself() {
        let seq = "Seq Scan on public.t";
        let index = "Index Scan on public.t using i";
        let before = [
            planned("a", seq),
            planned("b", index),
            planned("c", seq),
            planned("d", seq),
            failed("e", "42P01"),
        ];
        let after = [
            planned("a", seq),
            planned("b", seq),
            failed("c", "42703"),
            failed("d", "55P03"),
            planned("e", seq),
        ];
        let found = PlanComparison::new(&before, &after);
        let changes: Vec<_> = found.statements.iter().map(|it| it.change).collect();
        assert_eq!(
            changes,
            [
                PlanChange::Same,
                PlanChange::Changed,
                PlanChange::Lost,
                PlanChange::Unknown
            ]
        );
        assert_eq!(found.lost(), ["c: why"]);
        assert_eq!(found.notable().count(), 3);
        assert_eq!(found.left_out[0].text, "e");
        assert_eq!(found.statements[1].after, [seq]);
        assert_eq!(
            found.to_string(),
            "plans of 4 statements: 1 changed, 1 can no longer be planned, 1 are not known, 1 could not be \
             compared"
        );
    }
}
