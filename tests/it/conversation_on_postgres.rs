//! Random conversations with a real server, through the real proxy: at each pause the server, the
//! proxy, and the model that the other tests trust say the same of the session.

mod flight;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;
use tokio::net::TcpStream;

use self::flight::Flight;
use crate::model::server::Server;
use crate::model::take_message;
use crate::support::cluster::Postgres;
use crate::support::holds::DB;
use crate::support::poll::{SOON, until};
use crate::support::proxy::Proxy;
use crate::support::wire::Wire;

/// A server, a proxy before it, and a connection that looks at the server directly.
struct Stage {
    proxy: Proxy,
    watcher: tokio_postgres::Client,
    // Dropped last.
    _postgres: Postgres,
}

/// One session, and what the model says of it.
struct Conversation<'a> {
    stage: &'a Stage,
    wire: Wire<TcpStream>,
    pid: u32,
    model: Server,
}

impl Stage {
    async fn set() -> Self {
        let mut postgres = Postgres::start().await;
        postgres.execute("CREATE TABLE t (n int)").await;
        Self {
            proxy: Proxy::start(&postgres).await,
            watcher: postgres.connect(DB).await,
            _postgres: postgres,
        }
    }

    async fn converse(&self) -> Conversation<'_> {
        let wire = self.proxy.session(DB).await;
        let (pid, _) = wire.key();
        Conversation {
            stage: self,
            wire,
            pid,
            model: Server::new(),
        }
    }

    /// What the server says that a backend does.
    async fn state(&self, pid: u32) -> String {
        let state = "SELECT state FROM pg_stat_activity WHERE pid = $1";
        let pid = i32::try_from(pid).expect("a process id");
        let row = self.watcher.query_one(state, &[&pid]).await;
        row.expect("a backend").get(0)
    }
}

impl Conversation<'_> {
    /// Sends, and reads what the model says that comes.
    #[expect(clippy::print_stdout, reason = "the harness shows it with a failure")]
    async fn send(&mut self, flight: &Flight) {
        println!("  {}", flight.script);
        self.wire.send(&flight.real).await;
        for expected in plays(&mut self.model, &flight.model) {
            let came = loop {
                let message = self.wire.read().await;
                // Warnings, settings, and parameters of statements are nobody's answer.
                if !b"NSt".contains(&message.tag) {
                    break message;
                }
            };
            let (came_tag, expected) = (char::from(came.tag), char::from(expected));
            assert_eq!(came_tag, expected, "{came:?} of {:?}", self.model);
        }
    }

    /// The server and the proxy say of the session what the model says.
    async fn agree(&self) {
        let states = match self.model.state() {
            Some(b'I') => ("idle", "idle"),
            Some(b'T') => ("idle in transaction", "in_transaction"),
            Some(_) => ("idle in transaction (aborted)", "in_transaction"),
            None => ("active", "active"),
        };
        let (server, proxy) = states;
        assert_eq!(self.stage.state(self.pid).await, server, "{:?}", self.model);
        // The answer may be here before the proxy has noted that it is.
        until(&format!("the proxy to say {proxy}"), SOON, async || {
            let sessions = self.stage.proxy.sessions(DB).await;
            let session = sessions.iter().find(|session| session["pid"] == self.pid);
            session.is_some_and(|session| session["state"] == proxy)
        })
        .await;
    }

    /// A hold is drained at once, or finds this very session in its way.
    async fn hold(&self) {
        let proxy = &self.stage.proxy;
        if self.model.is_quiescent() {
            proxy.hold_drained(DB, json!({"wait": "20s"})).await;
            proxy.open(DB).await;
        } else {
            let drain = proxy.hold_in_vain(DB, json!({"wait": "1ms"})).await;
            // A session that has just left may be on its way too.
            let in_the_way = drain["in_the_way"].as_array().expect("a list");
            let mut pids = in_the_way.iter().map(|session| &session["pid"]);
            assert!(pids.any(|pid| *pid == self.pid), "{drain}");
        }
    }
}

/// Lets the model read all of it, and returns the types of what it says.
fn plays(model: &mut Server, bytes: &[u8]) -> Vec<u8> {
    model.unread.extend_from_slice(bytes);
    while model.read() {}
    let says = std::mem::take(&mut model.says);
    let mut says = says.as_slice();
    let tags = std::iter::from_fn(|| take_message(&mut says).map(|(tag, _)| tag));
    tags.filter(|tag| *tag != b't').collect()
}

/// What a client may send next without being thrown out.
fn next_flight(model: &Server, random: &mut StdRng) -> Flight {
    loop {
        let mut flight = Flight::default();
        if model.copies() || random.random_bool(0.05) {
            flight.data(random);
        } else {
            flight.begin(random);
        }
        if random.random_bool(0.2) {
            flight.begin(random);
        }
        flight.flush();
        let mut tried = model.clone();
        plays(&mut tried, &flight.model);
        if !tried.lost {
            return flight;
        }
    }
}

#[tokio::test]
async fn server_proxy_and_model_agree() {
    let stage = Stage::set().await;
    for seed in 0..250 {
        println!("seed {seed}");
        let mut random = StdRng::seed_from_u64(seed);
        let mut conversation = stage.converse().await;
        for _ in 0..random.random_range(1..8) {
            let flight = next_flight(&conversation.model, &mut random);
            conversation.send(&flight).await;
            conversation.agree().await;
        }
        if seed % 3 == 0 {
            conversation.hold().await;
        }
    }
}
