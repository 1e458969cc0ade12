//! Unix signals: stop, reload, break the glass.

use std::io;
use std::sync::Arc;

use rustix::process::Signal as FileSize;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::App;
use crate::audit::{Event, Kind};
use crate::config::{Source, Surroundings};
use crate::logging::Logging;

/// The signals that are listened for; installed before anything is opened, so that none of them
/// ends the process half-way.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    user2: Signal,
}

impl Signals {
    pub(super) fn install() -> io::Result<Signals> {
        // A file that may not grow any more is an error of the write, as a full disk is: the signal would
        // end the process. Once somebody listens, it does not, for the life of the process.
        drop(signal(SignalKind::from_raw(FileSize::XFSZ.as_raw()))?);
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            user2: signal(SignalKind::user_defined2())?,
        })
    }

    /// Obeys until told to stop: SIGTERM and SIGINT stop, SIGHUP reads the configuration again,
    /// SIGUSR2 reopens everything by force.
    pub(super) async fn obey(mut self, app: &Arc<App>, source: &Source, logging: &Logging) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hangup.recv() => reload(app, source, logging),
                _ = self.user2.recv() => app.controller.break_glass(),
            }
        }
    }
}

/// A file that cannot be read changes nothing.
fn reload(app: &App, source: &Source, logging: &Logging) {
    let loaded = match source.load(&Surroundings::of_process()) {
        Ok(loaded) => loaded,
        Err(error) => {
            tracing::error!("the configuration was not reloaded: {error}");
            app.metrics.reloaded(None);
            return;
        }
    };
    for warning in loaded.warnings {
        tracing::warn!("{warning}");
    }
    let changed = app.config.reload(loaded.config);
    app.metrics.reloaded(Some(changed.restart.len()));
    let pace = super::gates::pace(&app.config.load());
    app.controller.gates().set_pace(pace);
    app.controller.audit().tell(Event {
        from: Some("signal".into()),
        outcome: Some(format!(
            "{} settings changed, {} will at a restart",
            changed.now.len(),
            changed.restart.len()
        )),
        ..Event::here(Kind::Reload)
    });
    logging.set_level(app.config.load().log.level.into());
    tracing::info!(now = ?changed.now, at_restart = ?changed.restart, "configuration reloaded");
}
