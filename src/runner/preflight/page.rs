//! A preflight report as a page for people: one file of HTML that needs no other.

use super::{Check, CheckOutcome, PreflightReport};

const STYLE: &str = "\
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}\
table{border-collapse:collapse;width:100%}\
td,th{text-align:left;vertical-align:top;padding:.4rem .6rem;border-bottom:1px solid #ddd}\
.passed{color:#17663a}.failed{color:#a31515;font-weight:bold}.unknown{color:#8a5a00;font-weight:bold}\
ul{margin:.2rem 0;padding-left:1.2rem}";

/// The page. Everything that comes from the database or from files is escaped.
pub fn page(report: &PreflightReport) -> String {
    let verdict = match report.passed {
        true => "passed",
        false => "failed",
    };
    let title = format!("Preflight of {}: {verdict}", escape(&report.database));
    let rows: String = report.checks.iter().map(row).collect();
    let files = list(&report.files);
    let files = match report.files.is_empty() {
        true => "<p>No file would run.</p>".to_owned(),
        false => format!("<p>Files that would run ({}):</p>{files}", report.direction),
    };
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\
         <style>{STYLE}</style></head><body>\n<h1>{title}</h1>\n<p>{} passed, {} failed, {} unknown \
         (counted as failed); looked at {} by pgdrain {}.</p>\n{files}\n<table>\n<tr><th>Check</th>\
         <th>Outcome</th><th>What was found</th><th>What to do</th></tr>\n{rows}</table>\n</body>\
         </html>\n",
        report.count(CheckOutcome::Passed),
        report.count(CheckOutcome::Failed),
        report.count(CheckOutcome::Unknown),
        report.at.strftime("%Y-%m-%d %H:%M:%SZ"),
        escape(&report.pgdrain),
    )
}

fn row(check: &Check) -> String {
    let outcome = check.outcome.as_str();
    format!(
        "<tr><td>{}</td><td class=\"{outcome}\">{outcome}</td><td>{}{}</td><td>{}</td></tr>\n",
        escape(&check.name),
        escape(&check.text),
        list(&check.details),
        escape(check.hint.as_deref().unwrap_or_default()),
    )
}

fn list(items: &[String]) -> String {
    match items {
        [] => String::new(),
        items => {
            let items: String = items
                .iter()
                .map(|it| format!("<li>{}</li>", escape(it)))
                .collect();
            format!("<ul>{items}</ul>")
        }
    }
}

/// Text that stands for itself in HTML, in elements and in attributes.
pub(in crate::runner) fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runner::types::Direction;

    #[test]
    fn what_others_named_cannot_become_markup() {
        let mut check = Check::failed("orphans", "<script>alert(1)</script>");
        check.details = vec!["a & \"b\"".to_owned()];
        let report = PreflightReport {
            database: "<b>shop</b>".to_owned(),
            direction: Direction::Up,
            at: jiff::Timestamp::UNIX_EPOCH,
            pgdrain: "0".to_owned(),
            passed: false,
            exit_code: 1,
            files: vec!["1_<i>.up.sql".to_owned()],
            checks: vec![check.hint("do 'this'")],
        };
        let page = page(&report);
        for markup in ["<script", "<b>", "<i>"] {
            assert!(!page.contains(markup), "{page}");
        }
        for text in [
            "&lt;script&gt;",
            "a &amp; &quot;b&quot;",
            "do &#39;this&#39;",
            "1 failed",
        ] {
            assert!(page.contains(text), "{text} in {page}");
        }
    }
}
