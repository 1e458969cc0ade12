//! The page written down: as one file of HTML that needs no other, and as Markdown.

use std::fmt::Write as _;

use super::Account;
use super::story::{Body, Section, sections, title};
use crate::runner::preflight::escape;

const STYLE: &str = "\
body{font:16px/1.5 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem;color:#222}\
table{border-collapse:collapse;width:100%;font-size:.9rem}\
td,th{text-align:left;vertical-align:top;padding:.3rem .6rem;border-bottom:1px solid #ddd;\
overflow-wrap:anywhere}\
ul{padding-left:1.2rem}";

/// The page as HTML. Everything that comes from the database, from files or from people is escaped.
#[must_use]
pub fn html(account: &Account) -> String {
    let title = escape(&title(account));
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\
         <style>{STYLE}</style></head><body>\n<h1>{title}</h1>\n"
    );
    for Section { title, body } in sections(account) {
        // Writing to a string never fails.
        let _ = writeln!(page, "<h2>{title}</h2>");
        for body in body {
            match body {
                Body::Text(text) => {
                    let _ = writeln!(page, "<p>{}</p>", escape(&text));
                }
                Body::List(items) => {
                    let items: String = items.iter().map(|it| element("li", it)).collect();
                    let _ = writeln!(page, "<ul>{items}</ul>");
                }
                Body::Table(head, rows) => {
                    let head: String = head.iter().map(|it| element("th", it)).collect();
                    let _ = writeln!(page, "<table>\n<tr>{head}</tr>");
                    for row in rows {
                        let row: String = row.iter().map(|it| element("td", it)).collect();
                        let _ = writeln!(page, "<tr>{row}</tr>");
                    }
                    page.push_str("</table>\n");
                }
            }
        }
    }
    page.push_str("</body></html>\n");
    page
}

fn element(name: &str, text: &str) -> String {
    format!("<{name}>{}</{name}>", escape(text))
}

/// The page as Markdown (CommonMark with tables). What would mean something there stands for itself.
#[must_use]
pub fn markdown(account: &Account) -> String {
    let mut page = format!("# {}\n", plain(&title(account)));
    for Section { title, body } in sections(account) {
        let _ = write!(page, "\n## {title}\n");
        for body in body {
            match body {
                Body::Text(text) => {
                    let _ = write!(page, "\n{}\n", plain(&text));
                }
                Body::List(items) => {
                    page.push('\n');
                    for item in items {
                        let _ = writeln!(page, "- {}", plain(&item));
                    }
                }
                Body::Table(head, rows) => {
                    let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
                    page.push('\n');
                    page.push_str(&line(head.iter().map(|it| plain(it)).collect()));
                    page.push_str(&line(head.iter().map(|_| "---".to_owned()).collect()));
                    for row in rows {
                        page.push_str(&line(row.iter().map(|it| plain(it)).collect()));
                    }
                }
            }
        }
    }
    page
}

/// Text that stands for itself in Markdown, on one line.
fn plain(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '~' | '#' | '!' | '>' => {
                safe.push('\\');
                safe.push(c);
            }
            c if c.is_control() => safe.push(' '),
            c => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::runner::account::{Entry, Moment};

    /// Everything that others name is an attempt to become markup.
    fn hostile() -> Account {
        let evil = "<script>alert('1')</script> | `x` [a](b) & \"c\"\n# heading";
        let report = json!({
            "id": "r-1", "database": evil, "direction": "up", "traffic": "auto", "by": evil,
            "reason": evil, "started_at": "2026-01-02T03:04:05Z",
            "finished_at": "2026-01-02T03:04:06Z", "elapsed_ms": 1000, "state": "failed",
            "exit_code": 3,
            "checks": [{"name": evil, "outcome": "failed", "text": evil}],
            "forced": [evil],
            "files": [{
                "version": "1", "file": evil, "mode": "file", "traffic": "open",
                "outcome": "applied", "statements": 2, "elapsed_ms": 7,
                "watch": {
                    "looks": 3, "blocked_max": 2, "ungranted_max": 2, "wait_max_ms": 80,
                    "own_wait_max_ms": 0, "held_max_ms": 90,
                    "held": [{"relation": evil, "mode": "ShareLock", "ms": 90}],
                    "wal_bytes": 4096
                }
            }],
            "windows": [{
                "id": evil, "granted_after_ms": 5, "lasted_ms": 6,
                "drain": {"cancelled": [1, 2], "aborted": [], "terminated": []},
                "felt": {"held": 12, "longest_ms": 340}
            }],
            "failure": {"message": evil},
            "held": evil,
            "breaches": [{"threshold": "blocked", "file": evil, "text": evil}],
            "approvals": [{
                "id": 1, "plan": evil, "role": "dba", "by": evil, "at": evil, "expires_at": evil,
                "reason": evil, "standing": "valid"
            }],
            "hooks": [{"phase": "before_window", "name": evil, "failure": evil, "elapsed_ms": 3}]
        });
        Account {
            id: "r-1".to_owned(),
            database: evil.to_owned(),
            direction: "up".to_owned(),
            state: "failed".to_owned(),
            exit_code: Some(3),
            by: evil.to_owned(),
            reason: Some(evil.to_owned()),
            started_at: "2026-01-02T03:04:05.000Z".to_owned(),
            finished_at: None,
            timeline: vec![Moment {
                at: "2026-01-02T03:04:05.000Z".to_owned(),
                text: evil.to_owned(),
            }],
            report: Some(report),
            history: vec![Entry {
                at: "2026-01-02T03:04:05.000Z".to_owned(),
                kind: evil.to_owned(),
                version: Some(evil.to_owned()),
                data: json!({ evil: evil }),
            }],
        }
    }

    #[test]
    fn what_others_named_cannot_become_markup() {
        let account = hostile();
        assert!(account.typed().is_some(), "the report is not read");
        let html = html(&account);
        assert!(!html.contains("<script"), "{html}");
        assert_eq!(
            html.matches("<table>").count(),
            html.matches("</table>").count()
        );
        let markdown = markdown(&account);
        for markup in ["<script", "`x`", "[a](b)", "\n# heading"] {
            assert!(!markdown.contains(markup), "{markup} in {markdown}");
        }
        // No cell ends early: every row has as many as its head.
        let cells = |line: &str| line.replace("\\|", "").matches('|').count();
        let mut of_head = 0;
        for line in markdown.lines() {
            match line.starts_with('|') {
                true if of_head == 0 => of_head = cells(line),
                true => assert_eq!(cells(line), of_head, "{line}"),
                false => of_head = 0,
            }
        }
    }

    #[test]
    fn everything_that_is_known_is_on_the_page() {
        let account = hostile();
        for page in [html(&account), markdown(&account)] {
            for text in [
                "Overview",
                "What went wrong",
                "Timeline",
                "90ms",
                "ShareLock",
                "What clients felt",
                "340ms",
                "0 of 1 passed",
                "no backup was made",
                "Hooks",
                "Approvals",
                "role dba",
                "History in the database",
                "Lessons",
                "4 KiB",
            ] {
                assert!(page.contains(text), "{text} in {page}");
            }
        }
    }

    #[test]
    fn a_run_whose_report_is_not_there_has_a_page_all_the_same() {
        for report in [None, Some(json!({"of": "a later version"}))] {
            let account = Account {
                report,
                ..hostile()
            };
            let page = html(&account);
            assert!(
                page.contains("Timeline") && !page.contains("<h2>Files</h2>"),
                "{page}"
            );
        }
    }
}
