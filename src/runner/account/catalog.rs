//! The parts of the page that say how the database was used before and since, how statements are planned, and
//! what row-level security costs. Pure.

use serde::de::DeserializeOwned;

use super::Account;
use super::story::{Body, Section};
use crate::runner::aftermath::catalog::{
    CatalogComparison, IndexCompared, IndexFigures, Period, TableCompared, TableFigures,
};
use crate::runner::aftermath::plans::{PlanChange, PlanCompared, PlanComparison};
use crate::runner::rehearse::RlsCost;
use crate::runner::report::Report;

/// Tables and indexes that the page names: the largest.
const NAMED_MAX: usize = 50;

/// What is behind the files, and what the watch after them saw; nothing where nothing was compared.
pub(super) fn sections(account: &Account, report: Option<&Report>) -> Vec<Section> {
    [
        used(account, report),
        planned(account, report),
        report.and_then(|it| row_security(&it.rls)),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// What the last report of the watch says.
fn watched<T: DeserializeOwned>(account: &Account, key: &str) -> Option<T> {
    let reports = account.history.iter().rev();
    let mut reports = reports.filter(|it| it.kind == "watched" || it.kind == "watch_report");
    let found = reports.find_map(|it| it.data.get(key))?;
    serde_json::from_value(found.clone()).ok()
}

fn used(account: &Account, report: Option<&Report>) -> Option<Section> {
    let behind = report.and_then(|it| it.catalog.clone());
    let both = [
        ("Behind the files", behind),
        ("In the watch after it", watched(account, "catalog")),
    ];
    let mut body = Vec::new();
    for (when, comparison) in both {
        if let Some(comparison) = comparison {
            body.extend(of_database(when, &comparison));
        }
    }
    (!body.is_empty()).then_some(Section {
        title: "Tables and indexes, before and since",
        body,
    })
}

fn of_database(when: &str, it: &CatalogComparison) -> Vec<Body> {
    let (before, since) = (&it.before, &it.since);
    let both = |text: fn(&Period) -> String| [text(before), text(since)];
    let rows = [
        (
            "Counted for",
            both(|it| match it.seconds {
                seconds if seconds > 0.0 => format!("{seconds:.0} s"),
                _ => "no time".to_owned(),
            }),
        ),
        (
            "Blocks found in memory",
            both(|it| percent(it.cache_hit_percent)),
        ),
        (
            "Scans by an index (tables of 1000 rows and more)",
            both(|it| percent(it.index_use_percent)),
        ),
        (
            "Deadlocks",
            both(|it| dash(it.deadlocks.map(|it| it.to_string()))),
        ),
        (
            "Looks in which somebody waited for a lock",
            both(|it| format!("{} of {}", it.lock_waits.with_waits, it.lock_waits.looks)),
        ),
        (
            "Most that waited at once",
            both(|it| it.lock_waits.blocked_max.to_string()),
        ),
        (
            "Longest wait seen",
            both(|it| format!("{} ms", it.lock_waits.wait_max_ms)),
        ),
    ];
    let rows = rows
        .into_iter()
        .map(|(what, [before, since])| vec![what.to_owned(), before, since]);
    let mut body = vec![
        Body::Text(format!("{when}:")),
        Body::Table(vec!["Database", "Before", "Since"], rows.collect()),
    ];
    if !it.tables.is_empty() {
        let rows = it.tables.iter().take(NAMED_MAX).map(table);
        body.push(Body::Table(
            vec!["Table", "Before", "Since"],
            rows.collect(),
        ));
    }
    if !it.indexes.is_empty() {
        let rows = it.indexes.iter().take(NAMED_MAX).map(index);
        let head = vec!["Index", "Table", "Before", "Since"];
        body.push(Body::Table(head, rows.collect()));
    }
    body
}

fn table(it: &TableCompared) -> Vec<String> {
    let text = |figures: Option<TableFigures>, none: &str| match figures {
        None => none.to_owned(),
        Some(it) => format!(
            "{} KiB, {} rows, {} dead, bloat about {}; {} whole scans/min of {} rows, {} by index ({}), {} \
             from memory",
            it.bytes / 1024,
            it.rows,
            percent(it.dead_percent),
            percent(it.bloat_percent),
            number(it.seq_scans_per_minute),
            number(it.rows_per_seq_scan),
            number(it.index_scans_per_minute),
            percent(it.index_use_percent),
            percent(it.cache_hit_percent),
        ),
    };
    vec![
        it.table.clone(),
        text(it.before, "was not there"),
        text(it.since, "is gone"),
    ]
}

fn index(it: &IndexCompared) -> Vec<String> {
    let text = |figures: Option<IndexFigures>, none: &str| match figures {
        None => none.to_owned(),
        Some(it) => {
            let valid = if it.valid { "" } else { ", INVALID" };
            let (size, scans) = (it.bytes / 1024, number(it.scans_per_minute));
            format!("{size} KiB, {scans} scans/min{valid}")
        }
    };
    vec![
        it.index.clone(),
        it.table.clone(),
        text(it.before, "was not there"),
        text(it.since, "is gone"),
    ]
}

fn planned(account: &Account, report: Option<&Report>) -> Option<Section> {
    let behind = report.and_then(|it| it.plans.clone());
    let both = [
        ("Behind the files", behind),
        ("At the last report of the watch", watched(account, "plans")),
    ];
    let mut body = Vec::new();
    for (when, plans) in both {
        let Some(plans): Option<PlanComparison> = plans else {
            continue;
        };
        body.push(Body::Text(format!("{when}, {plans}.")));
        let rows: Vec<_> = plans.notable().map(plan).collect();
        if !rows.is_empty() {
            let head = vec!["Statement", "What", "Plan before", "Plan since"];
            body.push(Body::Table(head, rows));
        }
        let left = plans.left_out.iter();
        let left: Vec<_> = left
            .map(|it| format!("not compared: {} ({})", it.text, it.why))
            .collect();
        if !left.is_empty() {
            body.push(Body::List(left));
        }
    }
    (!body.is_empty()).then_some(Section {
        title: "Plans, before and since",
        body,
    })
}

fn plan(it: &PlanCompared) -> Vec<String> {
    let what = match it.change {
        PlanChange::Same => "the same",
        PlanChange::Changed => "changed",
        PlanChange::Lost => "can no longer be planned",
        PlanChange::Unknown => "not known",
    };
    let nodes = |lines: &[String], cost: Option<f64>| {
        let lines: Vec<_> = lines.iter().map(|it| it.trim_start()).collect();
        let cost = cost
            .map(|it| format!(" (cost {it:.0})"))
            .unwrap_or_default();
        format!("{}{cost}", lines.join(" ← "))
    };
    let since = match &it.error {
        Some(why) => why.clone(),
        None => nodes(&it.after, it.cost_after),
    };
    vec![
        it.text.clone(),
        what.to_owned(),
        nodes(&it.before, it.cost_before),
        since,
    ]
}

fn row_security(costs: &[RlsCost]) -> Option<Section> {
    let row = |it: &RlsCost| {
        vec![
            it.table.clone(),
            format!("{:.2} ms", it.bypassing_ms),
            format!("{:.2} ms", it.as_role_ms),
        ]
    };
    let head = vec!["Table, up to 1000 rows", "Past the policies", "As the role"];
    (!costs.is_empty()).then(|| Section {
        title: "Row-level security",
        body: vec![Body::Table(head, costs.iter().map(row).collect())],
    })
}

fn dash(text: Option<String>) -> String {
    text.unwrap_or_else(|| "-".to_owned())
}

fn percent(share: Option<f64>) -> String {
    dash(share.map(|it| format!("{it:.1} %")))
}

fn number(figure: Option<f64>) -> String {
    dash(figure.map(|it| format!("{it:.1}")))
}
