//! Read-only mode holds what it promises: hundreds of statements of an ordinary role, sent in every
//! form and on sessions older and younger than the mode, change nothing, and what is a read is answered
//! as Postgres itself answers it in a read-only transaction. Known holes are asserted to be holes.
//!
//! The statements are data, in the folder of this name.

mod entry;
mod fingerprint;
mod form;
mod talk;

use std::net::SocketAddr;

use serde_json::json;
use tokio::task::JoinSet;
use tokio_postgres::Client;

use self::entry::{Entry, Kind, listed};
use self::fingerprint::{Fingerprint, column};
use self::form::{FORMS, Form};
use self::talk::{LIST, Talk, compared, errors, outcome};
use crate::support::cluster::Postgres;
use crate::support::message::{self, Message};
use crate::support::poll::{PATIENCE, within};
use crate::support::proxy::Proxy;

/// The list is cut into so many parts, which run side by side.
const PARTS: usize = 20;

/// How long a held write waits before it is told that it was not executed.
const WAIT: &str = "100ms";

struct Server {
    postgres: Postgres,
    /// A superuser in the database of the list, past the proxy.
    direct: Client,
    proxy: Proxy,
}

async fn open() -> Server {
    let mut postgres = Postgres::start().await;
    for line in include_str!("read_only_list/superuser.sql").lines().skip(1) {
        postgres.execute(line).await;
    }
    let mut owner = Talk::start(postgres.addr()).await;
    owner
        .execute(include_str!("read_only_list/schema.sql"))
        .await;
    let direct = postgres.connect(LIST).await;
    let linked = direct.batch_execute(include_str!("read_only_list/linked.sql"));
    linked.await.expect("dblink is beside the server");
    let proxy = Proxy::start_set(&postgres, &[("HOLD_CLIENT_DEADLINE", WAIT)]).await;
    Server {
        postgres,
        direct,
        proxy,
    }
}

impl Server {
    /// Goes into read-only mode and waits until it is entered.
    async fn read_only(&self, writes: &str) {
        let path = format!("/v1/databases/{LIST}/mode?wait=drained");
        let mode = json!({"mode": "read_only", "writes": writes, "for": "20m"});
        self.proxy.admin().put(&path, mode).await.expect(200);
        assert_eq!(self.proxy.status(LIST).await["mode"], "read_only");
    }
}

/// The sessions for a part of the list: through the proxy, and past it to compare with.
struct Pair {
    entries: Vec<Entry>,
    proxied: Talk,
    direct: Talk,
    old: bool,
}

/// What a part has found.
#[derive(Default)]
struct Found {
    sent: usize,
    compared: usize,
    complaints: Vec<String>,
}

impl Pair {
    async fn young(entries: &[Entry], proxy: SocketAddr, direct: SocketAddr) -> Self {
        Self {
            entries: entries.to_vec(),
            proxied: Talk::start(proxy).await,
            direct: Talk::start(direct).await,
            old: false,
        }
    }

    async fn old(entries: &[Entry], proxy: SocketAddr, direct: SocketAddr) -> Self {
        Self {
            entries: entries.to_vec(),
            proxied: Talk::prepared(proxy, entries).await,
            direct: Talk::prepared(direct, entries).await,
            old: true,
        }
    }

    async fn try_all(mut self, queue: bool) -> (Found, Self) {
        let mut found = Found::default();
        for (number, entry) in self.entries.clone().iter().enumerate() {
            if entry.young && self.old {
                continue;
            }
            let before = self.old && self.proxied.parsed[number];
            let forms = FORMS
                .into_iter()
                .chain(before.then_some(Form::Before(number)));
            for form in forms {
                found.sent += 1;
                let answer = self.proxied.run(form, &entry.sql).await;
                let wrong = self.judge(entry, form, &answer, queue, &mut found).await;
                found.complaints.extend(wrong.map(|wrong| {
                    let age = if self.old { "old" } else { "young" };
                    format!("{} [{form:?}, {age}]: {wrong}", entry.shown())
                }));
            }
        }
        (found, self)
    }

    async fn judge(
        &mut self,
        entry: &Entry,
        form: Form,
        answer: &[Message],
        queue: bool,
        found: &mut Found,
    ) -> Option<String> {
        if entry.held() || entry.kind == Kind::Write {
            let told = !errors(answer).is_empty();
            return (!told).then(|| format!("no error but {answer:?}"));
        }
        // A function may set what makes this session writable: in a transaction it is undone.
        let guarded = entry.kind == Kind::Function;
        let begins = entry.sql.starts_with("begin") || entry.sql.starts_with("declare");
        if guarded && (form != Form::Simple || begins) {
            return None;
        }
        self.direct
            .execute("set default_transaction_read_only = on")
            .await;
        if guarded {
            self.direct.execute("begin read only").await;
        }
        let direct = self.direct.run(form, &entry.sql).await;
        found.compared += 1;
        // Among others it may prepare what they execute, or end their transaction.
        let alone = entry.kind == Kind::Read || form != Form::Batch && entry.passes();
        difference(entry, &direct, answer, (queue, alone))
    }
}

/// How an answer differs from Postgres's own. What the server refuses as a write may have been refused
/// by us before, and under `queue` it waits, and is told so or that its transaction has to be tried
/// again. So may what is no read by itself.
fn difference(
    entry: &Entry,
    direct: &[Message],
    answer: &[Message],
    (queue, passes): (bool, bool),
) -> Option<String> {
    let known =
        |state: &String| state == "25006" || queue && ["55P03", "40001"].contains(&state.as_str());
    let told = errors(answer).iter().any(known);
    if errors(direct).iter().any(|state| state == "25006") {
        return (!told).then(|| format!("refused by Postgres, but {answer:?}"));
    }
    if told && !passes || queue && entry.deferred {
        return None;
    }
    let (wanted, got) = match entry.kind {
        Kind::Function => (outcome(direct), outcome(answer)),
        Kind::Read | Kind::Session | Kind::Write => (
            compared(direct, entry.volatile),
            compared(answer, entry.volatile),
        ),
    };
    (wanted != got).then(|| format!("\n    Postgres {wanted:?}\n    pgdrain  {got:?}"))
}

/// The whole list on sessions of one age, side by side.
async fn try_all(pairs: Vec<Pair>, queue: bool) -> (Found, Vec<Pair>) {
    let mut running: JoinSet<(Found, Pair)> = JoinSet::new();
    for pair in pairs {
        running.spawn(pair.try_all(queue));
    }
    let (mut all, mut pairs) = (Found::default(), Vec::new());
    while let Some(part) = within("a part of the list", PATIENCE * 4, running.join_next()).await {
        let (found, pair) = part.expect("no part of the list panics");
        all.sent += found.sent;
        all.compared += found.compared;
        all.complaints.extend(found.complaints);
        pairs.push(pair);
    }
    (all, pairs)
}

#[expect(clippy::print_stdout, reason = "how much was tried")]
async fn nothing_changes(writes: &str) {
    let server = open().await;
    let (proxy, direct) = (server.proxy.addr(), server.postgres.addr());
    let entries = entry::all();
    let size = entries.len().div_ceil(PARTS);
    let mut old = Vec::new();
    for part in entries.chunks(size) {
        old.push(Pair::old(part, proxy, direct).await);
    }
    server.read_only(writes).await;
    let mut young = Vec::new();
    for part in entries.chunks(size) {
        young.push(Pair::young(part, proxy, direct).await);
    }
    let before = Fingerprint::taken(&server.direct).await;
    let mut complaints = Vec::new();
    let mut sessions = Vec::new();
    for (age, pairs) in [("older", old), ("younger", young)] {
        let (found, pairs) = try_all(pairs, writes == "queue").await;
        println!(
            "{writes}, {age} sessions: {} of {} statements sent, {} compared with Postgres",
            found.sent,
            entries.len(),
            found.compared
        );
        complaints.extend(found.complaints);
        let after = Fingerprint::taken(&server.direct).await;
        for changed in before.differences(&after) {
            complaints.push(format!("changed, on {age} sessions: {changed}"));
        }
        sessions.extend(pairs);
    }
    let count = complaints.len();
    assert_eq!(count, 0, "{count}: {}", listed(&complaints));
    writes_again(server, sessions).await;
}

/// Behind the mode each session has what it had, and writes again.
async fn writes_again(server: Server, sessions: Vec<Pair>) {
    server.proxy.open(LIST).await;
    for mut pair in sessions {
        let own = pair.proxied.ask("show default_transaction_read_only").await;
        assert_eq!(own, "off");
        pair.proxied
            .execute("create temp table behind (a int)")
            .await;
        pair.proxied.execute("insert into behind values (1)").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_changes_where_writes_are_rejected() {
    nothing_changes("reject").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_changes_where_writes_wait() {
    nothing_changes("queue").await;
}

/// What a list says of its statements is what the lexer says.
#[test]
fn lists_and_lexer_agree() {
    let entries = entry::all();
    assert!(entries.len() >= 300, "only {} statements", entries.len());
    let wrong = |entry: &Entry| match entry.kind {
        Kind::Read => entry.held().then_some("a read that is held"),
        Kind::Function => None,
        Kind::Session => None,
        Kind::Write => (!entry.held()).then_some("a write that passes"),
    };
    let complaint = |entry: &Entry| wrong(entry).map(|why| format!("{why}: {}", entry.shown()));
    let complaints: Vec<_> = entries.iter().filter_map(complaint).collect();
    assert!(complaints.is_empty(), "{}", listed(&complaints));
}

/// A batch is looked at as a whole: what one of its parts allows, another may not use.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_change_nothing() {
    let server = open().await;
    // One without temporary tables: a DISCARD ALL may take those away.
    let mut old = Talk::start(server.proxy.addr()).await;
    for sql in entry::before() {
        if sql.starts_with("prepare") {
            old.execute(sql).await;
        }
    }
    let before = Fingerprint::taken(&server.direct).await;
    for writes in ["reject", "queue"] {
        server.read_only(writes).await;
        let mut young = Talk::start(server.proxy.addr()).await;
        for parts in entry::batches() {
            for talk in [&mut old, &mut young] {
                let answer = talk.batch(&parts).await;
                assert!(
                    !errors(&answer).is_empty(),
                    "{writes}: {parts:?}: {answer:?}"
                );
            }
        }
        let after = Fingerprint::taken(&server.direct).await;
        let changed = before.differences(&after);
        assert!(changed.is_empty(), "{writes}: {}", listed(&changed));
    }
}

/// FunctionCall shows no text at all: whatever the function, it does not run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn function_calls_are_refused() {
    let server = open().await;
    let oid = column(&server.direct, "select 'lo_create'::regproc::oid").await;
    let oid = oid[0].parse().expect("an oid");
    server.read_only("reject").await;
    let before = Fingerprint::taken(&server.direct).await;
    let mut client = Talk::start(server.proxy.addr()).await;
    let argument = 991_234_u32.to_be_bytes();
    let call = message::function_call(oid, &[Some(&argument)]);
    let answer = client.units(&call, 1).await;
    assert_eq!(errors(&answer), ["25006"], "{answer:?}");
    let after = Fingerprint::taken(&server.direct).await;
    assert_eq!(before.differences(&after), Vec::<String>::new());
}

/// Each known hole is one still, and the documentation names what it goes through.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn known_holes_are_holes() {
    let server = open().await;
    server.read_only("reject").await;
    let mut client = Talk::start(server.proxy.addr()).await;
    for (sql, shows) in entry::holes() {
        let before = column(&server.direct, shows).await;
        client.execute(sql).await;
        let after = column(&server.direct, shows).await;
        assert_ne!(before, after, "no hole any more: {sql}");
    }
}

/// What a session has set for itself is what it sees while the mode lasts, and has behind it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_escape_by_a_function_is_undone() {
    let server = open().await;
    let mut client = Talk::start(server.proxy.addr()).await;
    server.read_only("reject").await;
    let before = Fingerprint::taken(&server.direct).await;
    for _ in 0..20 {
        let pipeline = [
            "select app.fw_escape()",
            "select app.fw(1)",
            "select app.fw(2)",
        ];
        let pipeline = pipeline.map(message::query).concat();
        let answer = client.units(&pipeline, 3).await;
        assert_eq!(errors(&answer), ["25006", "25006"], "{answer:?}");
    }
    let after = Fingerprint::taken(&server.direct).await;
    assert_eq!(before.differences(&after), Vec::<String>::new());
}
