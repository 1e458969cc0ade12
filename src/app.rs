//! The composition root: builds every part, and stops them in reverse order.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use jiff::Timestamp;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::admin::types::{
    CancelRequest, Cancelling, MigrationStarted, Migrations, ModeRequest, ModeResults, Sessions,
    Status,
};
use crate::admin::{self, Answer, Api, ApiError, Databases};
use crate::config::{self, Config, Source, Target};
use crate::logging::Logging;
use crate::metrics::Metrics;
use crate::runner::types::{MigrationRequest, RunView, StatusReport, StatusRequest};
use crate::runner::{
    Connector, Endpoint, Finish, Grant, Host, Options, OwnBackends, Password, Refused, Runner,
    StartError, StatusError, Traffic, WindowRequest,
};
use crate::tasks::Tasks;

/// How long parts may take to stop.
const STOP_TIME: Duration = Duration::from_secs(10);

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// When a part cannot be started.
pub async fn run(config: Config, _source: Source, _logging: Logging) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let tasks = Tasks::new();
    let address = config.admin_listen;
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("the admin HTTP cannot listen on {address}"))?;
    let runner = runner(&config.default_target(), &tasks);
    let controller = Controller {
        config,
        metrics: Metrics::new(),
        started_at: Timestamp::now(),
        runner,
    };
    admin::serve(listener, Arc::new(controller), &tasks);
    tracing::info!(%address, "the admin HTTP listens");
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    tasks.stop(STOP_TIME).await;
    Ok(())
}

/// The runner of the common server, if it is known who runs migrations there.
fn runner(target: &Target, tasks: &Tasks) -> Option<Runner<NoWindows>> {
    let role = target.migrate.as_ref()?;
    let hosts = &target.upstream.hosts;
    let place = |host: &config::Host| match host {
        config::Host::Tcp { name, port } => (Host::Tcp(name.clone()), *port),
        config::Host::Unix(unix) => (Host::Unix(unix.directory.clone()), unix.port),
    };
    let password = role.password(hosts.first()?, &role.database);
    let endpoint = Endpoint {
        hosts: hosts.iter().map(place).collect(),
        user: role.user.clone(),
        password: password.map(|secret| Password::new(secret.expose())),
        options: None,
        connect_timeout: target.upstream.connect_timeout,
    };
    let options = Options {
        owner: target.owner.clone(),
        ..Options::default()
    };
    let connector = Connector::new(endpoint, OwnBackends::default(), tasks.tracker());
    Some(Runner::new(
        Arc::new(NoWindows),
        connector,
        options,
        tasks.tracker(),
    ))
}

/// Traffic that cannot be held: there is no gate.
struct NoWindows;

impl Traffic for NoWindows {
    async fn begin(&self, _request: WindowRequest) -> Result<Grant, Refused> {
        Err(Refused {
            message: "there is no gate to hold traffic at".to_owned(),
            report: serde_json::Value::Null,
        })
    }

    async fn finish(&self, _grant: Grant, _finish: Finish) {}
}

/// What the admin HTTP asks.
struct Controller {
    config: Config,
    metrics: Metrics,
    started_at: Timestamp,
    runner: Option<Runner<NoWindows>>,
}

impl Controller {
    fn runner(&self) -> Result<&Runner<NoWindows>, ApiError> {
        self.runner.as_ref().ok_or_else(|| {
            let message = "Nobody is configured to run migrations (migrate.user or upstream.url).";
            ApiError::conflict("no_migrate_role", message)
        })
    }
}

impl Api for Controller {
    async fn ready(&self) -> Result<(), ApiError> {
        Ok(())
    }

    async fn metrics(&self) -> String {
        self.metrics.render()
    }

    async fn status(&self) -> Status {
        let uptime = Timestamp::now().duration_since(self.started_at);
        let hosts = self.config.upstream.hosts.iter().map(ToString::to_string);
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at: self.started_at,
            uptime_ms: u64::try_from(uptime.as_millis()).unwrap_or(0),
            listen: self.config.listen.iter().map(ToString::to_string).collect(),
            upstream: hosts.collect::<Vec<_>>().join(","),
            state_dir: self.config.state_dir.display().to_string(),
            databases: Vec::new(),
        }
    }

    async fn sessions(&self, _databases: Databases) -> Result<Sessions, ApiError> {
        let sessions = Vec::new();
        Ok(Sessions { sessions })
    }

    async fn set_mode(
        &self,
        _databases: Databases,
        _request: ModeRequest,
        _answer: Answer,
    ) -> Result<ModeResults, ApiError> {
        let results = Vec::new();
        Ok(ModeResults { results })
    }

    async fn start_migration(
        &self,
        database: String,
        request: MigrationRequest,
    ) -> Result<MigrationStarted, ApiError> {
        match self.runner()?.start(&database, request) {
            Ok(id) => Ok(MigrationStarted { id }),
            Err(error @ StartError::Busy { .. }) => {
                Err(ApiError::conflict("busy", format!("{error}.")))
            }
            Err(error @ StartError::Invalid(_)) => Err(ApiError::bad_request(format!("{error}."))),
        }
    }

    async fn migration_status(
        &self,
        database: String,
        request: StatusRequest,
    ) -> Result<StatusReport, ApiError> {
        let status = self.runner()?.status(&database, &request.files).await;
        status.map_err(|error| match error {
            StatusError::Invalid(_) => ApiError::bad_request(format!("{error}.")),
            StatusError::History(_) => ApiError::unavailable("no_history", format!("{error}.")),
        })
    }

    async fn migrations(&self, database: String) -> Result<Migrations, ApiError> {
        let migrations = self.runner()?.list(&database);
        Ok(Migrations { migrations })
    }

    async fn migration(&self, id: String, after: u64, wait: Duration) -> Result<RunView, ApiError> {
        let view = self.runner()?.follow(&id, after, wait).await;
        view.ok_or_else(|| ApiError::not_found(format!("There is no migration {id} here.")))
    }

    async fn cancel_migration(
        &self,
        id: String,
        request: CancelRequest,
    ) -> Result<Cancelling, ApiError> {
        match self
            .runner()?
            .cancel(&id, request.by.as_deref().unwrap_or("unknown"))
        {
            true => Ok(Cancelling { id }),
            false => Err(ApiError::conflict(
                "over",
                format!("Migration {id} does not run."),
            )),
        }
    }
}
