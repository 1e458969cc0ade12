//! What the documents and examples name is there: metrics, alerts and their pages.
//!
//! `UPDATE_DOCS=1 cargo test --test it documented` writes the table of metrics anew.

use std::collections::BTreeSet;
use std::path::PathBuf;

use pgdrain::metrics::names::{self, Kind};

/// Between these the list is made; what is around is written by people.
const BEGIN: &str =
    "<!-- metrics: made by the test `documented`; UPDATE_DOCS=1 writes them anew -->\n";
const END: &str = "<!-- end of metrics -->\n";

fn place(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(path: &str) -> String {
    let place = place(path);
    std::fs::read_to_string(&place).unwrap_or_else(|error| panic!("{}: {error}", place.display()))
}

/// The table of all metrics.
fn table() -> String {
    let mut text = String::from(
        "\n| metric | type | labels | what it tells | in `/v1/status` |\n| --- | --- | --- | --- | --- |\n",
    );
    let mut all: Vec<_> = names::ALL.iter().collect();
    all.sort_by_key(|metric| metric.name);
    for metric in all {
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let code = |words: &[&str]| {
            let words: Vec<_> = words.iter().map(|word| format!("`{word}`")).collect();
            words.join(", ")
        };
        text += &format!(
            "| `{}` | {kind} | {} | {} | {} |\n",
            metric.name,
            code(metric.labels),
            metric.help,
            code(metric.in_status)
        );
    }
    text + "\n"
}

#[test]
fn every_metric_is_in_the_documentation_as_it_is() {
    let whole = read("docs/METRICS.md");
    let (before, rest) = whole.split_once(BEGIN).expect("it has a place for metrics");
    let (written, after) = rest.split_once(END).expect("it has an end of metrics");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        let text = format!("{before}{BEGIN}{}{END}{after}", table());
        std::fs::write(place("docs/METRICS.md"), text).expect("the documentation is ours");
        return;
    }
    assert_eq!(written, table(), "UPDATE_DOCS=1 writes it anew");
}

/// Every word of a text that begins as our metrics do.
fn metrics_in(text: &str) -> BTreeSet<&str> {
    let parts = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    parts.filter(|word| word.starts_with("pgdrain_")).collect()
}

/// Whether a metric, or a series of a histogram, is called so.
fn is_metric(word: &str) -> bool {
    names::ALL.iter().any(|metric| match metric.kind {
        Kind::Counter | Kind::Gauge => metric.name == word,
        Kind::Histogram => ["_bucket", "_sum", "_count"]
            .iter()
            .any(|end| word.strip_suffix(end) == Some(metric.name)),
    })
}

#[test]
fn dashboard_and_alerts_name_metrics_that_are_there() {
    for path in [
        "examples/monitoring/dashboard.json",
        "examples/monitoring/alerts.yml",
        "examples/monitoring/alerts_test.yml",
    ] {
        let text = read(path);
        let named = metrics_in(&text);
        assert!(named.len() > 10, "{path}: {named:?}");
        for word in named {
            assert!(is_metric(word), "{path}: {word} is no metric");
        }
    }
    // And it would be seen if one were not.
    assert!(!is_metric("pgdrain_helt") && !is_metric("pgdrain_held_wait_seconds"));
}

#[test]
fn every_alert_is_tested_and_has_its_page_in_the_runbook() {
    let (alerts, tests) = (
        read("examples/monitoring/alerts.yml"),
        read("examples/monitoring/alerts_test.yml"),
    );
    let runbook = read("docs/RUNBOOK.md");
    let pages: BTreeSet<_> = runbook
        .lines()
        .filter_map(|it| it.strip_prefix("### "))
        .collect();
    let names = alerts
        .lines()
        .filter_map(|it| it.trim().strip_prefix("- alert: "));
    let links: Vec<_> = alerts
        .lines()
        .filter_map(|it| it.trim().strip_prefix("runbook_url: "))
        .collect();
    let mut count = 0;
    for (name, link) in names.zip(&links) {
        // GitHub, and most others, make the anchor of a heading like this.
        assert!(
            link.ends_with(&format!("#{}", name.to_lowercase())),
            "{name}: {link}"
        );
        assert!(
            pages.contains(name),
            "{name} has no page in docs/RUNBOOK.md"
        );
        assert!(
            tests.contains(&format!("alertname: {name}\n")),
            "{name} is not tested"
        );
        count += 1;
    }
    assert_eq!(count, links.len());
    assert!(count > 10, "{count} alerts");
    // No page of an alert that is gone.
    for page in pages.iter().filter(|page| page.starts_with("Pgdrain")) {
        assert!(alerts.contains(&format!("- alert: {page}\n")), "{page}");
    }
}

#[test]
fn every_emergency_is_acted_out_by_a_test_that_is_there() {
    let runbook = read("docs/RUNBOOK.md");
    let (_, pages) = runbook.split_once("\n## Emergencies\n").expect("a part");
    let (pages, _) = pages.split_once("\n## ").expect("and another behind it");
    let mut count = 0;
    for page in pages.split("\n### ").skip(1) {
        let title = page.lines().next().unwrap_or_default();
        let (_, acted) = page.rsplit_once("\nActed out by ").expect(title);
        let tests: Vec<_> = acted.split('`').skip(1).step_by(2).collect();
        assert!(!tests.is_empty(), "{title}");
        for name in tests {
            count += 1;
            let (file, test) = name.split_once("::").unwrap_or((name, ""));
            let source = read(&format!("tests/it/{file}.rs"));
            let there = source.contains(&format!("fn {test}")) || test.is_empty();
            assert!(there && source.contains("test"), "{title}: no {name}");
        }
    }
    assert!(count > 8, "{count} tests");
}

/// The anchors of a page's headings, as GitHub makes them.
fn anchors(page: &str) -> BTreeSet<String> {
    let headings = page.lines().filter(|line| line.starts_with('#'));
    let anchor = |line: &str| {
        let text = line.trim_start_matches('#').trim().to_lowercase();
        let kept = text
            .chars()
            .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    headings.map(anchor).collect()
}

#[test]
fn links_of_the_operators_pages_lead_somewhere() {
    let mut pages = vec![
        "docs/RUNBOOK.md".to_owned(),
        "docs/CONFIG.md".to_owned(),
        "docs/METRICS.md".to_owned(),
        "docs/operate.md".to_owned(),
        "examples/monitoring/README.md".to_owned(),
        "README.md".to_owned(),
    ];
    for entry in std::fs::read_dir(place("docs/quickstarts")).expect("it is there") {
        let name = entry.expect("an entry").file_name();
        pages.push(format!("docs/quickstarts/{}", name.to_string_lossy()));
    }
    let mut links = 0;
    for path in pages {
        let page = read(&path);
        let folder = place(&path);
        let folder = folder.parent().expect("it is in a folder");
        for link in page.split("](").skip(1) {
            let link = link.split(')').next().unwrap_or_default();
            if link.starts_with("http") {
                continue;
            }
            links += 1;
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() {
                page.clone()
            } else {
                let target = folder.join(file);
                assert!(target.exists(), "{path}: {link}");
                std::fs::read_to_string(&target).unwrap_or_default()
            };
            let found = anchor.is_empty() || anchors(&target).contains(anchor);
            assert!(found, "{path}: {link}: no such heading");
        }
    }
    assert!(links > 40, "{links} links");
}
