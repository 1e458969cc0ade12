//! One thing looked at closely: a migration step by step, what sessions run, what statements take, the last
//! minutes of a database.

use std::collections::BTreeMap;
use std::time::Duration;

use super::ours::age;
use crate::admin::api::{Api, Databases};
use crate::admin::caller::Caller;
use crate::admin::console::complaint::Complaint;
use crate::admin::console::desk::Desk;
use crate::admin::console::value::{Row, Value};
use crate::admin::types::{PIDS_MAX, PaceView, SessionView, SessionsQuery, StatementsView};
use crate::config::HumanDuration;
use crate::runner::types::EventKind;

/// Statements that are shown, those that took most time together.
const STATEMENTS: usize = 50;

/// Kinds of errors that are named of a statement.
const ERRORS: usize = 3;

/// `SHOW MIGRATION id`
pub(super) async fn migration<A: Api>(desk: &Desk<A>, id: &str) -> Result<Vec<Row>, Complaint> {
    let run = desk.api.migration(id.to_owned(), 0, Duration::ZERO).await?;
    let rows = run.events.into_iter().map(|event| {
        vec![
            event.seq.into(),
            event.at.into(),
            word(event.kind).into(),
            event.text.into(),
        ]
    });
    Ok(rows.collect())
}

/// As it stands in the JSON.
fn word(kind: EventKind) -> Option<String> {
    let word = serde_json::to_value(kind).ok()?;
    word.as_str().map(str::to_owned)
}

/// `SHOW APPROVALS db`
pub(super) async fn approvals<A: Api>(
    desk: &Desk<A>,
    database: &str,
) -> Result<Vec<Row>, Complaint> {
    let approvals = desk.api.approvals(database.to_owned(), None).await?;
    let rows = approvals.approvals.into_iter().map(|it| {
        vec![
            it.id.into(),
            it.plan.into(),
            it.role.into(),
            it.by.into(),
            it.at.into(),
            it.expires_at.into(),
            it.standing.as_str().into(),
            it.reason.into(),
        ]
    });
    Ok(rows.collect())
}

/// `SHOW RUNNING db`: sessions in a transaction, the oldest first.
pub(super) async fn running<A: Api>(
    desk: &Desk<A>,
    caller: &Caller,
    database: &str,
) -> Result<Vec<Row>, Complaint> {
    let one = Databases::One(database.to_owned());
    let all = desk.api.sessions(one, SessionsQuery::default()).await?;
    let inside = all.sessions.into_iter();
    let mut inside: Vec<SessionView> = inside
        .filter(|it| it.transaction_age_ms.is_some() && it.pid.is_some())
        .collect();
    inside.sort_by_key(|it| std::cmp::Reverse(it.transaction_age_ms));
    inside.truncate(PIDS_MAX);
    let pids: Vec<i32> = inside.iter().filter_map(|it| it.pid).collect();
    if pids.is_empty() {
        return Ok(Vec::new());
    }
    let ran = desk.api.running(database.to_owned(), pids).await?;
    let ran = caller.as_seen(ran);
    let ran: BTreeMap<i32, _> = ran.statements.iter().map(|it| (it.pid, it)).collect();
    let rows = inside.iter().map(|session| {
        let statement = session.pid.and_then(|pid| ran.get(&pid));
        let blocked_by = statement.map(|it| {
            let pids: Vec<String> = it.blocked_by.iter().map(ToString::to_string).collect();
            pids.join(" ")
        });
        vec![
            session.id.into(),
            session.pid.into(),
            session.user.as_str().into(),
            session.application_name.as_str().into(),
            session.client.as_str().into(),
            session.state.as_str().into(),
            age(session.transaction_age_ms),
            statement
                .map(|it| if it.running { "yes" } else { "no" })
                .into(),
            statement.and_then(|it| it.waits_for.clone()).into(),
            blocked_by.filter(|pids| !pids.is_empty()).into(),
            statement.and_then(|it| it.text.clone()).into(),
        ]
    });
    Ok(rows.collect())
}

/// `SHOW STATEMENTS db`: all of them together first.
pub(super) async fn statements<A: Api>(desk: &Desk<A>, database: &str) -> Vec<Row> {
    let view = desk.api.statements(database.to_owned(), STATEMENTS).await;
    measured(&view)
}

fn measured(view: &StatementsView) -> Vec<Row> {
    let measured = &view.measured;
    if measured.units == 0 {
        return Vec::new();
    }
    let row = |latency: &crate::metrics::statements::Histogram,
               errors: &BTreeMap<String, u64>,
               fingerprint: Option<&str>,
               text: &str| {
        let ms = |time: Option<f64>| Value::from(time.map(|time| format!("{time:.2}ms")));
        vec![
            latency.count.into(),
            ms(latency.mean_ms()),
            ms(latency.quantile_ms(0.5)),
            ms(latency.quantile_ms(0.99)),
            most_frequent(errors).into(),
            fingerprint.into(),
            text.into(),
        ]
    };
    let all = row(&measured.latency, &measured.errors, None, "(all)");
    let each = measured.statements.iter().map(|it| {
        let fingerprint = Some(it.fingerprint.as_str());
        row(&it.latency, &it.errors, fingerprint, &it.text)
    });
    std::iter::once(all).chain(each).collect()
}

/// SQLSTATEs and how often they were told; nothing for none.
fn most_frequent(errors: &BTreeMap<String, u64>) -> Option<String> {
    let mut all: Vec<_> = errors.iter().collect();
    all.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    let named = all.iter().take(ERRORS);
    let named: Vec<String> = named
        .map(|(state, count)| format!("{state} {count}"))
        .collect();
    (!named.is_empty()).then(|| named.join(", "))
}

/// `SHOW PACE db`
pub(super) async fn pace<A: Api>(desk: &Desk<A>, database: &str) -> Result<Vec<Row>, Complaint> {
    Ok(paced(&desk.api.pace(database.to_owned()).await?))
}

/// A row a look, the newest last. Transactions are those that ended since the look before.
fn paced(pace: &PaceView) -> Vec<Row> {
    let looks = pace.running.len();
    let rows = (0..looks).map(|at| {
        let behind = u64::try_from(looks - 1 - at).unwrap_or(0);
        let ago = Duration::from_millis(behind * pace.every_ms);
        let total = |at: usize| pace.transactions.get(at).copied().flatten();
        let before = at.checked_sub(1).and_then(total);
        let ended = total(at)
            .zip(before)
            .map(|(now, then)| now.saturating_sub(then));
        vec![
            HumanDuration(ago).to_string().into(),
            pace.running.get(at).map(|it| u64::from(*it)).into(),
            age(pace.longest_ms.get(at).copied()),
            pace.waiting.get(at).copied().into(),
            ended.into(),
        ]
    });
    rows.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_minutes_are_a_row_a_look() {
        let rows = paced(&PaceView {
            database: "shop".to_owned(),
            every_ms: 5_000,
            running: vec![1, 2, 0],
            longest_ms: vec![10, 20_500, 0],
            waiting: vec![0, 0, 7],
            transactions: vec![Some(10), None, Some(30)],
            latency_us: vec![None; 3],
        });
        assert_eq!(rows.len(), 3);
        assert_eq!(rows[0][0], Value::from("10s"));
        assert_eq!(rows[1][2], Value::from("20s"));
        assert_eq!(rows[2][3], Value::from(7_u64));
        // Where one of two looks did not count, the difference is not known.
        assert_eq!(rows[1][4], Value::Null);
        assert_eq!(rows[2][4], Value::Null);
    }

    #[test]
    fn the_most_frequent_errors_are_named() {
        let of = |all: &[(&str, u64)]| {
            let all = all
                .iter()
                .map(|(state, count)| ((*state).to_owned(), *count));
            most_frequent(&all.collect())
        };
        assert_eq!(of(&[]), None);
        let four = of(&[("40001", 1), ("57014", 9), ("23505", 2), ("42601", 3)]);
        assert_eq!(four.as_deref(), Some("57014 9, 42601 3, 23505 2"));
    }
}
