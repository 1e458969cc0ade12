//! The composition root: builds every part in order, and stops them in reverse.

mod api;
mod events;
mod gates;
mod migrations;
mod signals;
mod traffic;
mod windows;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use jiff::Timestamp;
use tokio::net::TcpListener;

use crate::admin::types::Endpoints;
use crate::audit::{Audit, Event, Kind};
use crate::auth::users::Disguise;
use crate::client::arrival::Arrival;
use crate::client::listener::Listener;
use crate::client::pace::Pace;
use crate::config::{Config, Limits, Listen, Shared, Source};
use crate::gate::Gates;
use crate::logging::Logging;
use crate::metrics::Metrics;
use crate::runner::Runner;
use crate::server::cancel::Cancels;
use crate::server::lookup::Lookups;
use crate::server::own::OwnBackends;
use crate::session::life::Host;
use crate::session::passes::Passes;
use crate::session::registry::{Sessions, Signals};
use crate::session::relay::Common;
use crate::session::room::Rooms;
use crate::tasks::{Ended, Tasks};
use crate::window::journal::Journal;
use crate::window::{Controller, Desk};
use traffic::Windows;

/// How long sessions may take to end their transactions when the proxy stops.
const STOP_TIME: Duration = Duration::from_secs(30);

/// How long what is left may take after that.
const KILL_TIME: Duration = Duration::from_secs(5);

/// How long a migration that was cancelled may take to roll back.
const ROLL_BACK_TIME: Duration = Duration::from_secs(15);

/// How often samples of histograms are put into their buckets.
const UPKEEP: Duration = Duration::from_secs(5);

/// Every part of a running proxy.
struct App {
    config: Arc<Shared>,
    controller: Arc<Controller>,
    desk: Arc<Desk>,
    passes: Arc<Passes>,
    sessions: Arc<Sessions>,
    metrics: Arc<Metrics>,
    started_at: Timestamp,
    listen: Vec<String>,
    runner: Arc<Runner<Windows>>,
    /// Sessions, apart from the rest: they end first.
    sessions_tasks: Tasks,
    tasks: Tasks,
}

/// Serves until a signal says stop; returns when everything has ended. `source` is read again on
/// SIGHUP.
///
/// # Errors
/// When a socket cannot be had, or the state directory cannot be used.
pub async fn run(config: Config, source: Source, logging: Logging) -> anyhow::Result<()> {
    let signals = signals::Signals::install().context("signal handlers")?;
    let (journal, record) = Journal::open(&config.state_dir).context("state directory")?;
    let disguise = Disguise::kept_in(&config.state_dir).context("state directory")?;
    let mut listeners = Vec::new();
    for listen in &config.listen {
        let bound = Listener::bind(&listen.address).await;
        let bound = bound.with_context(|| format!("listening on {}", listen.address))?;
        listeners.push((bound, Arc::new(listen.clone())));
    }
    let admin = TcpListener::bind(config.admin_listen).await;
    let admin = admin.with_context(|| format!("admin HTTP on {}", config.admin_listen))?;

    raise_file_limit(&config.limits);
    let (tasks, sessions_tasks) = (Tasks::new(), Tasks::new());
    let metrics = Arc::new(Metrics::new());
    let audit = Arc::new(Audit::kept_in(
        &config.state_dir,
        config.audit.rotate_bytes,
        config.audit.keep,
    ));
    let gates = Arc::new(Gates::new(
        tasks.clone(),
        Arc::clone(&metrics),
        Arc::clone(&audit),
    ));
    let sessions = Arc::new(Sessions::default());
    let config = Arc::new(Shared::new(config));
    let own = OwnBackends::default();
    let controller = Arc::new(Controller::new(
        Arc::clone(&gates),
        Arc::clone(&sessions),
        Arc::clone(&config),
        (journal, record.clone()),
        own.clone(),
        tasks.clone(),
        (Arc::clone(&metrics), audit),
    ));
    let passes = Arc::new(Passes::default());
    let desk = Desk::new(Arc::clone(&controller), Arc::clone(&passes), tasks.clone());
    gates.set_pace(gates::pace(&config.load()));
    // Before any client: what was held is held again.
    let left = controller.take_up(&record);
    let lookups = Arc::new(Lookups::new(own.clone(), tasks.clone()));
    let runner = migrations::runner(&controller, &config, own, &tasks);

    let listen: Vec<String> = listeners.iter().map(|(bound, _)| bound.name()).collect();
    let app = Arc::new(App {
        config,
        controller,
        desk: Arc::new(desk),
        passes,
        sessions,
        metrics,
        started_at: Timestamp::now(),
        listen,
        runner: Arc::new(runner),
        sessions_tasks,
        tasks,
    });
    app.accept(listeners, gates, (lookups, disguise));
    app.upkeep();
    app.watch_gates();
    app.settle(left);
    let admin_address = admin.local_addr().context("admin HTTP")?;
    crate::admin::serve(
        admin,
        Arc::new(api::AppApi::new(Arc::clone(&app))),
        &app.tasks,
    );
    let endpoints = Endpoints {
        pid: std::process::id(),
        started_at: app.started_at,
        listen: app.listen.clone(),
        admin: admin_address.to_string(),
    };
    let state_dir = app.config.load().state_dir.clone();
    endpoints.write(&state_dir).context("state directory")?;
    tracing::info!(listen = ?app.listen, admin = %admin_address, "serving");
    app.controller.audit().tell(Event {
        outcome: Some(format!(
            "version {}, process {}",
            env!("CARGO_PKG_VERSION"),
            std::process::id()
        )),
        ..Event::here(Kind::Started)
    });

    signals.obey(&app, &source, &logging).await;
    app.stop().await;
    // Nobody is left to be found there.
    let _ = Endpoints::remove(&state_dir);
    Ok(())
}

/// Files that are open besides the two sockets of each session.
const FILES_BESIDES: u64 = 128;

/// Each session takes two files, whoever has not come so far one, and so does a cancel request on
/// its way; systems start a process with few: asks for all it may have.
fn raise_file_limit(limits: &Limits) {
    let needed = 2 * limits.connections + limits.logins + limits.cancels;
    let needed = needed as u64 + FILES_BESIDES;
    match rlimit::increase_nofile_limit(needed) {
        Ok(limit) if limit < needed => tracing::warn!(
            limit,
            needed,
            "too few open files are allowed for [limits]; raise the limit (ulimit -n)"
        ),
        Ok(_) => {}
        Err(error) => tracing::warn!(%error, "the limit of open files is not known"),
    }
}

impl App {
    /// Takes clients on every socket until the proxy stops.
    fn accept(
        self: &Arc<Self>,
        listeners: Vec<(Listener, Arc<Listen>)>,
        gates: Arc<Gates>,
        (lookups, disguise): (Arc<Lookups>, Disguise),
    ) {
        let common = Common {
            tasks: self.tasks.clone(),
            cancels: Cancels::new(self.config.load().limits.cancels),
            metrics: Arc::clone(&self.metrics),
        };
        let host = Arc::new(Host {
            gates,
            sessions: Arc::clone(&self.sessions),
            common: Arc::new(common),
            tasks: self.sessions_tasks.clone(),
            rooms: Rooms::default(),
            lookups,
            disguise,
            passes: Arc::clone(&self.passes),
        });
        for (listener, listen) in listeners {
            let (app, host) = (Arc::clone(self), Arc::clone(&host));
            let stop = self.sessions_tasks.shutdown_token();
            self.tasks.spawn("listener", async move {
                let mut pace = Pace::default();
                loop {
                    let next = async {
                        pace.wait(app.config.load().limits.accepts_per_second).await;
                        listener.accept(&app.config).await
                    };
                    let (stream, peer) = tokio::select! {
                        client = next => client,
                        () = stop.cancelled() => return,
                    };
                    app.metrics.connection_accepted();
                    let listen = Arc::clone(&listen);
                    let arrival = Arrival::new(stream, peer, listen);
                    let session = Arc::clone(&host).serve(arrival, app.config.load());
                    app.sessions_tasks.spawn("session", session);
                }
            });
        }
    }

    /// Small chores at long intervals.
    fn upkeep(self: &Arc<Self>) {
        let app = Arc::clone(self);
        let stop = self.tasks.shutdown_token();
        self.tasks.spawn("upkeep", async move {
            let mut due = tokio::time::interval(UPKEEP);
            loop {
                tokio::select! {
                    _ = due.tick() => {
                        app.metrics.run_upkeep();
                        app.controller.forget_departed().await;
                        app.controller.forget_ended().await;
                    }
                    () = stop.cancelled() => return,
                }
            }
        });
    }

    /// Sessions end at their next boundary, or after a time wherever they are; then the rest.
    async fn stop(&self) {
        tracing::info!(sessions = self.sessions.len(), "stopping");
        self.controller.audit().tell(Event::here(Kind::Stopping));
        self.runner.stop_all();
        self.signal_all(Signals::STOP);
        if let Ended::TimedOut(left) = self.sessions_tasks.stop(STOP_TIME).await {
            tracing::warn!(left, "sessions still in a transaction are ended");
            self.signal_all(Signals::KILL);
            self.sessions_tasks.stop(KILL_TIME).await;
        }
        match self.tasks.stop(ROLL_BACK_TIME).await {
            Ended::Graceful => tracing::info!("stopped"),
            Ended::TimedOut(left) => tracing::warn!(left, "stopped with tasks left over"),
        }
    }

    fn signal_all(&self, signals: Signals) {
        for session in self.sessions.all() {
            session.signal(signals);
        }
    }
}
