//! What was done to traffic: told by those who do it, for whoever watches.

use std::sync::Arc;
use std::time::Duration;

use super::App;
use crate::admin::sse::{Feed, Feeder, Gone, feed};
use crate::admin::types::{Events, IfMatch, ModeRequest};
use crate::admin::{Caller, Databases};
use crate::audit::{Event, Kind};
use crate::config::Scope;
use crate::gate::mode::Mode;

/// How long one wait for news is; the next begins at once.
const WAIT: Duration = Duration::from_secs(60);

impl App {
    /// Events behind a number; waits for news.
    pub(super) async fn events(&self, after: u64, wait: Duration) -> Events {
        let audit = self.controller.audit();
        let news = audit.news(after, wait).await;
        Events {
            last: news.events.last().map_or(audit.last(), |told| told.id),
            gap: news.gap,
            events: news.events.iter().map(|told| (**told).clone()).collect(),
        }
    }

    /// The same, and those to come, until the reader leaves or the proxy stops.
    pub(super) fn follow_events(self: &Arc<Self>, after: u64) -> Feed {
        let (feeder, feed) = feed();
        let app = Arc::clone(self);
        let stop = self.tasks.shutdown_token();
        self.tasks.spawn("events", async move {
            tokio::select! {
                _gone = app.feed_events(feeder, after) => {}
                () = stop.cancelled() => {}
            }
        });
        feed
    }

    async fn feed_events(&self, feeder: Feeder, mut after: u64) -> Result<(), Gone> {
        loop {
            let news = feeder.until(self.events(after, WAIT)).await?;
            if news.gap {
                feeder.send(after, "gap", &news.last).await?;
            }
            for told in news.events {
                let kind = told.event.kind.as_str();
                feeder.send(told.id, kind, &told).await?;
                after = told.id;
            }
        }
    }
}

/// A command about the mode of databases, as it is told.
pub(super) struct Command {
    databases: Databases,
    /// Whom it is for there.
    scope: Scope,
    before: Vec<(String, Mode)>,
    event: Event,
    /// Of which state it was meant, if of one.
    pub(super) condition: Option<IfMatch>,
}

impl App {
    /// Notes who asks for what, and how things are before it is done.
    pub(super) fn command(
        &self,
        databases: &Databases,
        request: &ModeRequest,
        caller: &Caller,
        condition: Option<IfMatch>,
    ) -> Command {
        let (kind, by, reason, scope) = match request {
            ModeRequest::Hold(body) => (Kind::Hold, &body.by, &body.reason, body.scope()),
            ModeRequest::ReadOnly(body) => (Kind::ReadOnly, &body.by, &body.reason, body.scope()),
            ModeRequest::Open(body) => (Kind::Open, &body.by, &body.reason, body.scope()),
        };
        Command {
            databases: databases.clone(),
            scope,
            before: self.modes(databases),
            condition,
            event: Event {
                by: by.clone(),
                from: Some(caller.from.clone()),
                reason: reason.clone(),
                ..Event::here(kind)
            },
        }
    }

    /// Tells a command and what came of it, for each database it was about.
    pub(super) fn tell(&self, command: Command, refused: Option<&str>) {
        let Command {
            databases,
            scope,
            before,
            event,
            condition: _,
        } = command;
        let mut outcome =
            refused.map_or_else(|| "done".to_owned(), |why| format!("refused: {why}"));
        if !scope.is_whole() {
            outcome = format!("for {scope}: {outcome}");
        }
        let tell = |database: String, before: Option<Mode>, after: Option<Mode>| {
            self.controller.audit().tell(Event {
                database: Some(database),
                before: before.map(|mode| mode.to_string()),
                after: after.map(|mode| mode.to_string()),
                outcome: Some(outcome.clone()),
                ..event.clone()
            });
        };
        let after = self.modes(&databases);
        match &databases {
            // Databases that nobody has asked for yet are meant too.
            Databases::All => tell("*".to_owned(), None, None),
            Databases::One(name) if after.is_empty() => tell(name.clone(), None, None),
            Databases::One(_) => {}
        }
        for (database, after) in after {
            let was = before.iter().find(|(name, _)| *name == database);
            let was = was.map_or(Mode::Open, |(_, mode)| *mode);
            tell(database, Some(was), Some(after));
        }
    }

    fn modes(&self, databases: &Databases) -> Vec<(String, Mode)> {
        let gates = match databases {
            Databases::All => self.controller.gates().all(),
            Databases::One(name) => self.controller.gates().find(name).into_iter().collect(),
        };
        let modes = gates.iter();
        modes
            .map(|gate| (gate.database().to_owned(), gate.holds().0))
            .collect()
    }
}
