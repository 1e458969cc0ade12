//! The composition root: builds every part, and stops them in reverse order.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use jiff::Timestamp;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::admin::types::{ModeRequest, ModeResults, Sessions, Status};
use crate::admin::{self, Answer, Api, ApiError, Databases};
use crate::config::{Config, Source};
use crate::logging::Logging;
use crate::metrics::Metrics;
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
    let controller = Controller {
        config,
        metrics: Metrics::new(),
        started_at: Timestamp::now(),
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

/// What the admin HTTP asks.
struct Controller {
    config: Config,
    metrics: Metrics,
    started_at: Timestamp,
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
        let hosts: Vec<_> = self
            .config
            .upstream
            .hosts
            .iter()
            .map(ToString::to_string)
            .collect();
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at: self.started_at,
            uptime_ms: u64::try_from(uptime.as_millis()).unwrap_or(0),
            listen: self.config.listen.iter().map(ToString::to_string).collect(),
            upstream: hosts.join(","),
            state_dir: self.config.state_dir.display().to_string(),
            databases: Vec::new(),
        }
    }

    async fn sessions(&self, _databases: Databases) -> Result<Sessions, ApiError> {
        Ok(Sessions {
            sessions: Vec::new(),
        })
    }

    async fn set_mode(
        &self,
        _databases: Databases,
        _request: ModeRequest,
        _answer: Answer,
    ) -> Result<ModeResults, ApiError> {
        Ok(ModeResults {
            results: Vec::new(),
        })
    }
}
