//! What a relay in memory needs beside its two sockets. Benchmarks and the counting of instructions make
//! theirs of it too.

use std::sync::Arc;

use pgdrain::audit::Audit;
use pgdrain::config::{Config, Source, Surroundings};
use pgdrain::gate::Gate;
use pgdrain::metrics::Metrics;
use pgdrain::server::cancel::Cancels;
use pgdrain::server::connect::{Endpoint, Route};
use pgdrain::session::registry::{Login, Session, Sessions};
use pgdrain::session::relay::Common;
use pgdrain::tasks::Tasks;
use pgdrain::tls::stream::Peer;

/// A session that has just logged in, its gate, and what all relays share.
pub(crate) struct Parts {
    pub(crate) session: Arc<Session>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) common: Arc<Common>,
}

impl Parts {
    /// Must be called on a runtime: the gate's timers run there.
    pub(crate) fn new(metrics: Arc<Metrics>) -> Self {
        let (tasks, audit) = (Tasks::new(), Arc::new(Audit::in_memory()));
        let gate = Gate::new("d", tasks.clone(), Arc::clone(&metrics), audit);
        Self {
            session: Sessions::default().add(login()),
            gate: Arc::new(gate),
            common: Arc::new(Common {
                tasks,
                metrics,
                cancels: Cancels::new(1),
            }),
        }
    }
}

fn login() -> Login {
    Login {
        database: "d".into(),
        user: "u".into(),
        application_name: "".into(),
        client: Peer::Unix,
        replication: None,
        held_by_holds: true,
        pass: None,
        route: Route::plain(Endpoint::Unix("/".into())),
        server_key: None,
        client_key: None,
    }
}

/// The defaults.
pub(crate) fn config() -> Config {
    let url = "postgres://pgdrain@127.0.0.1:1";
    let source = Source::new(None)
        .flag("--upstream", "upstream.url", url)
        .flag("--state-dir", "state_dir", "/nowhere");
    let loaded = source.load(&Surroundings::default());
    loaded.expect("a server is all it needs").config
}
