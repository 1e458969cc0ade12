//! What sessions run: `pgdrain sessions --running`.

use std::collections::BTreeSet;

use serde::Serialize;

use super::client::{Client, ClientError, path};
use super::output::{broken, millis, plain};
use crate::admin::types::{PIDS_MAX, RunningStatement, RunningStatements, SessionView};

/// How wide lines are, and how far the statement below a session is set in.
const WIDTH: usize = 80;
const INDENT: usize = 4;

/// Sessions in a transaction, and what the server says that they run.
#[derive(Debug, Serialize)]
pub(super) struct Running {
    /// The oldest transaction first.
    pub(super) sessions: Vec<SessionView>,
    statements: Vec<RanIn>,
}

#[derive(Debug, Serialize)]
struct RanIn {
    database: String,
    #[serde(flatten)]
    ran: RunningStatement,
}

impl Running {
    /// Asks what those of these sessions run that are in a transaction.
    pub(super) async fn ask(
        client: &Client,
        sessions: Vec<SessionView>,
    ) -> Result<Running, ClientError> {
        let inside = |it: &SessionView| it.transaction_age_ms.is_some() && it.pid.is_some();
        let mut sessions: Vec<SessionView> = sessions.into_iter().filter(inside).collect();
        sessions.sort_by_key(|it| std::cmp::Reverse(it.transaction_age_ms));
        let databases: BTreeSet<String> = sessions.iter().map(|it| it.database.clone()).collect();
        let mut statements = Vec::new();
        for database in databases {
            let ours = sessions.iter().filter(|it| it.database == database);
            let pids: Vec<String> = ours.filter_map(|it| Some(it.pid?.to_string())).collect();
            for pids in pids.chunks(PIDS_MAX) {
                let path = path(&["v1", "databases", &database, "running"]);
                let path = format!("{path}?pids={}", pids.join(","));
                let ran: RunningStatements = client.get(&path).await?;
                statements.extend(ran.statements.into_iter().map(|ran| RanIn {
                    database: database.clone(),
                    ran,
                }));
            }
        }
        Ok(Running {
            sessions,
            statements,
        })
    }

    fn of(&self, session: &SessionView) -> Option<&RunningStatement> {
        let mut all = self.statements.iter();
        let same = |it: &&RanIn| it.database == session.database && Some(it.ran.pid) == session.pid;
        all.find(same).map(|it| &it.ran)
    }
}

/// A line for each session, and below it what it runs.
pub(super) fn described(running: &Running) -> String {
    if running.sessions.is_empty() {
        return "no session is in a transaction".to_owned();
    }
    let each = running.sessions.iter();
    let each: Vec<String> = each
        .map(|session| one(session, running.of(session)))
        .collect();
    each.join("\n")
}

fn one(session: &SessionView, ran: Option<&RunningStatement>) -> String {
    let pid = session
        .pid
        .map_or_else(|| "-".to_owned(), |pid| pid.to_string());
    let head = format!(
        "session {} pid {pid} {} {} {} {}, {} for {}",
        session.id,
        session.database,
        session.user,
        session.application_name,
        session.client,
        session.state,
        millis(session.transaction_age_ms.unwrap_or(0)),
    );
    let below = match ran {
        None => "the server does not know it".to_owned(),
        Some(ran) => {
            let what = if ran.running { "runs" } else { "ran last" };
            let text = match &ran.text {
                Some(text) => format!("{what}: {}", in_a_line(text)),
                None => format!("{what} what the control role may not see"),
            };
            text + if ran.cut { " ..." } else { "" }
        }
    };
    let mut lines = broken(&plain(&head), WIDTH);
    lines.extend(set_in(&below));
    if let Some(waits) = ran.and_then(waits) {
        lines.extend(set_in(&waits));
    }
    lines.join("\n")
}

fn set_in(text: &str) -> Vec<String> {
    let lines = broken(&plain(text), WIDTH - INDENT).into_iter();
    lines.map(|line| format!("{:INDENT$}{line}", "")).collect()
}

/// What it waits for, and who is before it.
fn waits(ran: &RunningStatement) -> Option<String> {
    let waits_for = ran.waits_for.as_ref()?;
    let pids: Vec<String> = ran.blocked_by.iter().map(ToString::to_string).collect();
    Some(match pids.is_empty() {
        true => format!("waits for {waits_for}"),
        false => format!("waits for {waits_for}, behind process {}", pids.join(", ")),
    })
}

/// A statement without the layout that its author gave it.
fn in_a_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn running() -> Running {
        let session = |id: u64, pid: i32| {
            json!({
                "id": id, "pid": pid, "database": "shop", "user": "app", "application_name": "web",
                "client": "10.0.0.1:5", "state": "in_transaction",
                "connected_at": "2026-11-22T04:00:00Z", "transaction_age_ms": 90_500,
                "statement_started_at": null, "held_ms": null, "transactions": 1, "bytes_in": 1,
                "bytes_out": 1, "server": "db1:5432",
            })
        };
        let sessions = json!([session(1, 7), session(2, 8), session(3, 9)]);
        let ran = |pid: i32, text: &str, blocked_by: &[i32]| RunningStatement {
            pid,
            text: Some(text.to_owned()),
            cut: false,
            hidden: false,
            running: !blocked_by.is_empty(),
            waits_for: (!blocked_by.is_empty()).then(|| "Lock: relation".to_owned()),
            blocked_by: blocked_by.to_vec(),
        };
        let statement = |ran| RanIn {
            database: "shop".to_owned(),
            ran,
        };
        Running {
            sessions: serde_json::from_value(sessions).expect("sessions"),
            statements: vec![
                statement(ran(7, "lock table\n  t\u{1b}[2J", &[])),
                statement(ran(8, &"select a, ".repeat(30), &[7])),
            ],
        }
    }

    #[test]
    fn each_session_is_told_with_what_it_runs_and_who_is_before_it() {
        let text = described(&running());
        for part in [
            "session 1 pid 7 shop app web 10.0.0.1:5, in_transaction for 1m 30s",
            "ran last: lock table t\\u{1b}[2J",
            "    runs: select a,",
            "waits for Lock: relation, behind process 7",
            "the server does not know it",
        ] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
        assert!(
            text.lines().all(|line| line.chars().count() <= WIDTH),
            "{text}"
        );
        let none = Running {
            sessions: Vec::new(),
            statements: Vec::new(),
        };
        assert_eq!(described(&none), "no session is in a transaction");
    }
}
