//! Conversations, and what a listener makes of them.

use super::*;
use crate::wire::frontend::{SYNC, bind, close_bytes, execute, parse, query};

/// A server's message.
fn from(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).expect("short");
    [&[tag][..], &length.to_be_bytes(), body].concat()
}

fn ready() -> Vec<u8> {
    from(b'Z', b"I")
}

fn error(state: &str) -> Vec<u8> {
    let fields = format!("SERROR\0VERROR\0C{state}\0Mno\0\0");
    from(b'E', fields.as_bytes())
}

/// A conversation with a listener, a millisecond passing between two things.
struct Talk {
    listener: Listener,
    now: Instant,
    heard: Vec<(String, u128, String)>,
}

impl Talk {
    fn new() -> Talk {
        let mut listener = Listener::new(7);
        listener.begin(1);
        Talk {
            listener,
            now: Instant::now(),
            heard: Vec::new(),
        }
    }

    fn client(&mut self, messages: &[Vec<u8>]) -> &mut Self {
        self.now += Duration::from_millis(1);
        let now = self.listener.times().then_some(self.now);
        self.listener.sent(&messages.concat(), now);
        self
    }

    fn server(&mut self, messages: &[Vec<u8>]) -> &mut Self {
        self.now += Duration::from_millis(1);
        self.bytes(&messages.concat())
    }

    fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        let (now, heard) = (self.now, &mut self.heard);
        self.listener.heard(
            bytes,
            || now,
            |unit| {
                let error = unit.error.unwrap_or(*b"     ");
                let error = String::from_utf8_lossy(&error).trim().to_owned();
                heard.push(match unit.timed {
                    Some((statement, took)) => {
                        (statement.text.to_string(), took.as_millis(), error)
                    }
                    None => ("-".to_owned(), 0, error),
                });
            },
        );
        self
    }

    fn has_heard(&mut self, expected: &[(&str, u128, &str)]) -> &mut Self {
        let heard = std::mem::take(&mut self.heard);
        let heard: Vec<_> = heard
            .iter()
            .map(|(text, ms, error)| (text.as_str(), *ms, error.as_str()))
            .collect();
        assert_eq!(heard, expected);
        self
    }
}

#[test]
fn a_query_is_timed_to_its_ready_and_its_error_is_told() {
    Talk::new()
        .client(&[query("SELECT 1")])
        .server(&[from(b'D', &[0; 40]), from(b'C', b"SELECT 1\0"), ready()])
        .has_heard(&[("select ?", 1, "")])
        .client(&[query("insert into t values (1)")])
        .server(&[error("23505")])
        .server(&[ready()])
        .has_heard(&[("insert into t values (?)", 2, "23505")])
        // Two in a pipeline, answered in one.
        .client(&[query("select a"), query("select b")])
        .server(&[ready(), error("42P01"), ready()])
        .has_heard(&[("select a", 1, ""), ("select b", 1, "42P01")]);
}

#[test]
fn a_prepared_statement_is_known_by_its_name_in_later_transactions() {
    let mut talk = Talk::new();
    talk.client(&[parse("s1", "select * from t where id = $1"), SYNC.to_vec()])
        .server(&[ready()])
        .has_heard(&[("(nothing executed)", 1, "")]);
    talk.listener.begin(1);
    talk.client(&[bind("", "s1"), execute(""), SYNC.to_vec()])
        .server(&[ready()])
        .has_heard(&[("select * from t where id = ?", 1, "")])
        // From the first Execute on, although the Sync comes later.
        .client(&[bind("p", "s1"), execute("p")])
        .client(&[execute("p"), SYNC.to_vec()])
        .server(&[ready()])
        .has_heard(&[("select * from t where id = ?", 2, "")])
        .client(&[close_bytes(crate::wire::frontend::Named::Statement, b"s1")])
        .client(&[bind("", "s1"), execute(""), SYNC.to_vec()])
        .server(&[error("26000"), ready()])
        .has_heard(&[("(prepared before it was measured)", 1, "26000")]);
}

#[test]
fn a_unit_of_several_statements_is_one() {
    let mut talk = Talk::new();
    let batch = [
        parse("", "BEGIN"),
        bind("", ""),
        execute(""),
        parse("", "select $1"),
        bind("", ""),
        execute(""),
        bind("", ""),
        execute(""),
        SYNC.to_vec(),
    ];
    talk.client(&batch)
        .server(&[ready()])
        .has_heard(&[("begin; select ?", 1, "")]);
}

#[test]
fn it_does_not_matter_where_chunks_are_cut() {
    let mut whole = Talk::new();
    let sent = [
        parse("s", "select 'x', $1"),
        bind("", "s"),
        execute(""),
        SYNC.to_vec(),
        query("select 2"),
    ]
    .concat();
    let answer = [
        from(b'1', b""),
        from(b'D', &[7; 90]),
        ready(),
        error("22012"),
        ready(),
    ]
    .concat();
    for cut in 0..sent.len() {
        let mut talk = Talk::new();
        let (front, back) = sent.split_at(cut);
        talk.listener.sent(front, Some(talk.now));
        talk.listener.sent(back, Some(talk.now));
        let (front, back) = answer.split_at(cut % answer.len());
        talk.bytes(front).bytes(back);
        let expected = [("select ?, …", 0, ""), ("select ?", 0, "22012")];
        talk.has_heard(&expected);
    }
    // Of a text that is too long to be kept in pieces the front counts.
    let long = query(&format!(
        "select a from t where x = '{}'",
        "y".repeat(40_000)
    ));
    let (front, back) = long.split_at(30_000);
    whole.listener.sent(front, Some(whole.now));
    whole.listener.sent(back, Some(whole.now));
    whole.server(&[ready()]);
    assert!(whole.heard[0].0.starts_with("select a from t where x ="));
}

#[test]
fn what_is_not_timed_still_tells_its_errors() {
    let mut talk = Talk::new();
    let mut timed = 0;
    for _ in 0..2000 {
        talk.listener.begin(10);
        timed += u32::from(talk.listener.times());
        talk.client(&[query("select 1")])
            .server(&[error("40001"), ready()]);
        let (text, _, error) = talk.heard.pop().expect("answered");
        assert_eq!(
            (text == "-", error.as_str()),
            (!talk.listener.times(), "40001")
        );
    }
    assert!((120..280).contains(&timed), "one in ten of 2000: {timed}");
}

#[test]
fn nothing_that_a_client_sends_makes_it_grow_or_fail() {
    let mut talk = Talk::new();
    for number in 0..2000 {
        let name = format!("s{number}");
        talk.client(&[
            parse(&name, "select 1"),
            bind(&name, &name),
            query("select 1"),
        ]);
    }
    assert!(talk.listener.statements.len() <= NAMES_MAX);
    assert!(talk.listener.portals.len() <= NAMES_MAX);
    for _ in 0..5000 {
        talk.client(&[SYNC.to_vec()]);
    }
    assert!(talk.listener.sent.len() <= UNITS_MAX);
    // A length that cannot be one: deaf up to the next transaction.
    talk.client(&[vec![b'Q', 0, 0, 0, 1], query("select 1")]);
    talk.listener.begin(1);
    talk.client(&[
        query("select 3"),
        from(b'P', b"no zero"),
        from(b'B', b""),
        from(b'C', b""),
    ])
    .server(&[from(b'E', b"C"), ready(), ready()])
    .has_heard(&[("select ?", 1, "?????")]);
}
