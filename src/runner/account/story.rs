//! The page as a list of sections, before it is written in one form or another. Pure.

use serde_json::Value;

use super::Account;
use super::catalog;
use super::compared::compared;
use crate::runner::preflight::CheckOutcome;
use crate::runner::report::{FileReport, Report, WindowReport};

/// A part of the page.
#[derive(Debug)]
pub(super) struct Section {
    pub(super) title: &'static str,
    pub(super) body: Vec<Body>,
}

/// What stands in it. All of it is text; whoever writes it down makes it safe.
#[derive(Debug)]
pub(super) enum Body {
    Text(String),
    List(Vec<String>),
    Table(Vec<&'static str>, Vec<Vec<String>>),
}

/// The title of the page.
pub(super) fn title(account: &Account) -> String {
    format!("Migration of {}: {}", account.database, account.state)
}

/// The whole page.
pub(super) fn sections(account: &Account) -> Vec<Section> {
    let report = account.typed();
    let mut sections = vec![overview(account, report.as_ref())];
    if let Some(report) = &report {
        sections.extend(trouble(report));
    }
    let moments = account.timeline.iter();
    sections.push(Section {
        title: "Timeline",
        body: vec![Body::Table(
            vec!["When", "What"],
            moments
                .map(|it| vec![it.at.clone(), it.text.clone()])
                .collect(),
        )],
    });
    if let Some(report) = &report {
        sections.extend([
            files(report),
            locks(report),
            thresholds(report),
            felt(report),
        ]);
        sections.extend([checks(report), kept(report)]);
        sections.extend(canary(report));
    }
    sections.extend(compared(account, report.as_ref()));
    sections.extend(catalog::sections(account, report.as_ref()));
    for (key, title) in [("hooks", "Hooks"), ("approvals", "Approvals")] {
        let report = account.report.as_ref();
        sections.extend(report.and_then(|it| listed(it, key, title)));
    }
    sections.push(history(account));
    sections.push(lessons());
    sections
}

fn overview(account: &Account, report: Option<&Report>) -> Section {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let mut rows = vec![
        ("Run", account.id.clone()),
        ("Database", account.database.clone()),
        ("Direction", account.direction.clone()),
        ("State", account.state.clone()),
        (
            "Exit code",
            or_dash(account.exit_code.map(|it| it.to_string())),
        ),
        ("Asked for by", account.by.clone()),
        ("Reason", or_dash(account.reason.clone())),
        ("Began", account.started_at.clone()),
        ("Ended", or_dash(account.finished_at.clone())),
    ];
    if let Some(report) = report {
        rows.push(("Took", milliseconds(report.elapsed_ms)));
        rows.push(("Traffic", report.traffic.to_string()));
    }
    let rows = rows
        .into_iter()
        .map(|(what, value)| vec![what.to_owned(), value]);
    Section {
        title: "Overview",
        body: vec![Body::Table(vec!["", ""], rows.collect())],
    }
}

/// What went wrong; nothing if nothing did.
fn trouble(report: &Report) -> Option<Section> {
    let mut lines = Vec::new();
    lines.extend(report.failure.as_ref().map(ToString::to_string));
    let held = report.held.as_ref();
    lines.extend(held.map(|why| format!("traffic stayed held: {why}")));
    let forced = report.forced.iter();
    lines.extend(forced.map(|check| format!("forced against the check {check}")));
    (!lines.is_empty()).then(|| Section {
        title: "What went wrong",
        body: vec![Body::List(lines)],
    })
}

fn files(report: &Report) -> Section {
    let row = |file: &FileReport| {
        let seen = file.watch.as_ref();
        let figure = |text: Option<String>| text.unwrap_or_else(|| "not seen".to_owned());
        vec![
            file.file.clone(),
            word(&file.outcome),
            word(&file.traffic),
            file.statements.to_string(),
            milliseconds(file.elapsed_ms),
            figure(seen.map(|it| it.blocked_max.to_string())),
            figure(seen.map(|it| format!("{} ms", it.wait_max_ms))),
            figure(seen.map(|it| milliseconds(it.held_max_ms))),
            figure(seen.map(|it| format!("{} KiB", it.wal_bytes / 1024))),
        ]
    };
    let head = vec![
        "File",
        "Outcome",
        "Traffic",
        "Statements",
        "Took",
        "Most blocked",
        "Longest wait of others",
        "Longest lock",
        "WAL",
    ];
    Section {
        title: "Files",
        body: vec![Body::Table(head, report.files.iter().map(row).collect())],
    }
}

fn locks(report: &Report) -> Section {
    let mut rows = Vec::new();
    for file in &report.files {
        for lock in file.watch.iter().flat_map(|it| &it.held) {
            rows.push(vec![
                file.file.clone(),
                lock.relation.clone(),
                lock.mode.clone(),
                milliseconds(lock.ms),
            ]);
        }
    }
    Section {
        title: "Locks that kept others from reading or writing",
        body: match rows.is_empty() {
            true => vec![Body::Text("None was seen.".to_owned())],
            false => vec![Body::Table(vec!["File", "On", "Mode", "Held for"], rows)],
        },
    }
}

fn thresholds(report: &Report) -> Section {
    let breaches: Vec<_> = report.breaches.iter().map(ToString::to_string).collect();
    Section {
        title: "Thresholds",
        body: match breaches.is_empty() {
            true => vec![Body::Text("None that was asked for was passed.".to_owned())],
            false => vec![Body::List(breaches)],
        },
    }
}

fn felt(report: &Report) -> Section {
    let row = |window: &WindowReport| {
        let felt = window.felt.as_ref();
        let waited = felt.map(|it| it.held.to_string());
        let longest = felt.map(|it| milliseconds(it.longest_ms));
        let count = |key: &str| {
            let list = window.drain.get(key).and_then(Value::as_array);
            list.map_or_else(|| "-".to_owned(), |it| it.len().to_string())
        };
        vec![
            window.id.clone(),
            milliseconds(window.granted_after_ms),
            milliseconds(window.lasted_ms),
            waited.unwrap_or_else(|| "not known".to_owned()),
            longest.unwrap_or_else(|| "not known".to_owned()),
            count("cancelled"),
            count("aborted"),
            count("terminated"),
        ]
    };
    let head = vec![
        "Window",
        "Granted after",
        "Lasted",
        "Clients that waited at its end",
        "The longest of them",
        "Statements cancelled",
        "Transactions aborted",
        "Sessions terminated",
    ];
    Section {
        title: "What clients felt",
        body: match report.windows.is_empty() {
            true => vec![Body::Text(
                "Nobody was held: there was no window.".to_owned(),
            )],
            false => vec![Body::Table(head, report.windows.iter().map(row).collect())],
        },
    }
}

fn checks(report: &Report) -> Section {
    let passed = report.checks.iter().filter(|it| it.is_passed()).count();
    let rows = report.checks.iter().map(|check| {
        let outcome = match check.outcome {
            CheckOutcome::Passed => "passed",
            CheckOutcome::Failed => "failed",
            CheckOutcome::Unknown => "unknown",
        };
        vec![check.name.clone(), outcome.to_owned(), check.text.clone()]
    });
    let count = format!("{passed} of {} passed.", report.checks.len());
    Section {
        title: "Checks before",
        body: vec![
            Body::Text(count),
            Body::Table(vec!["Check", "Outcome", "What was found"], rows.collect()),
        ],
    }
}

fn kept(report: &Report) -> Section {
    let mut lines = Vec::new();
    lines.push(match &report.backup {
        Some(backup) => format!(
            "backup {}, {} KiB in {} files, of {}, at {} of the write-ahead log",
            backup.path,
            backup.bytes / 1024,
            backup.files,
            backup.snapshot_at,
            backup.lsn
        ),
        None => "no backup was made".to_owned(),
    });
    lines.push(match &report.restore_point {
        Some(point) => format!("restore point {} at {}", point.name, point.lsn),
        None => "no restore point was made".to_owned(),
    });
    Section {
        title: "Backup and restore point",
        body: vec![Body::List(lines)],
    }
}

/// What came of the canary; nothing without one.
fn canary(report: &Report) -> Option<Section> {
    let canary = report.canary.as_ref()?;
    let who = match &canary.scope {
        Some(scope) => format!("{scope} was let in before all others"),
        None => "only its command was let in before all others".to_owned(),
    };
    let ended = match &canary.failure {
        None => format!("it went well for {}", milliseconds(canary.lasted_ms)),
        Some(failure) => failure.clone(),
    };
    Some(Section {
        title: "Canary",
        body: vec![Body::List(vec![who, ended])],
    })
}

/// Whatever a list of the report holds, key by key.
fn listed(report: &Value, key: &str, title: &'static str) -> Option<Section> {
    let all = report.get(key)?.as_array()?;
    let lines: Vec<String> = all.iter().map(flat).collect();
    (!lines.is_empty()).then(|| Section {
        title,
        body: vec![Body::List(lines)],
    })
}

fn history(account: &Account) -> Section {
    let rows = account.history.iter().map(|it| {
        vec![
            it.at.clone(),
            it.kind.clone(),
            it.version.clone().unwrap_or_default(),
            flat(&without_sections(&it.data)),
        ]
    });
    Section {
        title: "History in the database",
        body: vec![Body::Table(
            vec!["When", "Event", "Version", "Data"],
            rows.collect(),
        )],
    }
}

/// Without what has a section of its own.
fn without_sections(data: &Value) -> Value {
    let mut data = data.clone();
    if let Some(object) = data.as_object_mut() {
        for key in ["comparison", "catalog", "plans"] {
            object.remove(key);
        }
    }
    data
}

/// For people to fill in.
fn lessons() -> Section {
    let lines = ["What went well:", "What did not:", "What we change:"];
    Section {
        title: "Lessons",
        body: vec![Body::List(lines.map(str::to_owned).into())],
    }
}

/// An object as `key value, key value`.
fn flat(value: &Value) -> String {
    let plain = |it: &Value| it.as_str().map_or_else(|| it.to_string(), str::to_owned);
    match value.as_object() {
        Some(object) => {
            let parts = object.iter().filter(|(_, it)| !it.is_null());
            let parts: Vec<_> = parts
                .map(|(key, it)| format!("{key} {}", plain(it)))
                .collect();
            parts.join(", ")
        }
        None => plain(value),
    }
}

/// The word that JSON has for it.
fn word(value: &impl serde::Serialize) -> String {
    let value = serde_json::to_value(value).unwrap_or_default();
    value.as_str().unwrap_or_default().to_owned()
}

fn milliseconds(ms: u64) -> String {
    humantime::format_duration(std::time::Duration::from_millis(ms)).to_string()
}
