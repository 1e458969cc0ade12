//! The summary of a pull request, in Markdown.

use crate::runner::lint::{LintReport, Severity};
use crate::runner::rehearse::{cell, page};
use crate::runner::report::Report;

/// How many findings of lint are listed; the report has all of them.
const FINDINGS_MAX: usize = 50;

/// What lint found, and how the rehearsal went.
pub(super) fn summary(lint: &LintReport, report: &Report, slow: Option<String>) -> String {
    let mut text = page(report);
    if let Some(slow) = slow {
        text += &format!("\n**Slow:** {slow}.\n");
    }
    text += &format!(
        "\n### Lint: {} errors, {} warnings\n",
        lint.errors, lint.warnings
    );
    if !lint.findings.is_empty() {
        text += "\n| where | what | rule | instead |\n| --- | --- | --- | --- |\n";
    }
    for it in lint.findings.iter().take(FINDINGS_MAX) {
        let severity = match it.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Note => "note",
        };
        text += &format!(
            "| {}:{} | {severity}: {} | {} | {} |\n",
            cell(&it.file),
            it.line,
            cell(&it.message),
            cell(&it.rule),
            cell(&it.hint)
        );
    }
    if lint.findings.len() > FINDINGS_MAX {
        let more = lint.findings.len() - FINDINGS_MAX;
        text += &format!("\nand {more} more, see lint-report.json\n");
    }
    text
}
