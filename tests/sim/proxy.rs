//! One life of the proxy's process: the real gates, sessions, journal and controller, and relays
//! that are polled by hand.

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::BytesMut;
use pgdrain::audit::Audit;
use pgdrain::config::{AfterRestart, Config, Preset, Reopen, Shared, Source, Surroundings};
use pgdrain::gate::Gates;
use pgdrain::gate::reopen::Pace;
use pgdrain::metrics::Metrics;
use pgdrain::server::cancel::Cancels;
use pgdrain::server::connect::{Endpoint, Route};
use pgdrain::server::own::OwnBackends;
use pgdrain::session::passes::{Pass, Passes};
use pgdrain::session::registry::{Login, Sessions};
use pgdrain::session::relay::{Common, Relay};
use pgdrain::tasks::Tasks;
use pgdrain::tls::stream::Peer;
use pgdrain::window::journal::{Journal, Record};
use pgdrain::window::{Controller, Desk, LeftWindow};
use pgdrain::wire::startup::CancelKey;

use crate::conn::{Conn, ROOM};
use crate::dice::Dice;
use crate::model::pipe::Pipe;
use crate::step::WAIT_MAX;
use crate::whom::Client;

pub(crate) struct Proxy {
    pub(crate) controller: Arc<Controller>,
    pub(crate) gates: Arc<Gates>,
    pub(crate) tasks: Tasks,
    pub(crate) desk: Arc<Desk>,
    pub(crate) passes: Arc<Passes>,
    pub(crate) sessions: Arc<Sessions>,
    config: Arc<Config>,
    common: Arc<Common>,
}

/// The settings of a seed.
pub(crate) fn settings(dice: &mut Dice) -> Config {
    static CONFIG: OnceLock<Config> = OnceLock::new();
    let load = || {
        // No role: nobody can be asked, and nothing is connected to.
        let source = Source::new(None)
            .flag("--upstream", "upstream.url", "postgres://127.0.0.1:1")
            .flag("--state-dir", "state_dir", "/nowhere");
        let loaded = source.load(&Surroundings::default());
        loaded.expect("a server is all it needs").config
    };
    let mut config = CONFIG.get_or_init(load).clone();
    config.hold.bytes_per_client = dice.one_of(&[150, 600]);
    config.hold.clients_max = dice.one_of(&[1, 3, 100]);
    config.hold.ladder.preset = dice.one_of(&[Preset::Gentle, Preset::Firm, Preset::Force]);
    config.hold.ladder.wait = Duration::from_millis(dice.one_of(&[3_050, 10_050]));
    config.hold.ladder.cancel = Duration::from_millis(dice.one_of(&[2_050, 5_050]));
    config.hold.ladder.autocommit = Duration::from_millis(dice.one_of(&[0, 0, 1_050, 3_050]));
    config.hold.ladder.stuck = Duration::from_millis(dice.one_of(&[0, 2_050]));
    config.hold.ladder.abort = Duration::from_millis(dice.one_of(&[0, 2_050, 2_050]));
    config.hold.ladder.terminate = Duration::from_millis(2_050);
    config.hold.client_deadline = WAIT_MAX;
    config.hold.reopen = Reopen {
        rate: dice.one_of(&[10, 2_000]),
        transactions: dice.one_of(&[1, 2, 512]),
        longest: Duration::from_millis(dice.one_of(&[2_000, 10_000])),
    };
    config.after_restart = dice.one_of(&[
        AfterRestart::Resume,
        AfterRestart::Resume,
        AfterRestart::Hold,
        AfterRestart::Open,
    ]);
    config
}

fn metrics() -> Arc<Metrics> {
    static METRICS: OnceLock<Arc<Metrics>> = OnceLock::new();
    Arc::clone(METRICS.get_or_init(|| Arc::new(Metrics::new())))
}

impl Proxy {
    /// Starts, and takes up what the last one left in its directory.
    pub(crate) fn start(config: &Config, directory: &Path) -> (Self, Record, Vec<LeftWindow>) {
        let tasks = Tasks::new();
        let (journal, record) = Journal::open(directory).expect("the last process is gone");
        let audit = Arc::new(Audit::in_memory());
        let gates = Arc::new(Gates::new(tasks.clone(), metrics(), Arc::clone(&audit)));
        let Reopen {
            rate,
            transactions,
            longest,
        } = config.hold.reopen;
        gates.set_pace(Pace {
            rate,
            transactions,
            longest,
        });
        let sessions = Arc::new(Sessions::default());
        let controller = Arc::new(Controller::new(
            Arc::clone(&gates),
            Arc::clone(&sessions),
            Arc::new(Shared::new(config.clone())),
            (journal, record.clone()),
            OwnBackends::default(),
            tasks.clone(),
            (metrics(), audit),
        ));
        let left = controller.take_up(&record);
        let passes = Arc::new(Passes::default());
        let desk = Desk::new(Arc::clone(&controller), Arc::clone(&passes), tasks.clone());
        let common = Common {
            tasks: tasks.clone(),
            metrics: metrics(),
            cancels: Cancels::new(1),
        };
        let proxy = Self {
            controller,
            gates,
            tasks,
            desk: Arc::new(desk),
            passes,
            sessions,
            config: Arc::new(config.clone()),
            common: Arc::new(common),
        };
        (proxy, record, left)
    }

    /// A client that has just logged in. With `collects` its sockets keep what they take until they
    /// are flushed, as encrypted ones do.
    pub(crate) fn connect(&self, database: &'static str, client: Client, collects: bool) -> Conn {
        self.log_in(database, client, collects, None)
    }

    /// A connection that came in by the key of a window; `pid` is of its backend.
    pub(crate) fn work(&self, database: &'static str, pass: Pass, pid: i32) -> Conn {
        let client = Client {
            user: "app",
            application: "web",
            peer: Peer::Unix,
        };
        self.log_in(database, client, false, Some((pass, pid)))
    }

    fn log_in(
        &self,
        database: &'static str,
        client: Client,
        collects: bool,
        works: Option<(Pass, i32)>,
    ) -> Conn {
        let held_by_holds = works.is_none();
        let (pass, pid) = works.unzip();
        let server_key = pid.map(|pid| CancelKey {
            pid,
            secret: Box::from(*b"1234"),
        });
        let session = self.sessions.add(Login {
            database: database.into(),
            user: client.user.into(),
            application_name: client.application.into(),
            client: client.peer,
            replication: None,
            held_by_holds,
            route: Route::plain(Endpoint::Unix("/".into())),
            server_key,
            client_key: None,
            pass,
        });
        let (gate, narrow) = match held_by_holds {
            true => self.gates.of_session(database, session.who()),
            false => (self.gates.unheld(), Vec::new()),
        };
        let (near, far) = (Pipe::new(ROOM), Pipe::new(ROOM));
        if collects {
            near.collect();
            far.collect();
        }
        let relay = Relay::new(
            (near.clone(), BytesMut::new()),
            (far.clone(), BytesMut::new()),
            Arc::clone(&session),
            (gate, narrow),
            Arc::clone(&self.config),
            Arc::clone(&self.common),
        );
        let sessions = Arc::clone(&self.sessions);
        Conn::new(
            database,
            (near, far),
            (session, sessions),
            Arc::clone(&self.gates),
            Box::pin(relay.run()),
        )
    }
}
