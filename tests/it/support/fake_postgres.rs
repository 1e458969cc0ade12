//! A server that only keeps count: cheap enough for thousands of sessions, and it knows exactly how
//! many transactions it saw at the same time.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::message::{self, Message};
use super::poll::{SOON, until};
use super::script::{Opening, greeting, opening};
use super::wire::Wire;

/// The secret of every session's key.
pub(crate) const SECRET: [u8; 4] = *b"fake";

/// A running fake; dropping it closes every session.
pub(crate) struct FakePostgres {
    addr: SocketAddr,
    seen: Arc<Mutex<Seen>>,
    _accepting: JoinSet<()>,
}

/// What the fake has seen so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    /// Sessions connected now.
    pub(crate) sessions: usize,
    /// Transactions open now; a lone statement is one while it is answered.
    pub(crate) transactions: usize,
    /// The most transactions open at once.
    pub(crate) transactions_max: usize,
    /// Transactions begun.
    pub(crate) transactions_total: usize,
    /// The text of every Query and Parse, in order of arrival.
    pub(crate) statements: Vec<String>,
    /// Process id and secret of every cancel request.
    pub(crate) cancels: Vec<(u32, Vec<u8>)>,
}

impl FakePostgres {
    /// Listens on a free port of loopback.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a free port on loopback");
        let addr = listener.local_addr().expect("a listener has an address");
        let seen = Arc::new(Mutex::new(Seen::default()));
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, Arc::clone(&seen)));
        Self {
            addr,
            seen,
            _accepting: accepting,
        }
    }

    /// Where it listens.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What it has seen so far.
    pub(crate) fn seen(&self) -> Seen {
        self.seen
            .lock()
            .expect("no session panics while it counts")
            .clone()
    }
}

async fn accept(listener: TcpListener, seen: Arc<Mutex<Seen>>) {
    let mut sessions = JoinSet::new();
    let mut pid = 1000;
    while let Ok((stream, _)) = listener.accept().await {
        pid += 1;
        sessions.spawn(Session::serve(stream, pid, Arc::clone(&seen)));
        while sessions.try_join_next().is_some() {}
    }
}

/// One session; its drop takes what it counted as open back out.
struct Session {
    seen: Arc<Mutex<Seen>>,
    status: u8,
    in_transaction: bool,
    /// After an error nothing but Sync is answered; the fake makes no errors, except on purpose.
    skips_to_sync: bool,
}

impl Session {
    async fn serve(stream: TcpStream, pid: u32, seen: Arc<Mutex<Seen>>) {
        stream
            .set_nodelay(true)
            .expect("a connected socket takes options");
        let mut wire = Wire::new(stream);
        loop {
            let Some(packet) = wire.next_startup().await else {
                return;
            };
            match opening(&packet) {
                Opening::Encryption => wire.send(b"N").await,
                Opening::Cancel { pid, secret } => {
                    seen.lock()
                        .expect("not poisoned")
                        .cancels
                        .push((pid, secret));
                    return;
                }
                Opening::Session(_) => break,
            }
        }
        let mut session = Self {
            seen,
            status: b'I',
            in_transaction: false,
            skips_to_sync: false,
        };
        session.count(|seen| seen.sessions += 1);
        let mut answer = greeting(pid, &SECRET);
        loop {
            if wire.try_send(&answer).await.is_err() {
                return;
            }
            match wire.next().await {
                Some(message) if message.tag != b'X' => answer = session.answer(&message),
                Some(_) | None => return,
            }
        }
    }

    fn answer(&mut self, message: &Message) -> Vec<u8> {
        if self.skips_to_sync && message.tag != b'S' {
            return Vec::new();
        }
        match message.tag {
            b'Q' => {
                let answer = self.run(&text(&message.body, 0));
                [answer, self.ready()].concat()
            }
            b'P' => {
                self.begin();
                self.prepared(&text(&message.body, 1))
            }
            b'B' => message::bind_complete(),
            b'D' if message.body.first() == Some(&b'S') => {
                [message::no_parameters(), message::no_data()].concat()
            }
            b'D' => message::no_data(),
            b'E' => {
                self.begin();
                message::command_complete("SELECT 0")
            }
            b'C' => message::close_complete(),
            b'S' => {
                self.skips_to_sync = false;
                self.ready()
            }
            b'H' => Vec::new(),
            other => panic!(
                "the fake does not know message type {:?}",
                char::from(other)
            ),
        }
    }

    /// A Parse runs its statement at once, since the fake keeps no portals.
    fn prepared(&mut self, sql: &str) -> Vec<u8> {
        let ran = self.run(sql);
        if ran.first() == Some(&b'E') {
            self.skips_to_sync = true;
            return ran;
        }
        message::parse_complete()
    }

    /// `BEGIN` and `COMMIT` move the status; `FAIL` is an error; all else succeeds without rows.
    fn run(&mut self, sql: &str) -> Vec<u8> {
        self.begin();
        self.count(|seen| seen.statements.push(sql.to_owned()));
        let word = sql
            .split_whitespace()
            .next()
            .unwrap_or_default()
            .to_ascii_uppercase();
        match word.trim_end_matches(';') {
            "BEGIN" | "START" => self.status = b'T',
            "COMMIT" | "ROLLBACK" | "END" => self.status = b'I',
            "FAIL" => {
                if self.status == b'T' {
                    self.status = b'E';
                }
                return message::error_response("XX000", "as asked for");
            }
            "" => return message::empty_query_response(),
            _ => {}
        }
        message::command_complete(&word)
    }

    fn begin(&mut self) {
        if !std::mem::replace(&mut self.in_transaction, true) {
            self.count(|seen| {
                seen.transactions += 1;
                seen.transactions_total += 1;
                seen.transactions_max = seen.transactions_max.max(seen.transactions);
            });
        }
    }

    fn ready(&mut self) -> Vec<u8> {
        if self.status == b'I' && std::mem::take(&mut self.in_transaction) {
            self.count(|seen| seen.transactions -= 1);
        }
        message::ready_for_query(self.status)
    }

    fn count(&self, change: impl FnOnce(&mut Seen)) {
        change(&mut self.seen.lock().expect("no session panics while it counts"));
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let open = usize::from(self.in_transaction);
        self.count(|seen| {
            seen.sessions -= 1;
            seen.transactions -= open;
        });
    }
}

/// The string number `index` of a body that begins with strings.
fn text(body: &[u8], index: usize) -> String {
    let string = body.split(|byte| *byte == 0).nth(index).unwrap_or_default();
    String::from_utf8_lossy(string).into_owned()
}

#[tokio::test]
async fn the_fake_counts_transactions_that_are_open_at_the_same_time() {
    let fake = FakePostgres::start().await;
    let mut one = Wire::login(fake.addr(), "u", "d").await;
    let mut two = Wire::login(fake.addr(), "u", "d").await;
    one.execute("BEGIN").await;
    two.execute("BEGIN").await;
    two.execute("COMMIT").await;
    two.execute("SELECT 1").await;
    let seen = fake.seen();
    assert_eq!(
        (seen.sessions, seen.transactions, seen.transactions_total),
        (2, 1, 3)
    );
    assert_eq!(seen.transactions_max, 2);
    assert_eq!(seen.statements, ["BEGIN", "BEGIN", "COMMIT", "SELECT 1"]);

    let failed = one.query("FAIL").await;
    assert_eq!(failed[0].sqlstate(), "XX000");
    assert_eq!(failed[1].body, b"E");

    Wire::cancel(fake.addr(), one.key()).await;
    assert_eq!(fake.seen().cancels, [one.key()]);

    drop(one);
    until("the fake to see its client leave", SOON, async || {
        let seen = fake.seen();
        (seen.sessions, seen.transactions) == (1, 0)
    })
    .await;
}

#[tokio::test]
async fn the_fake_answers_a_pipeline_and_skips_to_sync_after_an_error() {
    let fake = FakePostgres::start().await;
    let mut wire = Wire::login(fake.addr(), "u", "d").await;
    let good = [
        message::parse("", "SELECT 1"),
        message::bind("", "", &[]),
        message::execute("", 0),
    ];
    let bad = [
        message::parse("", "FAIL"),
        message::bind("", "", &[]),
        message::execute("", 0),
    ];
    wire.send(
        &[
            good.concat(),
            message::sync(),
            bad.concat(),
            message::sync(),
        ]
        .concat(),
    )
    .await;
    let tags = |messages: &[Message]| {
        messages
            .iter()
            .map(|m| char::from(m.tag))
            .collect::<String>()
    };
    assert_eq!(tags(&wire.read_until_ready().await), "12CZ");
    assert_eq!(tags(&wire.read_until_ready().await), "EZ");
    assert_eq!(fake.seen().transactions, 0);
}
