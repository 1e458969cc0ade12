//! A stop that somebody asks for by a command, and not by a signal.

use tokio::sync::watch;

use super::App;
use super::handover::Succession;
use crate::admin::ApiError;
use crate::admin::types::Shutdown;
use crate::audit::Event;

/// What was asked for; what ends sooner stands for what was asked before.
#[derive(Debug, Default)]
pub(super) struct Shutdowns(watch::Sender<Option<Shutdown>>);

impl Shutdowns {
    /// What was asked for, if anything was.
    pub(super) fn asked(&self) -> Option<Shutdown> {
        *self.0.borrow()
    }

    /// Notes it; whoever waits for it is woken.
    pub(super) fn ask(&self, how: Shutdown) {
        let sooner = |asked: Option<Shutdown>| asked.map_or(how, |asked| asked.min(how));
        self.0.send_modify(|asked| *asked = Some(sooner(*asked)));
    }

    /// Returns when this, or what ends sooner, was asked for. Cancel safe.
    async fn until(&self, how: Shutdown) -> Shutdown {
        let mut asked = self.0.subscribe();
        let met = asked.wait_for(|asked| asked.is_some_and(|asked| asked <= how));
        let met = met.await.map(|asked| *asked);
        match met {
            Ok(asked) => asked.unwrap_or(how),
            // The sender is ours, and lives as long as we do.
            Err(_gone) => std::future::pending().await,
        }
    }
}

impl App {
    /// Begins to stop.
    ///
    /// # Errors
    /// 409 while another process takes over, or has: that one is meant.
    pub(super) fn shut_down(&self, how: Shutdown, asked: Event) -> Result<(), ApiError> {
        match *self.succession.borrow() {
            Succession::Serving => {}
            Succession::HandingOver | Succession::Former { .. } => {
                let message = "Another process takes over from this one: nothing was stopped.";
                return Err(ApiError::conflict("hand_over", message));
            }
        }
        self.controller.audit().tell(Event {
            outcome: Some(how.what().to_owned()),
            ..asked
        });
        tracing::info!(what = how.what(), "told to stop");
        self.shutdowns.ask(how);
        Ok(())
    }

    /// Returns when sessions are to be ended by command, and how. While clients are waited for, nobody
    /// new is let in. Cancel safe.
    pub(super) async fn told_to_stop(&self) -> Shutdown {
        let told = self.shutdowns.until(Shutdown::AfterClients).await;
        if told != Shutdown::AfterClients {
            return told;
        }
        self.doors.shut().await;
        let sessions = self.sessions_tasks.tracker();
        sessions.close();
        tokio::select! {
            () = sessions.wait() => {
                tracing::info!("the last client has left");
                Shutdown::AfterClients
            }
            sooner = self.shutdowns.until(Shutdown::AfterTransactions) => sooner,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_ends_sooner_stands() {
        let shutdowns = Shutdowns::default();
        assert_eq!(shutdowns.asked(), None);
        for (asked, stands) in [
            (Shutdown::AfterClients, Shutdown::AfterClients),
            (Shutdown::Now, Shutdown::Now),
            (Shutdown::AfterTransactions, Shutdown::Now),
        ] {
            shutdowns.ask(asked);
            assert_eq!(shutdowns.asked(), Some(stands));
            assert_eq!(shutdowns.until(Shutdown::AfterClients).await, stands);
        }
    }
}
