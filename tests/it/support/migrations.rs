//! A cluster with a runner beside it, and a traffic that does what the test says.

use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use pgdrain::config::{AskedLadder, Host, HumanDuration, OnDrift, Preflight, UrlTls};
use pgdrain::metrics::statements::{Measured, Statements};
use pgdrain::runner::source::{PostedFile, Sha256};
use pgdrain::runner::types::{
    Direction, EventKind, MigrationRequest, RunState, RunView, StatusReport, StatusRequest,
    StepTraffic, TrafficMode,
};
use pgdrain::runner::{
    Connector, Endpoint, Finish, Grant, Options, Refused, Runner, Traffic, WindowRequest,
    WindowStage,
};
use pgdrain::server::own::OwnBackends;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_postgres::Client;
use tokio_util::task::TaskTracker;

use super::cluster::Postgres;
use super::poll::{PATIENCE, SOON, eventually, within};

/// The database in which migrations run.
pub(crate) const DATABASE: &str = "postgres";

/// A traffic that grants every window, unless told otherwise, and writes down what it was asked.
pub(crate) struct Windows {
    /// `begin` (or `begin read-only`) and `reopen` or `held: reason`, in order.
    log: Mutex<Vec<String>>,
    pub(crate) behaviour: Mutex<Behaviour>,
    /// What clients feel, if somebody measures it.
    pub(crate) clients: OnceLock<Statements>,
    lost: watch::Sender<Option<String>>,
}

/// What a traffic does with the next request.
#[derive(Clone)]
pub(crate) enum Behaviour {
    Grant,
    GrantFor(Duration),
    Refuse,
    /// Never answers.
    Drain,
}

impl Windows {
    pub(crate) fn log(&self) -> Vec<String> {
        self.log.lock().expect("no test panicked here").clone()
    }

    pub(crate) fn set(&self, behaviour: Behaviour) {
        *self.behaviour.lock().expect("no test panicked here") = behaviour;
    }

    /// Takes every window away.
    pub(crate) fn lose(&self, why: &str) {
        self.lost.send_replace(Some(why.to_owned()));
    }

    fn write(&self, line: impl Into<String>) {
        self.log
            .lock()
            .expect("no test panicked here")
            .push(line.into());
    }
}

/// What the window was asked, as a report that a test can look into.
fn told(drain: &AskedLadder) -> serde_json::Value {
    serde_json::json!({ "ladder": drain.preset, "wait": drain.wait })
}

impl Traffic for Windows {
    async fn begin(&self, request: WindowRequest) -> Result<Grant, Refused> {
        self.write(match request.traffic {
            StepTraffic::ReadOnly => "begin read-only",
            StepTraffic::Exclusive | StepTraffic::Open => "begin",
        });
        request
            .progress
            .tell(WindowStage::Draining, "waiting for nobody");
        let behaviour = self
            .behaviour
            .lock()
            .expect("no test panicked here")
            .clone();
        let duration = match behaviour {
            Behaviour::Grant => request.duration,
            Behaviour::GrantFor(duration) => duration,
            Behaviour::Drain => std::future::pending().await,
            Behaviour::Refuse => {
                let message = "process 7 is in the way".to_owned();
                return Err(Refused {
                    message,
                    report: told(&request.drain),
                });
            }
        };
        Ok(Grant {
            id: "w1".to_owned(),
            ends_at: Instant::now() + duration,
            lost: self.lost.subscribe(),
            report: told(&request.drain),
        })
    }

    fn measured(&self, _database: &str) -> Option<Measured> {
        self.clients.get().map(Statements::measured)
    }

    async fn hold(&self, _database: &str, why: &str) -> Result<(), String> {
        self.write(format!("hold: {why}"));
        Ok(())
    }

    async fn finish(&self, _grant: Grant, finish: Finish) {
        self.write(match finish {
            Finish::Reopen => "reopen".to_owned(),
            Finish::StayHeld(why) => format!("held: {why}"),
        });
    }
}

/// A cluster, and a runner of its own for it.
pub(crate) struct Site {
    pub(crate) postgres: Postgres,
    pub(crate) client: Client,
    pub(crate) windows: Arc<Windows>,
    pub(crate) own: OwnBackends,
    pub(crate) runner: Runner<Windows>,
}

impl Site {
    pub(crate) async fn start() -> Self {
        Self::start_with(options()).await
    }

    pub(crate) async fn start_with(options: Options) -> Self {
        Self::on(Postgres::start().await, options).await
    }

    /// A runner for a cluster that is there.
    pub(crate) async fn on(mut postgres: Postgres, options: Options) -> Self {
        let client = postgres.connect(DATABASE).await;
        let windows = windows();
        let own = OwnBackends::default();
        let endpoint = endpoint(&postgres, "postgres");
        let runner = runner(endpoint, options, &own, &windows);
        Self {
            postgres,
            client,
            windows,
            own,
            runner,
        }
    }

    /// Runs statements as the superuser.
    pub(crate) async fn sql(&self, sql: &str) {
        let done = self.client.batch_execute(sql).await;
        done.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }

    /// A single value, as text.
    pub(crate) async fn ask(&self, sql: &str) -> String {
        text(&self.client, sql).await
    }

    /// `state` and `direction` of a version's row.
    pub(crate) async fn row(&self, version: u64) -> String {
        self.ask(&format!(
            "select state || ' ' || direction || ' ' || statements_done || '/' || statements_total \
             from pgdrain.migration where version = '{version}'"
        ))
        .await
    }

    /// Runs up files to the end.
    pub(crate) async fn up(&self, files: &[PostedFile]) -> RunView {
        let id = self.begin(files);
        self.end(&id).await
    }

    /// Begins to run up files.
    pub(crate) fn begin(&self, files: &[PostedFile]) -> String {
        self.runner
            .start(DATABASE, request(Direction::Up, files))
            .expect("a run")
    }

    /// Runs down files to the end.
    pub(crate) async fn down(&self, files: &[PostedFile], steps: u32) -> RunView {
        let request = MigrationRequest {
            steps: Some(steps),
            ..request(Direction::Down, files)
        };
        let id = self.runner.start(DATABASE, request).expect("a run");
        self.end(&id).await
    }

    /// Where each file stands.
    pub(crate) async fn status(&self, files: &[PostedFile]) -> StatusReport {
        let request = StatusRequest {
            files: files.to_vec(),
            ..StatusRequest::default()
        };
        let status = self.runner.status(DATABASE, &request).await;
        status.expect("a status")
    }

    /// Runs up files to the end, as a request says that is made of the usual one.
    pub(crate) async fn up_with(
        &self,
        files: &[PostedFile],
        change: impl FnOnce(&mut MigrationRequest),
    ) -> RunView {
        let mut request = request(Direction::Up, files);
        change(&mut request);
        let id = self.runner.start(DATABASE, request).expect("a run");
        self.end(&id).await
    }

    /// Waits for the end of a run.
    pub(crate) async fn end(&self, id: &str) -> RunView {
        end(&self.runner, id).await
    }

    /// Waits until one of the runner's sessions runs a statement, and returns its process id.
    pub(crate) async fn running(&self, statement: &str) -> i32 {
        let sql = "select pid from pg_stat_activity where application_name = 'pgdrain migrate' \
                   and state = 'active' and query like $1";
        eventually(statement, SOON, async || {
            let row = self
                .client
                .query_opt(sql, &[&format!("{statement}%")])
                .await
                .expect("a look at the sessions");
            row.map(|row| row.get(0))
        })
        .await
    }
}

/// Waits for the end of a run.
pub(crate) async fn end(runner: &Runner<Windows>, id: &str) -> RunView {
    within("the end of the run", PATIENCE, async {
        let mut after = 0;
        loop {
            let view = runner
                .follow(id, after, Duration::from_secs(1))
                .await
                .expect("the run");
            if view.state.is_final() {
                return runner.follow(id, 0, Duration::ZERO).await.expect("the run");
            }
            after = view.events.last().map_or(after, |event| event.seq);
        }
    })
    .await
}

pub(crate) fn windows() -> Arc<Windows> {
    Arc::new(Windows {
        log: Mutex::default(),
        behaviour: Mutex::new(Behaviour::Grant),
        clients: OnceLock::new(),
        lost: watch::Sender::new(None),
    })
}

/// A runner; its tasks are children of the test's runtime.
pub(crate) fn runner(
    endpoint: Endpoint,
    options: Options,
    own: &OwnBackends,
    windows: &Arc<Windows>,
) -> Runner<Windows> {
    let tasks = TaskTracker::new();
    let connector = Connector::new(
        Arc::new(move |_| Some(endpoint.clone())),
        own.clone(),
        tasks.clone(),
    );
    Runner::new(Arc::clone(windows), connector, options, tasks)
}

pub(crate) fn endpoint(postgres: &Postgres, user: &str) -> Endpoint {
    let addr = postgres.addr();
    Endpoint {
        hosts: vec![Host::Tcp {
            name: addr.ip().to_string(),
            port: addr.port(),
        }],
        tls: pgdrain::tls::connector::Connector::disabled(),
        url_tls: UrlTls::default(),
        user: user.to_owned(),
        password: None,
        options: None,
        connect_timeout: Duration::from_secs(10),
    }
}

/// Options whose waits suit a test.
pub(crate) fn options() -> Options {
    Options {
        lock_wait: Duration::from_secs(2),
        recover_wait: Duration::from_secs(10),
        settle_wait: Duration::from_secs(30),
        // Most tests are about the way up.
        down_required: false,
        // They put things right between two runs by themselves.
        preflight: Preflight {
            drift: OnDrift::Tell,
            ..Preflight::default()
        },
        ..Options::default()
    }
}

pub(crate) fn request(direction: Direction, files: &[PostedFile]) -> MigrationRequest {
    MigrationRequest {
        direction,
        steps: None,
        files: files.to_vec(),
        format: None,
        history: None,
        write_back: false,
        backup: None,
        traffic: TrafficMode::Auto,
        window: Some(HumanDuration(Duration::from_secs(60))),
        ladder: None,
        wait: None,
        cancel: None,
        autocommit: None,
        stuck: None,
        abort: None,
        terminate: None,
        bypass: None,
        fence: None,
        lock_timeout: None,
        statement_timeout: None,
        force: false,
        when: None,
        rollback_by: None,
        reason: None,
        by: Some("a test".to_owned()),
        watch: None,
        measure: None,
        canary: None,
        down_on_failure: false,
        analyze_first: false,
        copy_tables: false,
    }
}

pub(crate) fn file(name: &str, sql: &str) -> PostedFile {
    let sha256 = Sha256::of(sql.as_bytes()).to_string();
    PostedFile {
        name: name.to_owned(),
        sql: sql.to_owned(),
        sha256,
    }
}

pub(crate) async fn text(client: &Client, sql: &str) -> String {
    let row = client
        .query_one(&format!("select ({sql})::text"), &[])
        .await;
    let row = row.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    row.get::<_, Option<String>>(0)
        .unwrap_or_else(|| "null".to_owned())
}

/// State and exit code; panics with the whole run if they are others.
#[track_caller]
pub(crate) fn assert_end(view: &RunView, state: RunState, exit_code: u8) {
    assert_eq!(
        (view.state, view.exit_code),
        (state, Some(exit_code)),
        "{view:#?}"
    );
}

/// The failure as a sentence.
pub(crate) fn failure(view: &RunView) -> String {
    let report = view.report.as_ref().expect("a report");
    report
        .failure
        .as_ref()
        .map(ToString::to_string)
        .unwrap_or_default()
}

/// Texts of one kind of event.
pub(crate) fn texts(view: &RunView, kind: EventKind) -> Vec<&str> {
    view.events
        .iter()
        .filter(|it| it.kind == kind)
        .map(|it| it.text.as_str())
        .collect()
}
