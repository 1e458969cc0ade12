//! The runner of this process, and what an earlier process may have left of its migrations.

use std::sync::Arc;
use std::time::Duration;

use super::App;
use super::canary::Canaries;
use super::traffic::Windows;
use crate::config::Shared;
use crate::metrics::Metrics;
use crate::runner::{Connector, Endpoint, Options, Runner};
use crate::server::own::OwnBackends;
use crate::tasks::Tasks;
use crate::window::{Controller, LeftWindow};

/// How long one look at what an earlier process left waits for its backends to end.
const SETTLE_WAIT: Duration = Duration::from_secs(10);

/// The pause before the next look, when the database could not be asked.
const SETTLE_AGAIN: Duration = Duration::from_secs(1);

/// A runner that connects as the configuration says at the time.
pub(super) fn runner(
    controller: &Arc<Controller>,
    config: &Arc<Shared>,
    (own, canaries): (OwnBackends, Canaries),
    tasks: &Tasks,
    metrics: &Arc<Metrics>,
) -> Runner<Windows> {
    let (controller, shared) = (Arc::clone(controller), Arc::clone(config));
    let windows = Windows::new(controller, shared, tasks.clone(), canaries);
    let loaded = config.load();
    let (migrate, state_dir) = (loaded.migrate.clone(), loaded.state_dir.clone());
    drop(loaded);
    let options = Options {
        owner: migrate.owner,
        down_required: migrate.down_required,
        write_back: migrate.write_back,
        retry: migrate.retry,
        preflight: migrate.preflight,
        backup: migrate.backup,
        approvals: migrate.approvals,
        save_objects: migrate.save_objects,
        validate: migrate.validate,
        thresholds: migrate.thresholds,
        triggers: migrate.triggers,
        measures: migrate.measures,
        canary: migrate.canary,
        copies: migrate.copies,
        state_dir: Some(state_dir),
        log: migrate.log,
        hooks: migrate.hooks,
        notify: migrate.notify,
        maintenance_work_mem: migrate.maintenance_work_mem,
        postflight: migrate.postflight,
        reports: migrate.reports,
        compare: migrate.compare,
        batch: migrate.batch,
        ..Options::default()
    };
    let config = Arc::clone(config);
    let find = move |database: &str| Endpoint::of(&config.load().target(database)?);
    let connector = Connector::new(Arc::new(find), own, tasks.tracker());
    Runner::new(Arc::new(windows), connector, options, tasks.tracker())
        .with_metrics(Arc::clone(metrics))
}

impl App {
    /// Finds out what became of the migrations behind windows that an earlier process left open,
    /// and lets traffic flow where that is known. Until then it stays held.
    pub(super) fn settle(self: &Arc<Self>, left: Vec<LeftWindow>) {
        for window in left.into_iter().filter(|window| window.stays.is_none()) {
            let (app, stop) = (Arc::clone(self), self.tasks.shutdown_token());
            self.tasks.spawn("settle window", async move {
                let settle = async {
                    match window.lent {
                        Some(_) => app.controller.settle_lent(&window).await,
                        None => app.settle_one(&window).await,
                    }
                };
                tokio::select! {
                    () = settle => {}
                    () = stop.cancelled() => {}
                }
            });
        }
    }

    async fn settle_one(&self, window: &LeftWindow) {
        let database = &window.database;
        while self.controller.is_left(window) {
            match self.runner.recover(database, SETTLE_WAIT).await {
                Ok(recovery) => {
                    tracing::info!(database, ?recovery, "looked at what the last process left");
                    return match recovery.reason_to_stay_held() {
                        None => self.controller.settle(window).await,
                        Some(why) if recovery.still_running() => {
                            self.controller.still_unsettled(window, &why);
                            continue;
                        }
                        Some(why) => self.controller.settle_held(window, &why).await,
                    };
                }
                Err(error) => {
                    tracing::warn!(
                        database,
                        error = &error as &dyn std::error::Error,
                        "held: the migration's end is not known yet"
                    );
                    self.controller.still_unsettled(window, &error.to_string());
                    tokio::time::sleep(SETTLE_AGAIN).await;
                }
            }
        }
    }
}
