//! Unix signals: stop, reload, break the glass.

use std::io;
use std::sync::Arc;

use rustix::process::Signal as FileSize;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::App;

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
    pub(super) async fn obey(mut self, app: &Arc<App>) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hangup.recv() => app.reload_on_signal(),
                _ = self.user2.recv() => app.controller.break_glass(),
            }
        }
    }
}
