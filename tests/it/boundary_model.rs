//! The tracker of transaction boundaries against a model of a server, on random conversations that
//! are cut into random chunks and cross each other on the way.
//!
//! The relay itself is played with the same conversations, while a gate closes and opens and a drain
//! does what it does to sessions. The fuzz target `conversation` plays scripts of any kind on the same model. These keep to the
//! protocol, so that the tracker must take a session for quiescent when it is.

use proptest::collection::vec;
use proptest::prelude::*;

use crate::model::relayed;
use crate::model::tracked::play;

/// What the server does with a statement.
fn does() -> impl Strategy<Value = &'static str> {
    prop_oneof![
        4 => Just("s"),
        1 => Just("x"),
        1 => Just("b"),
        1 => Just("k"),
        1 => Just("o"),
        1 => Just("u"),
        1 => Just("n"),
    ]
}

fn succeeds_mostly() -> impl Strategy<Value = &'static str> {
    prop_oneof![8 => Just("s"), 1 => Just("x"), 1 => Just("n")]
}

/// One act of a client.
type Act = String;

fn send(tag: &'static str) -> impl Fn(&'static str) -> Act {
    move |does| format!("{tag}{does}")
}

/// The data of a COPY, sent at once or when it was asked for, and how it ends.
fn copy() -> impl Strategy<Value = Vec<Act>> {
    let waits = prop_oneof![Just(None), Just(Some("w"))];
    let data = vec(succeeds_mostly().prop_map(send("d")), 0..4);
    let end = prop_oneof![3 => Just("c"), 1 => Just("f")];
    (waits, data, end).prop_map(|(waits, data, end)| {
        let waits = waits.map(str::to_owned).into_iter();
        waits.chain(data).chain([end.to_owned()]).collect()
    })
}

/// Extended messages, mostly with a Sync behind them.
fn batch() -> impl Strategy<Value = Vec<Act>> {
    let one = prop_oneof![
        3 => succeeds_mostly().prop_map(send("P")),
        3 => succeeds_mostly().prop_map(send("B")),
        2 => succeeds_mostly().prop_map(send("D")),
        3 => does().prop_map(send("E")),
        1 => Just("C".to_owned()),
        1 => Just("H".to_owned()),
        1 => does().prop_map(send("Q")),
    ];
    let sync = prop_oneof![4 => Just(Some("S")), 1 => Just(None)];
    (vec(one, 0..6), sync).prop_map(|(mut acts, sync)| {
        acts.extend(sync.map(str::to_owned));
        acts
    })
}

/// COPY IN by Query, alone or as the last of several statements.
fn simple_copy() -> impl Strategy<Value = Vec<Act>> {
    let before = prop_oneof![2 => Just(""), 1 => Just("s"), 1 => Just("b")];
    (before, 0..3usize, copy()).prop_map(|(before, syncs, copy)| {
        let mut acts = vec![format!("Q{before}i")];
        acts.extend(vec!["S".to_owned(); syncs]);
        acts.extend(copy);
        acts
    })
}

/// COPY IN by Execute: libpq sends a Sync behind the Execute, which the server ignores, and another
/// one behind the data.
fn extended_copy() -> impl Strategy<Value = Vec<Act>> {
    let parse = prop_oneof![4 => Just("P"), 1 => Just("Px")];
    (parse, 0..3usize, copy()).prop_map(|(parse, syncs, copy)| {
        let mut acts: Vec<Act> = [parse, "B", "Ei"].map(str::to_owned).into();
        acts.extend(vec!["S".to_owned(); syncs]);
        acts.extend(copy);
        acts.push("S".to_owned());
        acts
    })
}

fn several() -> impl Strategy<Value = Act> {
    vec(does(), 2..4).prop_map(|does| format!("Q{}", does.concat()))
}

fn conversation() -> impl Strategy<Value = Vec<Act>> {
    let part = prop_oneof![
        3 => does().prop_map(|does| vec![send("Q")(does)]),
        1 => several().prop_map(|query| vec![query]),
        1 => succeeds_mostly().prop_map(|does| vec![send("F")(does)]),
        4 => batch(),
        3 => simple_copy(),
        2 => extended_copy(),
        1 => Just(vec!["S".to_owned()]),
        1 => Just(vec!["d".to_owned()]),
    ];
    vec(part, 1..8).prop_map(|parts| parts.concat())
}

/// Who goes on next, and by how much; `_` is the client.
fn turn() -> impl Strategy<Value = &'static str> {
    prop_oneof![
        4 => Just("_"),
        4 => prop::sample::select(vec!["}", ")", "]", ">"]),
        4 => prop::sample::select(vec!["{", "(", "[", "<"]),
        4 => prop::sample::select(vec![".", ","]),
        1 => prop::sample::select(vec!["N", "h", "j", "g", "|"]),
    ]
}

/// The same, with a drain behind a gate: `a` aborts, `l` frees.
fn turn_of_a_drain() -> impl Strategy<Value = &'static str> {
    prop_oneof![
        3 => turn(),
        2 => prop::sample::select(vec!["h", "a", "l", "a|", "l|", "|h|a", "|h|l", "|h|la"]),
        1 => prop::sample::select(vec!["h", "g", "g", "A", "V", "t", "|"]),
    ]
}

/// The same, while read-only mode comes and goes: `e` begins it, `v` turns its enforcement off.
fn turn_of_read_only() -> impl Strategy<Value = &'static str> {
    prop_oneof![
        3 => turn(),
        2 => prop::sample::select(vec!["e", "g", "v", "e,", "g,", "e|", "g|", "e|v", "e|,v<"]),
        1 => prop::sample::select(vec!["h", "A", "V", "t", "K", "a", "|h|a", "z"]),
    ]
}

/// The acts of a client between the turns of the others.
fn script(turn: impl Strategy<Value = &'static str>) -> impl Strategy<Value = String> {
    (conversation(), vec(turn, 0..120)).prop_map(|(acts, turns)| {
        let mut acts = acts.into_iter();
        let mut script: String = turns
            .into_iter()
            .map(|turn| match turn {
                "_" => acts.next().unwrap_or_default(),
                other => other.to_owned(),
            })
            .collect();
        script.extend(acts);
        script
    })
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 4_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_boundary_is_where_the_server_is_quiescent(script in script(turn())) {
        let orderly = play(script.as_bytes());
        prop_assert!(orderly, "it keeps to the protocol, and the model does not see it");
    }

    #[test]
    fn read_only_mode_comes_and_goes_unseen(script in script(turn_of_read_only())) {
        relayed::play(script.as_bytes());
    }

    #[test]
    fn a_drain_ends_what_it_may_and_nothing_else(script in script(turn_of_a_drain())) {
        relayed::play(script.as_bytes());
    }
}
