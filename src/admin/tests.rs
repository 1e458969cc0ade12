//! The admin HTTP on a real socket, with a program behind it that is made up.

mod document;
mod patience;
mod surface;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::sse::{Feed, feed};
use super::types::{
    Acknowledged, CancelRequest, Cancelling, CapRequest, CapResult, CapStatus, DrainRequest,
    ErrorBody, Events, Forecast, MeasureRequest, MigrationStarted, Migrations, ModeName,
    ModeRequest, ModeResult, ModeResults, Precheck, PrecheckQuery, Sessions, SessionsQuery,
    StatementsView, Status, WindowCommand, WindowMode, WindowOrder, WindowTaken, WindowView,
    WindowViews,
};
use super::types::{PaceView, RunningStatements};
use super::*;
use crate::config::{Bypass, Permission, Preset};
use crate::metrics::statements::Measured;
use crate::runner::account::Account;
use crate::runner::aftermath::WatchView;
use crate::runner::approvals::{
    Approval, Approvals, ApproveRequest, DecideRequest, Decision, RevokeRequest,
};
use crate::runner::backup::{Backups, Pruned, RestoreRequest, Restored};
use crate::runner::drift::{DriftReport, DriftRequest};
use crate::runner::gonogo::{GoNoGo, GoNoGoRequest};
use crate::runner::lint::LintReport;
use crate::runner::plan::PlanReport;
use crate::runner::preflight::PreflightReport;
use crate::runner::rehearse::RehearseRequest;
use crate::runner::repair::{RepairReport, RepairRequest};
use crate::runner::restore::{InPlace, InPlaceRequest};
use crate::runner::saved::{ReplayRequest, Replayed, SavedObjects};
use crate::runner::types::{
    Direction, MigrationRequest, PlanRequest, RunState, RunView, StatusReport, StatusRequest,
};
use crate::runner::verify::{VerifyReport, VerifyRequest};
use crate::tasks::{Ended, Tasks};
use crate::window::steps::Command;

/// Answers everything and remembers the requests for a mode. A hold that is waited for never ends.
#[derive(Default)]
pub(super) struct Fake {
    modes: Mutex<Vec<(Databases, ModeRequest)>>,
    replays: Replays,
    feeders: Arc<AtomicUsize>,
}

/// Whoever asks for events behind this one is fed for as long as it reads.
const ENDLESS: u64 = 1_000_000;

impl Fake {
    fn modes(&self) -> MutexGuard<'_, Vec<(Databases, ModeRequest)>> {
        self.modes.lock().expect("no holder panics")
    }

    /// How many readers are fed that never have enough.
    fn feeders(&self) -> usize {
        self.feeders.load(Ordering::Relaxed)
    }
}

impl Api for Fake {
    async fn ready(&self) -> Result<(), ApiError> {
        Err(ApiError::unavailable("not_ready", "No server answers yet."))
    }

    async fn change_drain(
        &self,
        databases: Databases,
        request: DrainRequest,
        _caller: Caller,
    ) -> Result<ModeResults, ApiError> {
        let message = format!("{databases:?} {:?}", request.ladder);
        Err(ApiError::conflict("not_draining", message))
    }

    async fn precheck(&self, database: String, query: PrecheckQuery) -> Precheck {
        Precheck {
            database,
            go: false,
            mode: query.mode.unwrap_or(WindowMode::Exclusive),
            ladder: query.ladder.unwrap_or(Preset::Gentle),
            bypass: query.bypass.unwrap_or(Bypass::Wait),
            findings: Vec::new(),
            expected: Forecast {
                seconds: 0,
                drain_p50_ms: 0,
                drain_p90_ms: 0,
                drain_max_ms: 0,
                transactions_per_second: 0.0,
                sessions: 0,
                held_after_p90: 0,
            },
        }
    }

    async fn metrics(&self) -> String {
        "pgdrain_sessions 0\n".to_owned()
    }

    async fn status(&self) -> Status {
        Status {
            version: "1".to_owned(),
            started_at: jiff::Timestamp::UNIX_EPOCH,
            uptime_ms: 5,
            listen: vec![],
            upstream: "db:5432".to_owned(),
            state_dir: "/".to_owned(),
            databases: vec![],
            former: None,
            standing: Vec::new(),
            stopping: None,
        }
    }

    async fn sessions(
        &self,
        databases: Databases,
        query: SessionsQuery,
    ) -> Result<Sessions, ApiError> {
        match databases {
            Databases::One(name) if name == "shop" => Ok(Sessions {
                sessions: vec![],
                total: query.limit.unwrap_or_default() as u64,
                next: Some(format!("{query:?}")),
            }),
            Databases::One(_) | Databases::All => Err(ApiError::not_found("No such database.")),
        }
    }

    async fn events(&self, after: u64, _wait: Duration) -> Events {
        Events {
            events: vec![],
            last: after,
            gap: false,
        }
    }

    fn follow_events(&self, after: u64) -> Feed {
        let (feeder, feed) = feed();
        if after == ENDLESS {
            let feeders = Arc::clone(&self.feeders);
            Tasks::new().spawn("events", async move {
                feeders.fetch_add(1, Ordering::Relaxed);
                let long = "x".repeat(4 << 10);
                while feeder.send(after, "hold", &long).await.is_ok() {}
                feeders.fetch_sub(1, Ordering::Relaxed);
            });
            return feed;
        }
        let send = async move { feeder.send(after + 1, "hold", &"news").await };
        Tasks::new().spawn("events", send);
        feed
    }

    async fn set_mode(
        &self,
        databases: Databases,
        request: ModeRequest,
        answer: Answer,
        caller: Caller,
    ) -> Result<ModeResults, ApiError> {
        assert!(caller.from.starts_with("127.0.0.1:"), "{caller:?}");
        self.modes().push((databases, request.clone()));
        let result = ModeResult {
            database: "shop".to_owned(),
            scope: None,
            mode: ModeName::Hold,
            generation: 1,
            drain: None,
        };
        match (answer, request) {
            (Answer::AtOnce, _) => Ok(ModeResults {
                tag: Some("t2".to_owned()),
                results: vec![result],
            }),
            (Answer::WhenDrained, ModeRequest::Open(_)) => Err(ApiError::not_drained(
                "Somebody is in the way.",
                vec![result],
            )),
            (Answer::WhenDrained, ModeRequest::Hold(_) | ModeRequest::ReadOnly(_)) => {
                std::future::pending().await
            }
        }
    }

    async fn statements(&self, database: String, most: usize) -> StatementsView {
        StatementsView {
            database,
            until: None,
            measured: Measured {
                units: most as u64,
                ..Measured::default()
            },
        }
    }

    async fn measure_statements(
        &self,
        database: String,
        _request: MeasureRequest,
        _caller: Caller,
    ) -> Result<StatementsView, ApiError> {
        Ok(self.statements(database, 0).await)
    }

    async fn cap(
        &self,
        database: String,
        request: CapRequest,
        _caller: Caller,
    ) -> Result<CapResult, ApiError> {
        let transactions = request.transactions.of(100);
        let cap = transactions.map(|transactions| CapStatus {
            transactions,
            until: None,
            by: String::new(),
            reason: String::new(),
        });
        Ok(CapResult { database, cap })
    }

    async fn running(
        &self,
        _database: String,
        pids: Vec<i32>,
    ) -> Result<RunningStatements, ApiError> {
        Err(ApiError::unavailable("not_known", format!("{pids:?}")))
    }

    async fn pace(&self, database: String) -> Result<PaceView, ApiError> {
        let message = format!("Nobody has connected to {database}.");
        Err(ApiError::not_found(message))
    }

    async fn start_migration(
        &self,
        database: String,
        request: MigrationRequest,
    ) -> Result<MigrationStarted, ApiError> {
        let id = format!("{database} {} {}", request.direction, request.files.len());
        Ok(MigrationStarted { id })
    }

    async fn migration_status(
        &self,
        _database: String,
        _request: StatusRequest,
    ) -> Result<StatusReport, ApiError> {
        Ok(StatusReport::default())
    }

    async fn plan_migration(
        &self,
        _database: String,
        _request: PlanRequest,
    ) -> Result<PlanReport, ApiError> {
        Err(ApiError::unavailable("no_catalog", "There is none."))
    }

    async fn lint_migration(
        &self,
        database: String,
        _request: PlanRequest,
    ) -> Result<LintReport, ApiError> {
        Ok(LintReport::refused(Some(database), Vec::new()))
    }

    async fn rehearse_migration(
        &self,
        database: String,
        request: RehearseRequest,
    ) -> Result<MigrationStarted, ApiError> {
        let id = format!("{database} {} {:?}", request.data, request.on);
        Ok(MigrationStarted { id })
    }

    async fn preflight_migration(
        &self,
        _database: String,
        _request: PlanRequest,
    ) -> Result<PreflightReport, ApiError> {
        Err(ApiError::unavailable("no_history", "There is none."))
    }

    async fn migration_report(
        &self,
        database: String,
        run: Option<String>,
    ) -> Result<Account, ApiError> {
        Err(ApiError::not_found(format!("{database} {run:?}")))
    }

    async fn unwatch(&self, _database: String) -> Result<WatchView, ApiError> {
        Err(ApiError::conflict("over", "Nothing is watched."))
    }

    async fn backups(&self, _database: String) -> Result<Backups, ApiError> {
        Err(ApiError::conflict("no_backups", "There are none."))
    }

    async fn prune_backups(&self, _database: String) -> Result<Pruned, ApiError> {
        Ok(Pruned::default())
    }

    async fn restore_backup(
        &self,
        _database: String,
        request: RestoreRequest,
    ) -> Result<Restored, ApiError> {
        Err(ApiError::not_found(request.run))
    }

    async fn restore_in_place(
        &self,
        _database: String,
        request: InPlaceRequest,
    ) -> Result<InPlace, ApiError> {
        Err(ApiError::not_found(request.run))
    }

    async fn repair_migration(
        &self,
        _database: String,
        request: RepairRequest,
    ) -> Result<RepairReport, ApiError> {
        Err(ApiError::not_found(request.by.unwrap_or_default()))
    }

    async fn verify_migration(
        &self,
        _database: String,
        request: VerifyRequest,
    ) -> Result<VerifyReport, ApiError> {
        Err(ApiError::not_found(request.history.unwrap_or_default()))
    }

    async fn migration_drift(
        &self,
        _database: String,
        request: DriftRequest,
    ) -> Result<DriftReport, ApiError> {
        Err(ApiError::not_found(request.reason.unwrap_or_default()))
    }

    async fn saved_objects(&self, _db: String, run: String) -> Result<SavedObjects, ApiError> {
        Err(ApiError::not_found(run))
    }

    async fn replay_objects(
        &self,
        _database: String,
        request: ReplayRequest,
    ) -> Result<Replayed, ApiError> {
        Err(ApiError::not_found(request.run))
    }

    async fn migrations(&self, _database: String) -> Result<Migrations, ApiError> {
        let migrations = vec![];
        Ok(Migrations { migrations })
    }

    async fn migration(&self, id: String, after: u64, wait: Duration) -> Result<RunView, ApiError> {
        Ok(Self::view(format!("{id} {after} {wait:?}")))
    }

    async fn order_window(
        &self,
        database: String,
        order: WindowOrder,
        _caller: Caller,
    ) -> Result<WindowTaken, ApiError> {
        let key = order.idempotency_key.unwrap_or_default();
        Err(ApiError::conflict("busy", format!("{database} {key}")))
    }

    async fn windows(&self, _databases: Databases) -> WindowViews {
        WindowViews { windows: vec![] }
    }

    async fn window(&self, id: String, after: u64, wait: Duration) -> Result<WindowView, ApiError> {
        Err(ApiError::not_found(format!("{id} {after} {wait:?}")))
    }

    fn follow_window(&self, id: String) -> Result<Feed, ApiError> {
        Err(ApiError::not_found(id))
    }

    async fn command_window(
        &self,
        id: String,
        command: Command,
        body: WindowCommand,
        _caller: Caller,
    ) -> Result<WindowView, ApiError> {
        let message = format!("{id} {command:?} {}", body.term);
        Err(ApiError::conflict("late_term", message))
    }

    async fn cancel_migration(
        &self,
        id: String,
        request: CancelRequest,
    ) -> Result<Cancelling, ApiError> {
        let id = format!("{id} by {:?}", request.by);
        Ok(Cancelling { id })
    }

    async fn approve(
        &self,
        _database: String,
        _request: ApproveRequest,
    ) -> Result<Approval, ApiError> {
        Err(ApiError::not_found("The fake has none."))
    }

    async fn approvals(
        &self,
        _database: String,
        _plan: Option<String>,
    ) -> Result<Approvals, ApiError> {
        Err(ApiError::not_found("The fake has none."))
    }

    async fn revoke(
        &self,
        _database: String,
        _request: RevokeRequest,
    ) -> Result<Approval, ApiError> {
        Err(ApiError::not_found("The fake has none."))
    }

    async fn gonogo(&self, _database: String, _request: GoNoGoRequest) -> Result<GoNoGo, ApiError> {
        Err(ApiError::not_found("The fake has none."))
    }

    async fn decide(
        &self,
        _database: String,
        _request: DecideRequest,
    ) -> Result<Decision, ApiError> {
        Err(ApiError::not_found("The fake has none."))
    }

    async fn acknowledge(
        &self,
        id: String,
        request: CancelRequest,
    ) -> Result<Acknowledged, ApiError> {
        let by = request.by.unwrap_or_default();
        Ok(Acknowledged { id, by })
    }
}

impl Fake {
    fn view(id: String) -> RunView {
        RunView {
            id,
            database: "shop".to_owned(),
            direction: Direction::Up,
            state: RunState::Applying,
            exit_code: None,
            events: vec![],
            report: None,
            watch: None,
            after: None,
        }
    }
}

struct Server {
    address: SocketAddr,
    tasks: Tasks,
    api: Arc<Fake>,
}

async fn server() -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let (tasks, api) = (Tasks::new(), Arc::new(Fake::default()));
    let access = Arc::new(Access::local(&Permission::ALL));
    serve(listener, Arc::clone(&api), access, &tasks);
    Server {
        address,
        tasks,
        api,
    }
}

impl Server {
    /// Sends these bytes and gives the whole answer: its first line, its headers and its body.
    async fn raw(&self, request: &str) -> (String, String) {
        let mut stream = TcpStream::connect(self.address).await.expect("it listens");
        stream
            .write_all(request.as_bytes())
            .await
            .expect("it reads");
        let mut answer = String::new();
        let read = stream.read_to_string(&mut answer);
        let read = tokio::time::timeout(Duration::from_secs(20), read).await;
        read.expect("it closes").expect("it answers");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        (head.to_owned(), body.to_owned())
    }

    async fn ask(&self, line: &str, body: &str) -> (u16, String, String) {
        let (head, body) = self.raw(&request(line, body)).await;
        let status = head.split(' ').nth(1).and_then(|word| word.parse().ok());
        (status.expect("a status"), head, body)
    }

    /// The status and the error's code.
    async fn refused(&self, line: &str, body: &str) -> (u16, String) {
        let (status, _, body) = self.ask(line, body).await;
        let error: ErrorBody = serde_json::from_str(&body).expect(&body);
        assert!(error.error.message.ends_with('.'), "{error:?}");
        (status, error.error.code)
    }
}

fn request(line: &str, body: &str) -> String {
    format!(
        "{line} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn code(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

#[tokio::test]
async fn what_is_asked_is_answered() {
    let server = server().await;
    let (status, head, body) = server.ask("GET /healthz", "").await;
    assert_eq!((status, body.as_str()), (200, r#"{"status":"ok"}"#));
    assert!(head.contains("content-type: application/json"), "{head}");

    let (status, head, body) = server.ask("GET /metrics", "").await;
    assert_eq!((status, body.as_str()), (200, "pgdrain_sessions 0\n"));
    assert!(head.contains("text/plain; version=0.0.4"), "{head}");

    let (status, _, body) = server.ask("GET /v1/status", "").await;
    assert_eq!(status, 200);
    let status: Status = serde_json::from_str(&body).expect(&body);
    assert_eq!(status.uptime_ms, 5);

    assert_eq!(
        server.ask("GET /v1/databases/shop/sessions", "").await.0,
        200
    );
    assert_eq!(server.ask("HEAD /healthz", "").await.2, "");
    assert_eq!(
        server.refused("GET /readyz", "").await,
        code(503, "not_ready")
    );
}

#[tokio::test]
async fn windows_are_asked_for_and_commanded() {
    let server = server().await;
    let told = async |line: &str, body: &str| {
        let (status, _, body) = server.ask(line, body).await;
        let error: ErrorBody = serde_json::from_str(&body).expect(&body);
        (status, error.error.message)
    };
    let order = r#"{"idempotency_key":"k"}"#;
    let ordered = told("POST /v1/databases/shop/windows", order).await;
    assert_eq!(ordered, (409, "shop k".to_owned()));
    let header = "POST /v1/databases/shop/windows HTTP/1.1\r\nhost: 127.0.0.1\r\n\
                  connection: close\r\nidempotency-key: h\r\n\r\n";
    assert!(server.raw(header).await.1.contains("shop h"));
    let followed = told("GET /v1/windows/w1?after=3&wait=2s", "").await;
    assert_eq!(followed, (404, "w1 3 2s".to_owned()));
    for (verb, command) in [
        ("renew", "Renew"),
        ("finish", "Finish"),
        ("abort", "Abort(None)"),
    ] {
        let line = format!("POST /v1/windows/w1/{verb}");
        let commanded = told(&line, r#"{"term":4}"#).await;
        assert_eq!(commanded, (409, format!("w1 {command} 4")));
        // Without a term, nobody can tell whom it was meant for.
        let refused = server.refused(&line, "{}").await;
        assert_eq!(refused, code(400, "bad_request"));
    }
    let refused = server.refused("POST /v1/databases/*/windows", "").await;
    assert_eq!(refused, code(400, "bad_request"));
}

#[tokio::test]
async fn a_mode_is_set_at_once_or_waited_for() {
    let server = server().await;
    let hold = r#"{"mode":"hold","for":"5m"}"#;
    let (status, _, body) = server.ask("PUT /v1/databases/*/mode", hold).await;
    assert_eq!(status, 202, "{body}");
    assert_eq!(
        serde_json::from_str::<ModeResults>(&body)
            .expect(&body)
            .results
            .len(),
        1
    );
    let asked = server.api.modes().remove(0);
    assert_eq!(asked.0, Databases::All);

    let open = r#"{"mode":"open"}"#;
    let (status, _, body) = server
        .ask("PUT /v1/databases/a%20b/mode?wait=drained", open)
        .await;
    let error: ErrorBody = serde_json::from_str(&body).expect(&body);
    assert_eq!((status, error.error.code.as_str()), (409, "not_drained"));
    assert_eq!(error.results.len(), 1);
    let asked = server.api.modes().remove(0);
    assert_eq!(asked.0, Databases::One("a b".to_owned()));
}

#[tokio::test]
async fn events_are_answered_or_streamed() {
    let server = server().await;
    let (status, head, body) = server.ask("GET /v1/events?after=7", "").await;
    assert_eq!(status, 200, "{body}");
    assert!(head.contains("application/json"), "{head}");
    assert_eq!(body, r#"{"events":[],"last":7,"gap":false}"#);
    let asked = |line: &str, header: &str| {
        let request = request(line, "");
        request.replacen(
            "\r\n",
            &format!("\r\naccept: text/event-stream\r\n{header}"),
            1,
        )
    };
    let back = asked("GET /v1/events", "last-event-id: 41\r\n");
    let (head, body) = server.raw(&back).await;
    assert!(head.contains("text/event-stream"), "{head}");
    assert!(
        body.contains("id: 42\nevent: hold\ndata: \"news\"\n\n"),
        "{body}"
    );
    let bad = server.refused("GET /v1/events?after=x", "").await;
    assert_eq!(bad, code(400, "bad_request"));
}

#[tokio::test]
async fn migrations_are_started_followed_and_cancelled() {
    let server = server().await;
    let id = |body: &str| {
        let json: serde_json::Value = serde_json::from_str(body).expect(body);
        json["id"].as_str().expect(body).to_owned()
    };
    let file = format!(
        r#"{{"name":"1_x.up.sql","sql":"{}","sha256":""}}"#,
        "x".repeat(1 << 20)
    );
    let up = format!(r#"{{"direction":"up","files":[{file}]}}"#);
    let path = "POST /v1/databases/shop/migrations";
    let (status, _, body) = server.ask(path, &up).await;
    assert_eq!((status, id(&body).as_str()), (202, "shop up 1"));
    let (status, _, body) = server
        .ask(&format!("{path}/status"), r#"{"files":[]}"#)
        .await;
    assert_eq!(status, 200, "{body}");
    let rehearse = r#"{"files":[],"data":"full","on":"postgres://a:hunter2@b/c"}"#;
    let (status, _, body) = server.ask(&format!("{path}/rehearse"), rehearse).await;
    assert_eq!((status, id(&body).as_str()), (202, "shop full Some(***)"));
    assert_eq!(
        server.ask("GET /v1/databases/shop/migrations", "").await.0,
        200
    );

    let (status, _, body) = server
        .ask("GET /v1/migrations/m1?after=7&wait=10s", "")
        .await;
    assert_eq!((status, id(&body).as_str()), (200, "m1 7 10s"));
    let (_, _, body) = server.ask("GET /v1/migrations/m1?wait=1h", "").await;
    assert_eq!(id(&body), "m1 0 60s");
    let (status, _, body) = server.ask("POST /v1/migrations/m1/cancel", "").await;
    assert_eq!((status, id(&body).as_str()), (202, "m1 by None"));
    let (_, _, body) = server
        .ask("POST /v1/migrations/m1/cancel", r#"{"by":"me"}"#)
        .await;
    assert_eq!(id(&body), "m1 by Some(\"me\")");

    for (line, body) in [
        ("POST /v1/databases/*/migrations", up.as_str()),
        (path, r#"{"direction":"up","files":[],"lock_timeuot":"5s"}"#),
        ("GET /v1/migrations/m1?after=x", ""),
        ("GET /v1/migrations/m1?wait=10", ""),
    ] {
        assert_eq!(
            server.refused(line, body).await,
            code(400, "bad_request"),
            "{line}"
        );
    }
}

#[tokio::test]
async fn what_cannot_be_answered_is_refused_with_a_code() {
    let server = server().await;
    let mode = "PUT /v1/databases/shop/mode";
    assert_eq!(
        server.refused("GET /nothing", "").await,
        code(404, "not_found")
    );
    assert_eq!(
        server.refused("GET /v1/databases/x/sessions", "").await,
        code(404, "not_found")
    );
    assert_eq!(
        server.refused("POST /healthz", "").await,
        code(405, "method_not_allowed")
    );
    let (_, head, _) = server.ask("DELETE /v1/databases/shop/mode", "").await;
    assert!(head.contains("allow: PUT"), "{head}");
    for body in [
        "",
        "{",
        r#"{"mode":"hold","x":1}"#,
        r#"{"mode":"hold","writes":"queue"}"#,
        r#"{"mode":"read_only","blocked":"queue"}"#,
        "\u{fffd}",
    ] {
        assert_eq!(
            server.refused(mode, body).await,
            code(400, "bad_request"),
            "{body}"
        );
    }
    let open = r#"{"mode":"open"}"#;
    for query in ["?wait=forever", "?wiat=drained"] {
        let line = format!("{mode}{query}");
        assert_eq!(
            server.refused(&line, open).await,
            code(400, "bad_request"),
            "{query}"
        );
    }
    let long = format!(r#"{{"mode":"{}"}}"#, "x".repeat(65 << 10));
    assert_eq!(server.refused(mode, &long).await, code(413, "too_large"));

    let page = "PUT /v1/databases/shop/mode HTTP/1.1\r\nhost: 127.0.0.1\r\norigin: http://evil.example\r\n\
                connection: close\r\ncontent-length: 15\r\n\r\n{\"mode\":\"open\"}";
    assert!(server.raw(page).await.0.starts_with("HTTP/1.1 403"));
    assert!(server.api.modes().is_empty());
}

#[tokio::test]
async fn stopping_answers_those_who_wait() {
    let server = server().await;
    let hold = r#"{"mode":"hold"}"#;
    let waiting = async {
        server
            .refused("PUT /v1/databases/shop/mode?wait=drained", hold)
            .await
    };
    let stopping = async {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        while server.api.modes().is_empty() {
            assert!(
                tokio::time::Instant::now() < deadline,
                "the request never arrived"
            );
            tokio::task::yield_now().await;
        }
        server.tasks.stop(Duration::from_secs(20)).await
    };
    let (answer, ended) = tokio::join!(waiting, stopping);
    assert_eq!(answer, code(503, "stopping"));
    assert_eq!(ended, Ended::Graceful);
    assert!(
        TcpStream::connect(server.address).await.is_err(),
        "it listens no longer"
    );
}

#[tokio::test]
async fn a_client_that_says_nothing_is_let_go_when_stopping() {
    let server = server().await;
    let _silent = TcpStream::connect(server.address)
        .await
        .expect("it listens");
    assert_eq!(server.ask("GET /healthz", "").await.0, 200);
    assert_eq!(
        server.tasks.stop(Duration::from_secs(20)).await,
        Ended::Graceful
    );
}

#[tokio::test]
async fn more_clients_than_slots_wait_and_are_served_in_turn() {
    let server = server().await;
    let mut silent = Vec::new();
    for _ in 0..http::CONNECTIONS_MAX {
        silent.push(
            TcpStream::connect(server.address)
                .await
                .expect("it listens"),
        );
    }
    let mut late = TcpStream::connect(server.address)
        .await
        .expect("the backlog has room");
    late.write_all(request("GET /healthz", "").as_bytes())
        .await
        .expect("buffered");
    drop(silent.pop());
    let mut answer = String::new();
    let read = tokio::time::timeout(Duration::from_secs(20), late.read_to_string(&mut answer));
    read.await.expect("it is served").expect("it answers");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}
