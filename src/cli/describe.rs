//! Answers of the admin HTTP as text for people.

use std::fmt::Write;

use jiff::Timestamp;

use super::output::{millis, millis_or_dash, plain, table, wrapped};
use crate::admin::types::{
    Blocker, CapResult, CapStatus, Enforcement, FenceStatus, FormerView, HoldStatus, ModeName,
    ModeResult, Obstacle, ScopeStatus, StandingHold, Status, WindowView, WindowViews,
};
use crate::config::Blocked;
use crate::runner::types::StatusReport;

/// Every database, and below it why one is held.
pub(super) fn status(status: &Status) -> String {
    let mut text = format!(
        "pgdrain {}, up {}\nclients {}\nserver  {}\n\n",
        status.version,
        millis(status.uptime_ms),
        status.listen.join(", "),
        status.upstream
    );
    if let Some(former) = &status.former {
        text += &still_served(former);
    }
    if let Some(what) = &status.stopping {
        text += &wrapped(&format!("It is stopping: {}.", plain(what)));
        text += "\n\n";
    }
    if status.databases.is_empty() {
        return text + &nobody(status);
    }
    let rows = status.databases.iter().map(|database| {
        [
            database.database.clone(),
            database.mode.to_string(),
            database.sessions.to_string(),
            database.in_transaction.to_string(),
            database.held.to_string(),
            millis_or_dash(database.oldest_wait_ms),
            database.transactions_total.to_string(),
            database.migration.clone().unwrap_or_else(|| "-".to_owned()),
        ]
    });
    let header = [
        "database",
        "mode",
        "sessions",
        "in tx",
        "held",
        "longest wait",
        "tx so far",
        "migration",
    ];
    text += &table(header, rows);
    for database in &status.databases {
        for hold in &database.holds {
            text += &paragraph(&database.database, &held(hold));
        }
        for scope in &database.scopes {
            text += &narrow(&database.database, scope);
        }
        if let Some(fence) = &database.fence {
            text += &paragraph(&database.database, &fenced(fence));
        }
        if let Some(cap) = &database.cap {
            text += &paragraph(&database.database, &cap_of(cap));
        }
    }
    text
}

/// What there is to say as long as nobody has come.
pub(super) fn nobody(status: &Status) -> String {
    let mut text = "no client has come yet".to_owned();
    for hold in &status.standing {
        text += &paragraph("*", &held_before(hold));
    }
    text
}

/// What waits for those who come.
fn held_before(hold: &StandingHold) -> String {
    let mut text = format!(
        "whoever comes {}; since {}",
        match (hold.mode, hold.blocked) {
            (ModeName::ReadOnly, Blocked::Queue) => "waits with what writes",
            (ModeName::ReadOnly, Blocked::Reject) => "is refused what writes",
            (ModeName::Open | ModeName::Hold, Blocked::Queue) => "waits",
            (ModeName::Open | ModeName::Hold, Blocked::Reject) => "is refused",
        },
        clock(hold.since)
    );
    if let Some(scope) = &hold.scope {
        let _infallible = write!(text, ", {}", plain(&scope.to_string()));
    }
    if !hold.by.is_empty() {
        let _infallible = write!(text, ", by {}", plain(&hold.by));
    }
    if !hold.reason.is_empty() {
        let _infallible = write!(text, ", \"{}\"", plain(&hold.reason));
    }
    match hold.until {
        Some(until) => {
            let _infallible = write!(text, ", until {}, then {}", clock(until), hold.then);
        }
        None => text += ", overdue: its end has passed and it stays",
    }
    text
}

/// A sentence about a database, below what stands before it.
fn paragraph(database: &str, sentence: &str) -> String {
    format!(
        "\n\n{}",
        wrapped(&format!("{}: {sentence}", plain(database)))
    )
}

/// The process that was taken over from, and when it will be gone.
fn still_served(former: &FormerView) -> String {
    let mut text = format!(
        "former  process {} ({}) still serves {} sessions",
        former.pid,
        plain(&former.version),
        former.sessions
    );
    if let Some(oldest) = former.oldest_at {
        let _infallible = write!(text, ", the oldest since {}", clock(oldest));
    }
    match former.ends_at {
        Some(at) => {
            let _infallible = write!(text, ", and ends at {}", clock(at));
        }
        None => text += ", and ends with them",
    }
    text + "\n\n"
}

/// Why a database is held, and how its drain goes.
fn held(hold: &HoldStatus) -> String {
    let what = match hold.mode {
        ModeName::ReadOnly => "read-only",
        ModeName::Open | ModeName::Hold => "held",
    };
    let mut text = format!("{what} since {} by {}", clock(hold.since), hold.holder);
    if !hold.by.is_empty() {
        let _infallible = write!(text, " ({})", plain(&hold.by));
    }
    if !hold.reason.is_empty() {
        let _infallible = write!(text, ", \"{}\"", plain(&hold.reason));
    }
    match hold.until {
        _ if hold.overdue => text += ", overdue: its end has passed and it stays",
        Some(until) => {
            let _infallible = write!(text, ", until {}, then {}", clock(until), hold.then);
        }
        None => {}
    }
    if let Some(enforcement) = &hold.enforcement {
        text += &enforced(hold.blocked, enforcement);
    }
    match (&hold.stays, &hold.drain) {
        (Some(why), _) => {
            let _infallible = write!(text, "; stays held: {}", plain(why));
        }
        (None, Some(drain)) => {
            let _infallible = write!(text, "; {}", plain(&drain.detail));
        }
        (None, None) => {}
    }
    text
}

/// What becomes of writes, and in how many sessions the server refuses them.
fn enforced(writes: Blocked, counts: &Enforcement) -> String {
    let what = match writes {
        Blocked::Queue => "wait",
        Blocked::Reject => "are refused",
    };
    format!(
        "; writes {what}: enforced in {} sessions, pending in {}, {} exempt",
        counts.enforced, counts.pending, counts.exempt
    )
}

/// Why some clients of a database are held, and how many.
fn narrow(database: &str, status: &ScopeStatus) -> String {
    let scope = status.scope.to_string();
    let mut text = String::new();
    for hold in &status.holds {
        let sentence = format!(
            "{}; {} wait, the longest for {}; {} in transactions",
            held(hold),
            status.held,
            millis_or_dash(status.oldest_wait_ms),
            status.permits
        );
        text += &paragraph(&format!("{database}, {scope}"), &sentence);
    }
    text
}

/// That the server keeps new sessions out, and how that ends.
fn fenced(fence: &FenceStatus) -> String {
    let mut text = format!(
        "fenced: the server lets superusers in alone, {} logins wait; the connection limit {} comes \
         back",
        fence.parked, fence.former_limit
    );
    if let Some(trouble) = &fence.trouble {
        let _infallible = write!(text, ", and could not so far: {}", plain(trouble));
    }
    text
}

fn cap_of(cap: &CapStatus) -> String {
    let mut text = format!("capped at {} transactions at once", cap.transactions);
    if let Some(until) = cap.until {
        let _infallible = write!(text, ", until {}", clock(until));
    }
    let _infallible = write!(text, ", by {}", plain(&cap.by));
    if !cap.reason.is_empty() {
        let _infallible = write!(text, ", \"{}\"", plain(&cap.reason));
    }
    text
}

/// What came of a cap.
pub(super) fn capped(result: &CapResult) -> String {
    let cap = result.cap.as_ref().map(cap_of);
    let cap = cap.unwrap_or_else(|| "not capped".to_owned());
    format!("{}: {cap}", plain(&result.database))
}

/// Windows, the newest last.
pub(super) fn windows(windows: &WindowViews) -> String {
    if windows.windows.is_empty() {
        return "no windows".to_owned();
    }
    let row = |window: &WindowView| {
        [
            window.id.clone(),
            window.database.clone(),
            match window.why {
                Some(why) => format!("{}, {why}", window.state),
                None => window.state.to_string(),
            },
            window.by.clone(),
            clock(window.since),
            millis_or_dash(window.left_ms.or(window.lease_left_ms)),
            window.connections_now.to_string(),
        ]
    };
    let header = [
        "window", "database", "state", "by", "since", "left", "inside",
    ];
    table(header, windows.windows.iter().map(row))
}

/// One window.
pub(super) fn window(window: &WindowView) -> String {
    let WindowView {
        id,
        database,
        state,
        ..
    } = window;
    format!("window {id} of {}: {state}", plain(database))
}

/// What came of a mode request, database by database.
pub(super) fn results(results: &[ModeResult]) -> String {
    if results.is_empty() {
        return "no database has a gate yet; those that come later are treated the same".to_owned();
    }
    let mut text = String::new();
    for result in results {
        let _infallible = write!(text, "{}", plain(&result.database));
        if let Some(scope) = &result.scope {
            let _infallible = write!(text, ", {}", plain(&scope.to_string()));
        }
        let _infallible = write!(text, ": {}", result.mode);
        let Some(drain) = &result.drain else {
            text.push('\n');
            continue;
        };
        let _infallible = writeln!(text, ", {}; {}", drain.outcome, plain(&drain.detail));
        let longest = drain
            .waited_for
            .iter()
            .filter_map(|it| it.transaction_age_ms)
            .max();
        if let Some(longest) = longest {
            let _infallible = writeln!(
                text,
                "waited for {}; the oldest transaction had run for {}",
                sessions_count(drain.waited_for.len()),
                millis_or_dash(Some(longest))
            );
        }
        let notable =
            |blocker: &&Blocker| blocker.transaction_age_ms.is_some_and(|it| it >= NOTABLE);
        let notable: Vec<Blocker> = drain.waited_for.iter().filter(notable).cloned().collect();
        for (what, who) in [
            ("waited for, among others", &notable),
            ("in the way", &drain.in_the_way),
            ("cancelled", &drain.cancelled),
            ("freed from their clients", &drain.freed),
            ("aborted in place", &drain.aborted),
            ("terminated", &drain.terminated),
            ("works past us", &drain.bypass),
            ("exempt from holds", &drain.exempt),
            ("still reads what began before", &drain.pending),
            (
                "the server does not refuse its writes yet",
                &drain.not_enforced,
            ),
        ] {
            if !who.is_empty() {
                let _infallible = writeln!(text, "{what}:\n{}", blockers(who));
            }
        }
        if !drain.obstacles.is_empty() {
            let _infallible = writeln!(text, "not touched:\n{}", obstacles(&drain.obstacles));
        }
    }
    text
}

/// Where each migration file stands, the worst first.
pub(super) fn migrations(report: &StatusReport) -> String {
    let groups = [
        ("dirty", &report.dirty),
        ("changed", &report.changed),
        ("applied", &report.applied),
        ("pending", &report.pending),
    ];
    let rows = groups.into_iter().flat_map(|(group, files)| {
        files.iter().map(move |file| {
            [
                group.to_owned(),
                file.file.clone(),
                file.at.clone().unwrap_or_else(|| "-".to_owned()),
                file.detail.clone().unwrap_or_default(),
            ]
        })
    });
    let mut text = table(["state", "file", "at", "detail"], rows);
    if let Some(after) = &report.after {
        let _ = writeln!(text, "{}", plain(&after.to_string()));
    }
    if let Some(running) = &report.running {
        let _ = writeln!(
            text,
            "running: {} ({}); `pgdrain migrate attach` follows it",
            running.id,
            running.state.as_str()
        );
        if let Some(now) = &running.watch {
            let _ = writeln!(text, "  {}", plain(&now.to_string()));
        }
    }
    for (kind, lines) in [("problem", &report.problems), ("note", &report.notes)] {
        for line in lines {
            let _ = writeln!(text, "{kind}: {}", plain(line));
        }
    }
    text
}

/// From which age in milliseconds on a transaction that was waited for is worth a line.
const NOTABLE: u64 = 1000;

fn sessions_count(count: usize) -> String {
    if count == 1 {
        "one session".to_owned()
    } else {
        format!("{count} sessions")
    }
}

/// Who stood in the way.
fn blockers(blockers: &[Blocker]) -> String {
    let row = |blocker: &Blocker| {
        [
            pid(blocker.pid),
            blocker.user.clone(),
            blocker.application_name.clone(),
            blocker.client.clone(),
            blocker.state.clone(),
            millis_or_dash(blocker.transaction_age_ms),
        ]
    };
    let header = ["pid", "user", "application", "client", "state", "in tx for"];
    table(header, blockers.iter().map(row))
}

/// What a drain names and does nothing about.
fn obstacles(obstacles: &[Obstacle]) -> String {
    let row = |obstacle: &Obstacle| {
        [
            obstacle.kind.to_string(),
            obstacle.name.clone(),
            obstacle.owner.clone(),
            millis(obstacle.age_ms),
            obstacle.detail.clone(),
        ]
    };
    let header = ["kind", "name", "owner", "age", "detail"];
    table(header, obstacles.iter().map(row))
}

/// A time of day in UTC, to the second.
fn clock(at: Timestamp) -> String {
    at.strftime("%H:%M:%SZ").to_string()
}

/// A server that gave no process id has none to show.
pub(super) fn pid(pid: Option<i32>) -> String {
    pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = r#"{
        "version": "0.1.0", "started_at": "2026-01-02T03:04:05Z", "uptime_ms": 61000,
        "listen": ["127.0.0.1:6432"], "upstream": "127.0.0.1:5432", "state_dir": "/var/lib/pgdrain",
        "databases": [{
            "database": "shop", "mode": "hold", "sessions": 64, "in_transaction": 1, "held": 63,
            "oldest_wait_ms": 1234, "permits": 1, "transactions_total": 123456, "migration": null,
            "holds": [{
                "holder": "operator", "generation": 3, "since": "2026-01-02T03:05:00Z",
                "until": "2026-01-02T03:10:00Z", "then": "open", "blocked": "queue", "by": "alice",
                "reason": "new index", "overdue": false, "drain": {
                    "outcome": "exhausted", "step": "wait", "held_at": "2026-01-02T03:05:00Z",
                    "last_permit_released_at": null, "drained_at": null,
                    "waited_for": [{
                        "pid": 4711, "user": "app", "application_name": "worker\u001b[2J",
                        "client": "10.0.0.7:50122", "state": "in_transaction",
                        "transaction_age_ms": 95000, "statement_started_at": null
                    }],
                    "cancelled": [], "terminated": [], "bypass": [],
                    "detail": "one transaction still runs"
                }
            }]
        }]
    }"#;

    fn shown() -> Status {
        serde_json::from_str(STATUS).expect("as documented")
    }

    fn unwrapped(text: &str) -> String {
        text.replace("\n  ", " ")
    }

    fn check_width(text: &str) {
        for line in text.lines() {
            assert!(line.chars().count() <= 80, "{line}");
        }
        assert!(!text.contains('\u{1b}'), "{text}");
    }

    #[test]
    fn a_status_says_who_holds_what_until_when() {
        let text = status(&shown());
        for part in [
            "pgdrain 0.1.0, up 1m 1s",
            "1s 234ms",
            "shop: held since 03:05:00Z by operator (alice), \"new index\", until 03:10:00Z, then open; \
             one transaction still runs",
        ] {
            assert!(unwrapped(&text).contains(part), "{part} in\n{text}");
        }
        check_width(&text);
    }

    #[test]
    fn a_status_says_how_far_read_only_is_enforced() {
        let mut shown = shown();
        let hold = &mut shown.databases[0].holds[0];
        hold.mode = ModeName::ReadOnly;
        hold.enforcement = Some(Enforcement {
            enforced: 60,
            pending: 3,
            exempt: 1,
        });
        let text = status(&shown);
        let part = "shop: read-only since 03:05:00Z by operator (alice), \"new index\", until 03:10:00Z, \
                    then open; writes wait: enforced in 60 sessions, pending in 3, 1 exempt; \
                    one transaction still runs";
        assert!(unwrapped(&text).contains(part), "{part} in\n{text}");
        check_width(&text);
    }

    #[test]
    fn a_result_names_who_is_in_the_way() {
        let hold = shown().databases.remove(0).holds.remove(0);
        let text = results(&[ModeResult {
            scope: None,
            database: "shop".to_owned(),
            mode: crate::admin::types::ModeName::Open,
            generation: 3,
            drain: hold.drain,
        }]);
        assert!(text.starts_with(
            "shop: open, exhausted; one transaction still runs\nwaited for one session"
        ));
        for part in [
            "waited for, among others:\n",
            "4711",
            "app",
            "10.0.0.7:50122",
            "1m 35s",
        ] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
        check_width(&text);
    }
}
