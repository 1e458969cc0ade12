//! Orders: which words are which, who may, and what is wrong with others.

use super::*;
use crate::admin::console::command::{self, Command};
use crate::admin::types::After;

fn order(text: &str) -> Order {
    let command = command::read(text).expect(text).remove(0);
    let Command::Order(order) = command else {
        panic!("{text}: {command:?}");
    };
    order
}

#[test]
fn words_are_orders_with_their_tags_and_needs() {
    let id = || "w1".to_owned();
    let session = |word, action, reason: Option<&str>| Order::Session {
        word,
        action,
        id: 7,
        request: ActionRequest {
            reason: reason.map(str::to_owned),
            by: None,
        },
    };
    let window = |command| Order::Window { id: id(), command };
    for (text, expected, tag, needs) in [
        ("RELOAD", Order::Reload, "RELOAD", "administer"),
        (
            "shutdown;",
            Order::Shutdown(Shutdown::Now),
            "SHUTDOWN",
            "administer",
        ),
        (
            "SHUTDOWN wait_for_servers",
            Order::Shutdown(Shutdown::AfterTransactions),
            "SHUTDOWN",
            "administer",
        ),
        (
            "SHUTDOWN WAIT_FOR_CLIENTS",
            Order::Shutdown(Shutdown::AfterClients),
            "SHUTDOWN",
            "administer",
        ),
        (
            "CANCEL SESSION 7",
            session("CANCEL SESSION", Action::Cancel, None),
            "CANCEL SESSION",
            "hold",
        ),
        (
            "abort session 7 reason 'Idle'",
            session("ABORT SESSION", Action::Abort, Some("Idle")),
            "ABORT SESSION",
            "hold",
        ),
        (
            "TERMINATE SESSION 7",
            session("TERMINATE SESSION", Action::Terminate, None),
            "TERMINATE SESSION",
            "hold",
        ),
        (
            "KILL_CLIENT 7",
            session("KILL_CLIENT", Action::Terminate, None),
            "KILL_CLIENT",
            "hold",
        ),
        (
            "RENEW WINDOW w1",
            window(WindowDo::Renew),
            "RENEW WINDOW",
            "hold",
        ),
        (
            "finish window 'w1'",
            window(WindowDo::Finish),
            "FINISH WINDOW",
            "hold",
        ),
        (
            "ABORT WINDOW w1",
            window(WindowDo::Abort(None)),
            "ABORT WINDOW",
            "hold",
        ),
        (
            "CANCEL MIGRATION w1",
            Order::CancelMigration { id: id() },
            "CANCEL MIGRATION",
            "hold",
        ),
        (
            "ACKNOWLEDGE MIGRATION w1",
            Order::Acknowledge { id: id() },
            "ACKNOWLEDGE MIGRATION",
            "hold",
        ),
        (
            "MEASURE w1 OFF",
            Order::Measure {
                database: id(),
                request: MeasureRequest {
                    lasting: HumanDuration(Duration::ZERO),
                    one_in: None,
                },
            },
            "MEASURE",
            "hold",
        ),
    ] {
        let order = order(text);
        assert_eq!(order, expected, "{text}");
        assert_eq!(order.tag(), tag, "{text}");
        let needed: Vec<_> = order.needs().iter().map(|it| it.as_str()).collect();
        assert_eq!(needed, [needs], "{text}");
    }
}

#[test]
fn what_is_said_besides_is_in_the_request() {
    let Order::Window { command, .. } = order("ABORT WINDOW w1 THEN stay") else {
        panic!("a window");
    };
    assert_eq!(command, WindowDo::Abort(Some(After::Stay)));
    let Order::Measure { request, .. } = order("measure shop for 10m") else {
        panic!("a measure");
    };
    assert_eq!(request.lasting, HumanDuration(Duration::from_secs(600)));
    let Order::Approve { database, request } =
        order("APPROVE shop PLAN 1F6d AS 'Lead' FOR 1h REASON 'seen'")
    else {
        panic!("an approval");
    };
    assert_eq!(database, "shop");
    assert_eq!(
        (request.plan.as_str(), request.role.as_str()),
        ("1F6d", "Lead")
    );
    assert_eq!(
        request.expires,
        Some(HumanDuration(Duration::from_secs(3600)))
    );
    assert_eq!(request.reason.as_deref(), Some("seen"));
    let Order::Revoke { request, .. } = order("REVOKE shop AS dba PLAN 1f6d") else {
        panic!("a revocation");
    };
    assert_eq!(request.role, "dba");
}

#[test]
fn sqls_abort_is_a_rollback_and_no_other_is() {
    for text in ["ABORT", "abort work", "ABORT TRANSACTION AND NO CHAIN"] {
        assert_eq!(command::read(text), Ok(vec![Command::Rollback]), "{text}");
    }
    for text in ["ABORT 7", "ABORT SESION 7", "ABORT window"] {
        let complaint = command::read(text).expect_err(text);
        assert_eq!(complaint.sqlstate, "42601", "{text}");
    }
}

#[test]
fn what_is_wrong_is_told() {
    for (text, sqlstate, message) in [
        ("CANCEL 7", "42601", "SESSION id or MIGRATION id"),
        ("TERMINATE", "42601", "SESSION id"),
        ("KILL_CLIENT", "42601", "needs an id"),
        ("KILL_CLIENT x", "22023", "no number of a session"),
        (
            "CANCEL SESSION 7 FORCE",
            "42601",
            "no option of CANCEL SESSION",
        ),
        ("RENEW shop", "42601", "WINDOW id"),
        ("FINISH WINDOW", "42601", "needs an id"),
        ("FINISH WINDOW w1 now", "42601", "not expected"),
        ("ABORT WINDOW w1 THEN shut", "22023", "THEN: "),
        ("SHUTDOWN now", "42601", "no way to shut down"),
        ("SHUTDOWN WAIT_FOR_CLIENTS x", "42601", "not expected"),
        ("RELOAD shop", "42601", "not expected"),
        ("APPROVE shop PLAN x", "42601", "a plan and a role"),
        ("MEASURE shop", "42601", "a time, or OFF"),
        ("MEASURE shop FOR 5", "22023", "FOR: "),
        ("ACKNOWLEDGE m1", "42601", "MIGRATION id"),
    ] {
        let complaint = command::read(text).expect_err(text);
        assert_eq!(complaint.sqlstate, sqlstate, "{text}: {complaint:?}");
        assert!(complaint.message.contains(message), "{text}: {complaint:?}");
    }
}

#[test]
fn a_reload_says_what_applies_when() {
    let of = |now: &[&str], restart: &[&str]| {
        let words = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect();
        let told = reloaded(&ConfigReloaded {
            now: words(now),
            restart: words(restart),
            warnings: vec!["look".to_owned()],
        });
        assert_eq!(told[0], Notice::warning("look".to_owned()));
        told.len() - 1
    };
    assert_eq!(of(&[], &[]), 1);
    assert_eq!(of(&["hold.for"], &[]), 1);
    assert_eq!(of(&["hold.for"], &["workers"]), 2);
}
