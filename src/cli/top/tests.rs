//! What is drawn of what is known, on a terminal in memory, and what keys mean.

use jiff::Timestamp;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use serde_json::{Value, json};

use super::draw;
use super::order::{Action, Order};
use super::pane::{Asked, Told};
use super::view::{Key, News, View, Wish};
use crate::admin::types::Action as SessionAction;
use crate::config::{AskedCap, Preset};

/// When the answer came; the same for pgdrain, which started a minute before.
const NOW: &str = "2026-01-02T03:06:00Z";

fn at(time: &str) -> Timestamp {
    time.parse().expect("a time")
}

fn database(name: &str, mode: &str, total: u64, holds: Value) -> Value {
    let held = if mode == "hold" { 63 } else { 0 };
    json!({
        "database": name, "mode": mode, "sessions": 64, "in_transaction": 1, "held": held,
        "oldest_wait_ms": if held > 0 { json!(1234) } else { Value::Null }, "permits": 1,
        "transactions_total": total, "migration": Value::Null, "holds": holds
    })
}

/// A hold that began a minute ago, has four to go, and has one in its way.
fn hold(outcome: &str) -> Value {
    json!([{
        "holder": "operator", "mode": "hold", "generation": 3, "since": "2026-01-02T03:05:00Z",
        "until": "2026-01-02T03:10:00Z", "then": "open", "blocked": "queue", "by": "alice",
        "reason": "new index", "overdue": false, "drain": {
            "outcome": outcome, "step": "wait", "held_at": "2026-01-02T03:05:00Z",
            "last_permit_released_at": null, "drained_at": null, "waited_for": [],
            "cancelled": [], "terminated": [], "bypass": [], "detail": "one transaction still runs",
            "in_the_way": [{
                "pid": 4711, "user": "app", "application_name": "worker\u{1b}[2J",
                "client": "10.0.0.7:50122", "state": "in_transaction", "transaction_age_ms": 95_000,
                "statement_started_at": null
            }]
        }
    }])
}

fn news(uptime_ms: u64, databases: Value) -> News {
    let status = json!({
        "version": "0.1.0", "started_at": "2026-01-02T03:05:00Z", "uptime_ms": uptime_ms,
        "listen": ["127.0.0.1:6432"], "upstream": "127.0.0.1:5432", "state_dir": "/x",
        "databases": databases
    });
    News {
        status: serde_json::from_value(status).expect("a status"),
        windows: Vec::new(),
        runs: Vec::new(),
        told: Told::Nothing,
    }
}

fn view() -> View {
    View::new("http://127.0.0.1:6433", None, true, at(NOW))
}

/// A view of two databases, the second of which is held.
fn held() -> View {
    let mut view = view();
    let databases = |total| {
        json!([
            database("blog", "open", total, json!([])),
            database("shop", "hold", total, hold("draining"))
        ])
    };
    view.hear(news(58_000, databases(1_000)), at(NOW));
    view.hear(news(60_000, databases(1_500)), at(NOW));
    view
}

/// The frame as text.
fn drawn_in(view: &View, now: &str, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("in memory");
    terminal
        .draw(|frame| draw::draw(view, at(now), frame))
        .expect("in memory");
    terminal.backend().to_string()
}

fn drawn(view: &View) -> String {
    drawn_in(view, NOW, 80, 24)
}

/// Each of these is there, wherever lines are broken.
fn check(text: &str, parts: &[&str]) {
    let lines = text.lines().map(|line| line.trim_matches('"'));
    let words: Vec<_> = lines.flat_map(str::split_whitespace).collect();
    let words = words.join(" ");
    for part in parts {
        assert!(words.contains(part), "{part} in\n{text}");
    }
}

#[test]
fn a_frame_says_who_holds_what_until_when_and_who_is_in_the_way() {
    let mut view = held();
    assert_eq!(view.press(Key::Down), Wish::Nothing);
    let text = drawn(&view);
    check(
        &text,
        &[
            "pgdrain 0.1.0 up 1m, 127.0.0.1:6432 -> 127.0.0.1:5432, 03:06:00Z",
            "tx/s blog open 64",
            "> shop hold 64",
            "── shop ─",
            "held since 03:05:00Z (1m) by operator (alice), \"new index\"",
            "until 03:10:00Z",
            "(4m left), then open",
            "250.0 transactions a second",
            "63 clients wait, the longest for 1s 234ms",
            "draining, step wait: one transaction still runs",
            "4711 app worker\\u{1b}[2J 10.0.0.7:50122 in_transaction 1m 35s",
            "q quit",
        ],
    );
    // The countdown goes on between two answers.
    check(
        &drawn_in(&view, "2026-01-02T03:06:30Z", 80, 24),
        &["(3m 30s left)"],
    );
}

#[test]
fn a_window_and_a_migration_are_followed() {
    let mut view = view();
    let mut shop = database("shop", "hold", 1, json!([]));
    shop["migration"] = json!("m1");
    let mut look = news(60_000, json!([shop]));
    let window = json!({
        "id": "w1", "database": "shop", "mode": "exclusive", "term": 1, "state": "exclusive",
        "seq": 1, "by": "alice", "reason": "nightly", "since": NOW, "position": null,
        "lease_left_ms": 25_000, "left_ms": 252_000, "on_lost": "reopen", "why": null, "after": null,
        "detail": null, "connections_allowed": null, "connections_used": 2, "connections_now": 2,
        "held": 63, "drained_percent": 100, "drain": null
    });
    look.windows = vec![serde_json::from_value(window).expect("a window")];
    let event = |seq: u64, kind: &str, text: &str, data: Value| json!({ "seq": seq, "at": NOW, "kind": kind, "text": text, "data": data });
    let run = json!({
        "id": "m1", "database": "shop", "direction": "up", "state": "applying", "exit_code": null,
        "report": null, "events": [
            event(1, "file_started", "2_x", json!({ "file": "2_x.up.sql", "statements": 4 })),
            event(2, "statement", "", json!({ "statement": 1, "of": 4 })),
            event(3, "watch", "3 sessions are blocked", Value::Null)
        ]
    });
    look.runs = vec![serde_json::from_value(run).expect("a run")];
    view.hear(look, at(NOW));
    check(
        &drawn_in(&view, "2026-01-02T03:06:02Z", 80, 24),
        &[
            "w1 exclusive by alice, 4m 10s left, lease 23s, drained 100 %, 2 inside",
            "\"nightly\"",
            "m1 applying, 2_x.up.sql [#####...............] 1 of 4",
            "3 sessions are blocked",
        ],
    );
    // It is over: nothing is left of it.
    view.hear(
        news(61_000, json!([database("shop", "open", 2, json!([]))])),
        at(NOW),
    );
    let text = drawn(&view);
    assert!(!text.contains("m1") && !text.contains("w1"), "{text}");
}

#[test]
fn an_order_is_asked_first_and_says_what_clients_will_see() {
    let mut view = held();
    for (key, order, said) in [
        ('h', "hold blog? ", "who begins one waits"),
        ('r', "read-only blog? ", "Reads go on"),
    ] {
        assert_eq!(view.press(Key::Letter(key)), Wish::Nothing);
        check(
            &drawn(&view),
            &[order, said, "y does it, any other key does not"],
        );
        assert_eq!(view.press(Key::Other), Wish::Nothing);
        check(&drawn(&view), &["not done: "]);
    }
    // What makes no sense is not asked.
    view.press(Key::Letter('o'));
    check(&drawn(&view), &["blog is open"]);
    view.press(Key::Letter('t'));
    check(&drawn(&view), &["no drain is under way in blog"]);

    view.press(Key::Down);
    view.press(Key::Letter('t'));
    check(
        &drawn(&view),
        &["force shop? ", "1 sessions in the way", "57P01"],
    );
    let order = Order {
        database: "shop".to_owned(),
        action: Action::Ladder(Preset::Force),
    };
    assert_eq!(view.press(Key::Letter('y')), Wish::Do(order));
    view.press(Key::Letter('o'));
    check(
        &drawn(&view),
        &["63 clients that wait (1s 234ms the longest) go on"],
    );
    // While it asks, q is an answer.
    assert_eq!(view.press(Key::Letter('q')), Wish::Nothing);
    assert_eq!(view.press(Key::Letter('q')), Wish::Quit);
    assert_eq!(view.press(Key::Interrupt), Wish::Interrupted);
}

#[test]
fn who_does_not_answer_is_plain_and_is_asked_for_nothing() {
    let mut view = held();
    view.press(Key::Letter('h'));
    view.lose("no pgdrain answers".to_owned(), at("2026-01-02T03:06:01Z"));
    view.lose("no pgdrain answers".to_owned(), at("2026-01-02T03:06:02Z"));
    check(
        &drawn(&view),
        &["NO ANSWER since 03:06:01Z; what is shown is from before. no pgdrain answers"],
    );
    // The question is gone with the answerer: y is no yes to it.
    assert_eq!(view.press(Key::Letter('y')), Wish::Nothing);
    view.press(Key::Letter('h'));
    check(&drawn(&view), &["nobody answers: nothing can be done"]);
    assert_eq!(view.asked, None);
    view.hear(news(61_000, json!([])), at(NOW));
    let text = drawn(&view);
    assert!(!text.contains("NO ANSWER"), "{text}");
    check(&text, &["no client has come yet"]);
}

#[test]
fn a_frame_fits_whatever_its_size_and_needs_no_colours() {
    let mut view = held();
    view.colours = false;
    view.press(Key::Letter('h'));
    for (width, height) in [(80, 24), (40, 10), (200, 60), (1, 1), (3, 2)] {
        drawn_in(&view, NOW, width, height);
    }
    let mut terminal = Terminal::new(TestBackend::new(80, 24)).expect("in memory");
    terminal
        .draw(|frame| draw::draw(&view, at(NOW), frame))
        .expect("in memory");
    let coloured = |cell: &ratatui::buffer::Cell| cell.fg != ratatui::style::Color::Reset;
    assert!(!terminal.backend().buffer().content().iter().any(coloured));
}

#[test]
fn many_databases_are_scrolled_to_the_one_that_is_chosen() {
    let mut view = view();
    let all: Vec<_> = (0..30)
        .map(|n| database(&format!("db{n:02}"), "open", 1, json!([])))
        .collect();
    view.hear(news(60_000, json!(all)), at(NOW));
    for _ in 0..40 {
        view.press(Key::Down);
    }
    check(&drawn(&view), &["> db29", "── db29 ─"]);
    for _ in 0..40 {
        view.press(Key::Up);
    }
    check(&drawn(&view), &["> db00", "── db00 ─"]);
}

#[test]
fn windows_caps_and_migrations_are_ordered_by_their_keys() {
    let mut view = held();
    for (key, said) in [
        ('w', "there is no window in blog"),
        ('m', "no migration runs in blog"),
        ('O', "blog is open"),
    ] {
        assert_eq!(view.press(Key::Letter(key)), Wish::Nothing);
        check(&drawn(&view), &[said]);
        assert_eq!(view.asked, None, "{key}");
    }
    view.press(Key::Letter('c'));
    check(&drawn(&view), &["cap blog? ", "Half as many transactions"]);
    let order = |database: &str, action| Order {
        database: database.to_owned(),
        action,
    };
    let half = order("blog", Action::Cap(AskedCap::Percent(50)));
    assert_eq!(view.press(Key::Letter('y')), Wish::Do(half));

    let mut capped = database("shop", "hold", 2_000, hold("draining"));
    capped["cap"] = json!({ "transactions": 5, "until": null, "by": "ann", "reason": "" });
    capped["migration"] = json!("m1");
    let mut look = news(61_000, json!([capped]));
    let window = json!({
        "id": "w1", "database": "shop", "mode": "exclusive", "term": 4, "state": "exclusive",
        "seq": 1, "by": "alice", "reason": null, "since": NOW, "position": null,
        "lease_left_ms": 24_000, "left_ms": 250_000, "on_lost": "reopen", "why": null,
        "after": null, "detail": null, "connections": 1, "connections_used": 1,
        "connections_now": 1, "held": 63, "drained_percent": 100, "drain": null
    });
    look.windows = vec![serde_json::from_value(window).expect("a window")];
    view.hear(look, at(NOW));
    for (key, question, action) in [
        ('c', "no cap on shop? ", Action::Cap(AskedCap::Off)),
        (
            'w',
            "abort window w1? ",
            Action::AbortWindow {
                id: "w1".to_owned(),
                term: 4,
            },
        ),
        (
            'm',
            "cancel migration m1? ",
            Action::CancelMigration("m1".to_owned()),
        ),
        ('O', "open by force shop? ", Action::OpenByForce),
    ] {
        view.press(Key::Letter(key));
        check(&drawn(&view), &[question]);
        assert_eq!(
            view.press(Key::Letter('y')),
            Wish::Do(order("shop", action))
        );
    }
}

#[test]
fn a_session_is_marked_before_anything_is_done_to_it() {
    let mut view = held();
    assert_eq!(view.press(Key::Letter('s')), Wish::Look);
    assert_eq!(
        view.pane.asks(Some("blog")),
        Asked::Sessions("blog".to_owned())
    );
    let session = |id: u64| {
        json!({
            "id": id, "pid": 4711, "database": "blog", "user": "app",
            "application_name": "web\u{1b}[2J", "client": "10.0.0.7:50122",
            "state": "in_transaction", "connected_at": NOW, "transaction_age_ms": 95_000,
            "statement_started_at": null, "held_ms": null, "transactions": 1, "bytes_in": 1,
            "bytes_out": 1, "server": "db:5432"
        })
    };
    let sessions = |ids: &[u64]| {
        let all: Vec<_> = ids.iter().map(|id| session(*id)).collect();
        Told::Sessions(serde_json::from_value(json!(all)).expect("sessions"))
    };
    let many: Vec<u64> = (1..60).collect();
    view.pane.hear(sessions(&many));
    view.press(Key::Letter('x'));
    check(
        &drawn(&view),
        &["no session is marked", "── blog ── sessions ──"],
    );
    for _ in 0..40 {
        view.press(Key::Down);
    }
    check(&drawn(&view), &["> 40 4711 in_transaction 1m 35s app web"]);
    for (key, question, action) in [
        ('c', "cancel session 40? 57014", SessionAction::Cancel),
        ('a', "abort session 40? 40001", SessionAction::Abort),
        ('x', "terminate session 40? 57P01", SessionAction::Terminate),
    ] {
        view.press(Key::Letter(key));
        check(&drawn(&view), &[question]);
        let order = Order {
            database: "blog".to_owned(),
            action: Action::Session(40, action),
        };
        assert_eq!(view.press(Key::Letter('y')), Wish::Do(order));
    }
    // It ends: whoever is in its place is not meant.
    view.pane.hear(sessions(&[41, 42]));
    view.press(Key::Letter('x'));
    check(&drawn(&view), &["no session is marked"]);
    // An answer is read to its end.
    view.answered(format!(
        "abort session 40: {} the end",
        "Nothing was done. ".repeat(8)
    ));
    check(&drawn(&view), &["Nothing was done. the end"]);
    // Letters of the other half mean nothing here.
    assert_eq!(view.press(Key::Letter('h')), Wish::Nothing);
    assert_eq!(view.asked, None);
    view.press(Key::Leave);
    check(&drawn(&view), &["h hold"]);
}

#[test]
fn what_would_be_in_the_way_is_asked_once_and_shown() {
    let mut view = held();
    assert_eq!(view.press(Key::Letter('p')), Wish::Look);
    check(&drawn(&view), &["asking ..."]);
    let asked = Asked::Precheck("blog".to_owned());
    assert_eq!(view.pane.asks(Some("blog")), asked);
    let precheck = json!({
        "database": "blog", "go": false, "mode": "exclusive", "ladder": "gentle",
        "bypass": "ignore",
        "findings": [{
            "kind": "idle_in_transaction", "blocks": true, "what": "session 7",
            "owner": "app web", "age_ms": 95_000, "gentle": "waits", "firm": "aborts",
            "force": "aborts"
        }],
        "expected": {
            "seconds": 60, "drain_p50_ms": 5, "drain_p90_ms": 12, "drain_max_ms": 250,
            "transactions_per_second": 12.0, "sessions": 10, "held_after_p90": 1
        }
    });
    view.pane.hear(Told::Precheck(
        serde_json::from_value(precheck).expect("a precheck"),
    ));
    check(
        &drawn(&view),
        &[
            "no-go: exclusive, ladder gentle",
            "! idle_in_transaction: session 7 app web 1m 35s",
            "a drain takes 5ms (half of them), 12ms (nine of ten), at most 250ms",
        ],
    );
    assert_eq!(view.pane.asks(Some("blog")), Asked::Nothing);
    view.press(Key::Down);
    assert_eq!(
        view.pane.asks(view.chosen.as_deref()),
        Asked::Precheck("shop".to_owned())
    );
}
