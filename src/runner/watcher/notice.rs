//! Notices of the server: what a migration says of its own progress, and all the others.
//!
//! A migration calls `pgdrain.progress(phase, step, pct)`, which raises a notice. Its rows could not
//! be seen by anybody before its commit; a notice is.

use serde_json::{Value, json};
use tokio_postgres::error::DbError;

use super::look::Line;
use crate::runner::record::Run;
use crate::runner::types::EventKind;

/// What the notices of `pgdrain.progress` begin with.
const PREFIX: &str = "pgdrain:progress ";

/// The longest name of a phase or step that is kept, in characters.
const NAME_MAX: usize = 200;

/// Tells a notice to whoever follows the run.
pub(in crate::runner) fn heard(run: &Run, notice: &DbError) {
    if let Some(line) = said(notice.message()) {
        run.progress(line);
        return;
    }
    let text = format!("{}: {}", notice.severity(), notice.message());
    let data = json!({ "sqlstate": notice.code().code() });
    run.tell(EventKind::Notice, text, data);
}

/// The line of progress that a notice holds, if it is one of ours.
fn said(message: &str) -> Option<Line> {
    let said: Value = serde_json::from_str(message.strip_prefix(PREFIX)?).ok()?;
    let name = |key: &str| -> Option<String> {
        let text = said.get(key)?.as_str()?;
        Some(text.chars().take(NAME_MAX).collect())
    };
    Some(Line {
        phase: name("phase")?,
        step: name("step")?,
        pct: said
            .get("pct")
            .and_then(Value::as_f64)
            .map(|it| it.clamp(0.0, 100.0)),
        detail: Value::Null,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_progress_is_told_from_other_notices() {
        let line = said(r#"pgdrain:progress {"phase": "copy", "step": "orders", "pct": 12.5}"#);
        let line = line.expect("a line");
        assert_eq!(
            (line.phase.as_str(), line.step.as_str(), line.pct),
            ("copy", "orders", Some(12.5))
        );
        let line = said(r#"pgdrain:progress {"phase": "a", "step": "b", "pct": 4000}"#);
        assert_eq!(line.expect("a line").pct, Some(100.0));
        let line = said(r#"pgdrain:progress {"phase": "a", "step": "b", "pct": null}"#);
        assert_eq!(line.expect("a line").pct, None);
        for other in [
            "table \"t\" does not exist, skipping",
            "pgdrain:progress 12",
            "pgdrain:progress {",
            r#"pgdrain:progress {"phase": null, "step": "b"}"#,
            r#" pgdrain:progress {"phase": "a", "step": "b"}"#,
        ] {
            assert_eq!(said(other), None, "{other}");
        }
    }

    #[test]
    fn names_of_any_length_are_cut() {
        let long = "é".repeat(NAME_MAX + 9);
        let message = format!("{PREFIX}{}", json!({"phase": long, "step": "s"}));
        let line = said(&message).expect("a line");
        assert_eq!(line.phase.chars().count(), NAME_MAX);
    }
}
