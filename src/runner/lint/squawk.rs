//! Squawk's linter, as far as its rules are about locks and safety: an allow-list. Its ignore
//! comments are read by `suppress`, which asks for a reason.

use squawk_linter::{Linter, Rule};
use squawk_syntax::SourceFile;

use super::{File, Hit};
use crate::runner::catalog::Found;
use crate::runner::shape::is_readable;

/// The rules that are run, each with a line in the table of `rules`.
const ALLOWED: [Rule; 20] = [
    Rule::RequireConcurrentIndexCreation,
    Rule::RequireConcurrentIndexDeletion,
    Rule::RequireConcurrentPartitionDetach,
    Rule::ConstraintMissingNotValid,
    Rule::DisallowedUniqueConstraint,
    Rule::AddingSerialPrimaryKeyField,
    Rule::RenamingColumn,
    Rule::RenamingTable,
    Rule::BanSetSchema,
    Rule::BanDropDatabase,
    Rule::BanDropFunction,
    Rule::BanDropType,
    Rule::BanDropSequence,
    Rule::BanDropTrigger,
    Rule::BanAlterDomainWithAddConstraint,
    Rule::BanReplicaIdentity,
    Rule::BanRevoke,
    Rule::BanDuplicateColumnAssignments,
    Rule::IdentifierTooLong,
    Rule::AddingForeignKeyConstraint,
];

/// Runs them over a file.
pub(super) fn check(file: &File<'_>) -> Vec<Hit> {
    let text = readable(file);
    // A new one for each file: it changes its own settings.
    let mut linter = Linter::from(ALLOWED);
    linter.settings.assume_in_transaction = true;
    let violations = linter.lint(&SourceFile::parse(&text), &text);
    let mut hits = Vec::new();
    for violation in violations {
        let id = violation.code.to_string();
        // Without NOT VALID it says the same as the rule that is about NOT VALID.
        let id = match violation.code {
            Rule::AddingForeignKeyConstraint => "constraint-missing-not-valid",
            _ => id.as_str(),
        };
        let at = usize::from(violation.text_range.start());
        let Some(rule) = super::rule(id) else {
            continue;
        };
        if is_on_new(file, at) {
            continue;
        }
        let message = violation.message.trim_end_matches('.').to_owned();
        hits.push(Hit::new(rule.id, at, message));
    }
    hits
}

/// The text, with blanks for statements that its parser could not bear, and with its ignore
/// comments made mute: they are read elsewhere.
fn readable(file: &File<'_>) -> String {
    let mut text = file.step.script.text().to_owned();
    for studied in file.statements {
        if !is_readable(studied.sql) {
            let range = studied.statement.range.clone();
            let blank = " ".repeat(range.len());
            text.replace_range(range, &blank);
        }
    }
    text.replace("squawk-ignore", "squawk-1gnore")
        .replace("squawk-disable", "squawk-d1sable")
}

/// Whether the statement there is about relations alone that the plan itself has made.
fn is_on_new(file: &File<'_>, at: usize) -> bool {
    let statement = file
        .statements
        .iter()
        .rfind(|it| it.statement.range.start <= at);
    statement.is_some_and(|studied| {
        let mut on = studied
            .acts
            .iter()
            .filter_map(|act| act.on.as_ref())
            .peekable();
        on.peek().is_some() && on.all(|name| studied.world.look(name) == Found::New)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_that_is_run_has_its_line_in_the_table() {
        for rule in ALLOWED {
            let id = rule.to_string();
            let known = super::super::rule(&id).is_some();
            assert!(known || rule == Rule::AddingForeignKeyConstraint, "{id}");
        }
    }
}
