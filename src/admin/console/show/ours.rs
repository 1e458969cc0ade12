//! What an operator with one minute needs: modes, holds, who is in the way, windows, events.

use std::time::Duration;

use crate::admin::api::Api;
use crate::admin::console::complaint::Complaint;
use crate::admin::console::desk::Desk;
use crate::admin::console::help::HELP;
use crate::admin::console::value::{Row, Value};
use crate::admin::types::{
    Blocker, DatabaseStatus, DrainOutcome, HoldStatus, Holder, Migrations, PrecheckQuery, Sessions,
    StandingHold, Status, WindowViews,
};
use crate::config::{HumanDuration, Scope};

use super::What;

/// Events that are shown when nothing else is said, and at most.
const EVENTS: u64 = 50;
const EVENTS_MAX: u64 = 1000;

/// `SHOW HELP`
pub(super) fn help() -> Vec<Row> {
    let shown = What::ALL.into_iter().map(|what| {
        let command = format!(
            "SHOW {} {}",
            what.word().to_ascii_uppercase(),
            what.argument()
        );
        vec![command.trim_end().into(), what.about().into()]
    });
    let done = HELP
        .iter()
        .map(|help| vec![help.command.into(), help.about.into()]);
    done.chain(shown).collect()
}

/// `SHOW STATUS`
pub(super) fn status(status: &Status, only: Option<&str>) -> Vec<Row> {
    let rows = of(status, only).map(|database| {
        let until = database.holds.iter().filter_map(|hold| hold.until).max();
        vec![
            database.database.as_str().into(),
            database.mode.as_str().into(),
            database.sessions.into(),
            database.in_transaction.into(),
            database.held.into(),
            age(database.oldest_wait_ms),
            database
                .cap
                .as_ref()
                .map(|cap| u64::from(cap.transactions))
                .into(),
            database.fence.as_ref().map(|_| "up").into(),
            database.migration.clone().into(),
            until.into(),
        ]
    });
    rows.collect()
}

/// `SHOW HOLDS`: of databases, and of some clients in them.
pub(super) fn holds(status: &Status, only: Option<&str>) -> Vec<Row> {
    let mut rows = Vec::new();
    for database in of(status, only) {
        let whole = database.holds.iter();
        let waiting = (database.held, database.oldest_wait_ms);
        rows.extend(whole.map(|hold| held(database, None, hold, waiting)));
        for scope in &database.scopes {
            let waiting = (scope.held, scope.oldest_wait_ms);
            let some = scope.holds.iter();
            rows.extend(some.map(|hold| held(database, Some(&scope.scope), hold, waiting)));
        }
    }
    if status.databases.is_empty() && only.is_none() {
        rows.extend(status.standing.iter().map(standing));
    }
    rows
}

fn held(
    database: &DatabaseStatus,
    scope: Option<&Scope>,
    hold: &HoldStatus,
    (waiting, oldest): (u64, Option<u64>),
) -> Row {
    let drain = hold.drain.as_ref();
    let detail = hold.stays.clone();
    let detail = detail.or_else(|| drain.map(|drain| drain.detail.clone()));
    vec![
        database.database.as_str().into(),
        scope.map(ToString::to_string).into(),
        hold.mode.as_str().into(),
        hold.holder.to_string().into(),
        hold.by.as_str().into(),
        hold.reason.as_str().into(),
        hold.since.into(),
        match hold.overdue {
            true => "overdue".into(),
            false => hold.until.into(),
        },
        hold.then.as_str().into(),
        waiting.into(),
        age(oldest),
        drain.map(|drain| drain.outcome.as_str()).into(),
        drain.map(|drain| drain.step.as_str()).into(),
        detail.into(),
    ]
}

/// A hold that nobody has met yet.
fn standing(hold: &StandingHold) -> Row {
    vec![
        "*".into(),
        hold.scope.as_ref().map(ToString::to_string).into(),
        hold.mode.as_str().into(),
        Holder::Everywhere.to_string().into(),
        hold.by.as_str().into(),
        hold.reason.as_str().into(),
        hold.since.into(),
        match hold.until {
            None => "overdue".into(),
            until => until.into(),
        },
        hold.then.as_str().into(),
        0_u64.into(),
        Value::Null,
        Value::Null,
        Value::Null,
        Value::Null,
    ]
}

/// `SHOW BLOCKERS`: where a drain goes on, who is in its way; elsewhere who would be.
pub(super) fn blockers(status: &Status, sessions: &Sessions, only: Option<&str>) -> Vec<Row> {
    let mut rows = Vec::new();
    for database in of(status, only) {
        let drains = database.holds.iter().filter_map(|hold| hold.drain.as_ref());
        let mut draining = drains
            .filter(|drain| drain.outcome == DrainOutcome::Draining)
            .peekable();
        if draining.peek().is_some() {
            for drain in draining {
                let all = drain.in_the_way.iter().chain(&drain.bypass);
                rows.extend(all.map(|who| blocker(&database.database, who)));
            }
            continue;
        }
        let inside = sessions.sessions.iter().filter(|session| {
            session.database == database.database && session.transaction_age_ms.is_some()
        });
        rows.extend(inside.map(|session| {
            vec![
                session.database.as_str().into(),
                session.pid.into(),
                session.user.as_str().into(),
                session.application_name.as_str().into(),
                session.client.as_str().into(),
                session.state.as_str().into(),
                age(session.transaction_age_ms),
                "through pgdrain".into(),
            ]
        }));
    }
    rows
}

fn blocker(database: &str, who: &Blocker) -> Row {
    vec![
        database.into(),
        who.pid.into(),
        who.user.as_str().into(),
        who.application_name.as_str().into(),
        who.client.as_str().into(),
        who.state.as_str().into(),
        age(who.transaction_age_ms),
        match who.bypass {
            true => "past pgdrain".into(),
            false => "through pgdrain".into(),
        },
    ]
}

/// `SHOW WINDOWS`
pub(super) fn windows(windows: &WindowViews) -> Vec<Row> {
    let rows = windows.windows.iter().map(|window| {
        vec![
            window.id.as_str().into(),
            window.database.as_str().into(),
            window.mode.as_str().into(),
            window.state.as_str().into(),
            window.by.as_str().into(),
            window.reason.clone().into(),
            window.since.into(),
            age(window.left_ms),
            age(window.lease_left_ms),
            window.drained_percent.map(i32::from).into(),
            window.held.into(),
            window.connections_now.into(),
            window.detail.clone().into(),
        ]
    });
    rows.collect()
}

/// `SHOW MIGRATIONS`
pub(super) fn migrations(migrations: &Migrations) -> Vec<Row> {
    let rows = migrations.migrations.iter().map(|run| {
        vec![
            run.id.as_str().into(),
            run.database.as_str().into(),
            run.direction.as_str().into(),
            run.state.as_str().into(),
            run.started_at.into(),
            run.by.as_str().into(),
            run.exit_code.map(i32::from).into(),
        ]
    });
    rows.collect()
}

/// `SHOW EVENTS`: the last ones, oldest first.
pub(super) async fn events<A: Api>(
    desk: &Desk<A>,
    count: Option<&str>,
) -> Result<Vec<Row>, Complaint> {
    let count = match count.map(str::parse::<u64>) {
        None => EVENTS,
        Some(Ok(count)) => count.min(EVENTS_MAX),
        Some(Err(_none)) => return Err(Complaint::value("SHOW EVENTS takes a number")),
    };
    // Only how many there were; none is behind the last.
    let last = desk.api.events(u64::MAX, Duration::ZERO).await.last;
    let after = last.saturating_sub(count);
    let events = desk.api.events(after, Duration::ZERO).await.events;
    let rows = events.into_iter().map(|told| {
        let event = told.event;
        vec![
            told.id.into(),
            told.at.into(),
            event.kind.as_str().into(),
            event.database.into(),
            event.by.into(),
            event.from.into(),
            event.before.into(),
            event.after.into(),
            event.outcome.into(),
            event.reason.into(),
        ]
    });
    Ok(rows.collect())
}

/// `SHOW PRECHECK db`
pub(super) async fn precheck<A: Api>(desk: &Desk<A>, database: &str) -> Vec<Row> {
    let precheck = desk
        .api
        .precheck(database.to_owned(), PrecheckQuery::default());
    let rows = precheck.await.findings.into_iter().map(|finding| {
        vec![
            finding.kind.as_str().into(),
            if finding.blocks { "yes" } else { "no" }.into(),
            finding.what.into(),
            finding.owner.into(),
            age(finding.age_ms),
            finding.gentle.as_str().into(),
            finding.firm.as_str().into(),
            finding.force.as_str().into(),
        ]
    });
    rows.collect()
}

fn of<'a>(status: &'a Status, only: Option<&'a str>) -> impl Iterator<Item = &'a DatabaseStatus> {
    let databases = status.databases.iter();
    databases.filter(move |it| only.is_none_or(|name| it.database == name))
}

/// How long something takes already, for people: exact below ten seconds.
pub(super) fn age(ms: Option<u64>) -> Value {
    let shown = ms.map(|ms| {
        let rounded = if ms < 10_000 { ms } else { ms / 1000 * 1000 };
        HumanDuration(Duration::from_millis(rounded)).to_string()
    });
    shown.into()
}
