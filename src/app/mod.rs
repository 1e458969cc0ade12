//! The composition root: builds every part in order, and stops them in reverse.

mod admin;
mod api;
mod canary;
mod doors;
mod drain;
mod events;
mod expiry;
mod fence;
mod gates;
mod handover;
mod hold;
mod home;
mod known;
mod listing;
mod measures;
mod migrations;
mod mode;
mod pace;
mod precheck;
mod reload;
mod running;
mod shutdown;
mod signals;
mod statements;
mod supervisor;
mod surface;
mod traces;
mod traffic;
mod windows;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use jiff::Timestamp;
use tokio::sync::watch;

use crate::admin::types::{Endpoints, Shutdown};
use crate::audit::{Audit, Event, Kind};
use crate::auth::users::Disguise;
use crate::config::{Config, Shared, Source};
use crate::gate::Gates;
use crate::logging::Logging;
use crate::metrics::Metrics;
use crate::runner::Runner;
use crate::server::cancel::Cancels;
use crate::server::lookup::Lookups;
use crate::server::own::OwnBackends;
use crate::session::console::{Count, Reception};
use crate::session::life::Host;
use crate::session::passes::Passes;
use crate::session::registry::{Sessions, Signals};
use crate::session::relay::Common;
use crate::session::room::Rooms;
use crate::session::standbys::Standbys;
use crate::tasks::workers::Workers;
use crate::tasks::{Ended, Tasks};
use crate::window::journal::Journal;
use crate::window::{Controller, Desk};
use canary::Canaries;
use doors::{AdminSockets, Doors};
pub use handover::Start;
use handover::{Found, Succession, Taking};
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
    sessions: Arc<Sessions>,
    metrics: Arc<Metrics>,
    started_at: Timestamp,
    listen: Vec<String>,
    runner: Arc<Runner<Windows>>,
    doors: Doors,
    admin_sockets: AdminSockets,
    /// Whether another process has taken over, or is about to.
    succession: watch::Sender<Succession>,
    /// The admin HTTP, which ends when another process has taken over.
    admin_tasks: Tasks,
    /// Sessions, apart from the rest: they end first.
    sessions_tasks: Tasks,
    /// Where they run, each of them on one.
    workers: Arc<Workers>,
    /// The rest, beside the workers.
    tasks: Tasks,
    reloader: reload::Reloader,
    turns: mode::Turns,
    shutdowns: shutdown::Shutdowns,
    /// How many are in the console.
    visitors: Count,
}

/// Serves until a signal says stop; returns when everything has ended. `source` is read again on
/// SIGHUP. Sessions run on `workers`, all else on the current runtime.
///
/// # Errors
/// When a socket cannot be had, or the state directory cannot be used; when a worker was lost.
pub async fn run(
    config: Config,
    source: Source,
    logging: Logging,
    start: Start,
    workers: Arc<Workers>,
) -> anyhow::Result<()> {
    let signals = signals::Signals::install().context("signal handlers")?;
    let state_dir = config.state_dir.clone();
    let mut found = match start.take_over {
        true => Taking::begin(&state_dir, start.old_for).await?,
        false => Found::Nobody,
    };
    // Before anything is bound: nobody else works with this directory.
    let opened = match &found {
        Found::Nobody => Some(Journal::open(&state_dir).context("state directory")?),
        Found::Willing(_) => None,
    };
    let disguise = Disguise::kept_in(&state_dir).context("state directory")?;
    let (mut inherited, borrowed) = match &mut found {
        Found::Nobody => {
            let borrowed = !start.sockets.is_empty();
            (start.sockets, borrowed)
        }
        Found::Willing(taking) => (std::mem::take(&mut taking.sockets), taking.borrowed),
    };
    let mut listeners = Vec::new();
    for listen in &config.listen {
        let bound = inherited.listener(&listen.address, &config.tcp).await;
        let bound = bound.with_context(|| format!("listening on {}", listen.address))?;
        listeners.push((bound, Arc::new(listen.clone())));
    }
    let mut admin = Vec::new();
    for (at, place) in config.admin.listen.iter().enumerate() {
        let bound = inherited.admin(place, at == 0).await;
        let bound = bound.with_context(|| format!("admin HTTP on {place}"))?;
        admin.push((place.clone(), bound));
    }
    if !inherited.left().is_empty() {
        let left = inherited.left().join(", ");
        match &found {
            Found::Nobody => bail!("systemd passed sockets that no setting listens on: {left}"),
            // The configuration has changed.
            Found::Willing(_) => tracing::info!(left, "sockets that are no longer listened on"),
        }
    }
    let (journal, record) = match (&mut found, opened) {
        (Found::Willing(taking), _) => taking.journal(&state_dir).await?,
        (Found::Nobody, Some(opened)) => opened,
        (Found::Nobody, None) => bail!("nobody opened the journal"),
    };

    raise_file_limit(&config);
    let (tasks, sessions_tasks) = (Tasks::at_home(), Tasks::new());
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
    let desk = Arc::new(desk);
    gates.set_pace(gates::pace(&config.load()));
    // Before any client: what was held is held again.
    let left = controller.take_up(&record);
    let lookups = Arc::new(Lookups::new(own.clone(), tasks.clone()));
    let standbys = watch_standbys(&config, &gates, &own, &tasks);
    let canaries = Canaries::new(&passes);
    let runner = (own, canaries.clone());
    let runner = migrations::runner(&controller, &config, runner, &tasks, &metrics);
    let traces = config.load().traces.clone();
    let traces = traces.map(|it| traces::begin(&it, (&controller, &desk), &metrics, &tasks));
    let runner = runner.telling(traces.transpose().context("traces")?);

    let common = Common {
        tasks: tasks.clone(),
        cancels: Cancels::new(config.load().limits.cancels),
        metrics: Arc::clone(&metrics),
    };
    let (reception, visitors) = Reception::new();
    let count = reception.count();
    let host = Host {
        gates,
        sessions: Arc::clone(&sessions),
        common: Arc::new(common),
        tasks: sessions_tasks.clone(),
        rooms: Rooms::default(),
        lookups,
        standbys,
        disguise,
        passes,
        reception,
        elsewhere: Arc::clone(&controller) as _,
    };
    let doors = Doors::new(Arc::new(host), listeners, borrowed);
    canaries.listen_on(doors.names());
    let app = Arc::new(App {
        config,
        controller,
        desk,
        sessions,
        metrics,
        started_at: Timestamp::now(),
        listen: doors.names(),
        runner: Arc::new(runner),
        doors,
        admin_sockets: AdminSockets::of(&admin).context("admin HTTP")?,
        succession: watch::Sender::new(Succession::Serving),
        sessions_tasks,
        workers,
        admin_tasks: Tasks::at_home(),
        tasks,
        reloader: reload::Reloader { source, logging },
        turns: mode::Turns::default(),
        shutdowns: shutdown::Shutdowns::default(),
        visitors: count,
    });
    app.open_doors();
    if let Found::Willing(taking) = found {
        taking.serving(&app).await?;
    }
    app.doors.own();
    app.watch_former().await;
    app.await_successor();
    app.upkeep();
    app.watch_ends();
    app.keep_watch();
    app.watch_gates();
    app.watch_home();
    app.settle(left);
    app.runner.take_up_watches();
    let admin_addresses = app.serve_admin(admin, visitors).context("admin HTTP")?;
    let endpoints = Endpoints {
        pid: std::process::id(),
        started_at: app.started_at,
        listen: app.listen.clone(),
        admin: admin_addresses.first().cloned().unwrap_or_default(),
        admin_all: admin_addresses.clone(),
    };
    endpoints.write(&state_dir).context("state directory")?;
    tracing::info!(listen = ?app.listen, admin = ?admin_addresses, "serving");
    app.controller.audit().tell(Event {
        outcome: Some(format!(
            "version {}, process {}",
            env!("CARGO_PKG_VERSION"),
            std::process::id()
        )),
        ..Event::here(Kind::Started)
    });
    supervisor::tell(supervisor::State::Ready);
    app.tell_alive();

    let (lost, how) = tokio::select! {
        () = signals.obey(&app) => (false, Shutdown::AfterTransactions),
        () = app.outlive() => (false, Shutdown::AfterTransactions),
        how = app.told_to_stop() => (false, how),
        // Half of a proxy is none: who supervises it starts it again.
        () = app.workers.lost() => (true, Shutdown::AfterTransactions),
    };
    supervisor::tell(supervisor::State::Stopping);
    app.shutdowns.ask(how);
    app.stop(how).await;
    let succession = *app.succession.borrow();
    match succession {
        // Nobody is left to be found there.
        Succession::Serving | Succession::HandingOver => {
            app.remove_admin_files();
            drop(Endpoints::remove(&state_dir));
        }
        Succession::Former { .. } => {}
    }
    match lost {
        true => bail!("a worker thread was lost"),
        false => Ok(()),
    }
}

/// Files that are open besides the two sockets of each session.
const FILES_BESIDES: u64 = 128;

/// Those that a worker has for its runtime, at most.
const FILES_PER_WORKER: usize = 8;

/// Keeps asking the standbys that take reads.
fn watch_standbys(
    config: &Arc<Shared>,
    gates: &Arc<Gates>,
    own: &OwnBackends,
    tasks: &Tasks,
) -> Arc<Standbys> {
    let standbys = Arc::new(Standbys::new(own.clone(), tasks.clone()));
    let (watch, stop) = (Arc::clone(&standbys), tasks.shutdown_token());
    let (config, gates) = (Arc::clone(config), Arc::clone(gates));
    tasks.spawn("standbys", async move {
        tokio::select! {
            () = watch.watch(&config, &gates) => {}
            () = stop.cancelled() => {}
        }
    });
    standbys
}

/// Each session takes two files, whoever has not come so far one, and so does a cancel request on
/// its way; systems start a process with few: asks for all it may have.
fn raise_file_limit(config: &Config) {
    let limits = &config.limits;
    let needed = 2 * limits.connections + limits.logins + limits.cancels;
    let needed = needed + FILES_PER_WORKER * config.workers;
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
    async fn stop(&self, how: Shutdown) {
        tracing::info!(sessions = self.sessions.len(), "stopping");
        self.controller.audit().tell(Event::here(Kind::Stopping));
        self.runner.stop_all();
        self.doors.shut().await;
        self.signal_all(Signals::STOP);
        let patience = match how {
            Shutdown::Now => Duration::ZERO,
            Shutdown::AfterTransactions | Shutdown::AfterClients => STOP_TIME,
        };
        if let Ended::TimedOut(left) = self.sessions_tasks.stop(patience).await {
            tracing::warn!(left, "sessions still in a transaction are ended");
            self.signal_all(Signals::KILL);
            self.sessions_tasks.stop(KILL_TIME).await;
        }
        self.admin_tasks.stop(KILL_TIME).await;
        // Nobody would be left to do it. What is not reached in this time is in the journal.
        let lowered = tokio::time::timeout(KILL_TIME, self.controller.lower_fences());
        if lowered.await.is_err() {
            tracing::error!("a fence is still up: the next start takes it down");
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
