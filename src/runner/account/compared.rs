//! The part of the page that says what clients felt before and since, statement by statement. Pure.

use super::Account;
use super::story::{Body, Section};
use crate::runner::aftermath::compare::{Comparison, Felt};
use crate::runner::report::Report;

/// Of the time while the files ran, and of the watch after it; nothing where nothing was measured.
pub(super) fn compared(account: &Account, report: Option<&Report>) -> Option<Section> {
    let mut body = Vec::new();
    if let Some(comparison) = report.and_then(|it| it.comparison.as_ref()) {
        body.extend(table("While files ran", comparison));
    }
    let watched = account
        .history
        .iter()
        .rev()
        .find(|it| it.kind == "watched" || it.kind == "watch_report");
    let comparison = watched.and_then(|it| it.data.get("comparison"));
    let comparison = comparison.and_then(|it| serde_json::from_value(it.clone()).ok());
    if let Some(comparison) = &comparison {
        body.extend(table("In the watch after it", comparison));
    }
    (!body.is_empty()).then_some(Section {
        title: "Statements, before and since",
        body,
    })
}

fn table(when: &str, comparison: &Comparison) -> [Body; 2] {
    let text = |what: Felt| {
        let ms =
            |time: Option<f64>| time.map_or_else(|| "-".to_owned(), |it| format!("{it:.2} ms"));
        let errors = what.error_percent.unwrap_or_default();
        format!(
            "{} timed, mean {}, p99 {}, errors {errors:.1} %",
            what.timed,
            ms(what.mean_ms),
            ms(what.p99_ms)
        )
    };
    let all = vec![
        "all of them".to_owned(),
        text(comparison.before),
        text(comparison.since),
        String::new(),
    ];
    let rows = comparison.statements.iter().map(|it| {
        let slower = it.slower_percent;
        vec![
            it.text.clone(),
            text(it.before),
            text(it.since),
            slower.map_or_else(|| "-".to_owned(), |it| format!("{it:+.1} %")),
        ]
    });
    [
        Body::Text(format!("{when}: {comparison}.")),
        Body::Table(
            vec!["Statement", "Before", "Since", "Mean longer by"],
            std::iter::once(all).chain(rows).collect(),
        ),
    ]
}
