//! The life of a window that somebody asked for: which step follows which, and what is to be done.
//!
//! ```text
//!  Queued ──turn──► Capped ──time──► as from Queued, where traffic is capped first
//!  Queued ──turn──► ReadOnly ──time──► Draining, where reads go on for a while first; else as Draining
//!  Queued ──turn──► Draining ──granted──► Exclusive ──┐ finish, abort, lease or time over, opened
//!    │  ◄──busy──────┘ │  │                           ▼
//!    │                 │  └─ abort, lease over ──► Ending ──its connections are gone──► Closed
//!    └─ abort, lease   └─ not granted ────────────────────────────────────────────────► Closed
//! ```

use std::time::{Duration, Instant};

use super::lease::{Late, Lease, Over, Term};
use crate::config::words;

words! {
    /// Where a window stands.
    Stage {
        /// Behind another window.
        Queued = "queued",
        /// Fewer transactions run at once than before, so that less is to be drained.
        Capped = "capped",
        /// Writes are held, and reads go on, before all is.
        ReadOnly = "read_only",
        /// Traffic is held, or in a window that lets reads in the writes, and what runs is waited for or
        /// ended.
        Draining = "draining",
        /// Its connections are alone; in a window that lets reads in, they alone write.
        Exclusive = "exclusive",
        /// Its connections are being ended.
        Ending = "ending",
        /// It is over.
        Closed = "closed",
    }
}

words! {
    /// Who waits for a window.
    WindowMode {
        /// Everybody but its connections.
        Exclusive = "exclusive",
        /// Who writes; reads go on.
        ReadOnly = "read_only",
    }
}

words! {
    /// Why a window ended.
    Why {
        /// Its holder was done.
        Finished = "finished",
        /// Somebody gave it up.
        Aborted = "aborted",
        /// Its holder did not renew the lease in time.
        LeaseLost = "lease_lost",
        /// Its own time passed.
        TimeOver = "time_over",
        /// Traffic did not come to rest, or somebody else was first.
        NotGranted = "not_granted",
        /// Somebody opened traffic by force.
        Opened = "opened",
    }
}

words! {
    /// What happens to traffic when a window ends.
    After {
        /// It flows again.
        Reopen = "reopen",
        /// It stays held until a person has looked.
        Stay = "stay",
    }
}

/// How a window ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// Why.
    pub why: Why,
    /// What happens to traffic.
    pub after: After,
}

/// See the drawing above.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Queued,
    /// Until then.
    Capped(Instant),
    /// Until then.
    ReadOnly(Instant),
    Draining,
    Exclusive,
    Ending(End),
    Closed(End),
}

/// What happens to a window by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// It is its turn.
    Turn,
    /// Somebody else was faster.
    Busy,
    /// Nothing but the window may run.
    Granted,
    /// It was not reached, and traffic flows again.
    NotGranted,
    /// Time has passed.
    Clock,
    /// Traffic was opened by force.
    Opened,
    /// None of its connections can run anything any more.
    Gone,
}

/// What its holder, or an operator, wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// The lease goes on.
    Renew,
    /// The work is done.
    Finish,
    /// The work is given up; what then happens to traffic, if that is said.
    Abort(Option<After>),
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Cap how many transactions run at once.
    Cap,
    /// Hold and drain: where reads go on first, the writes.
    Begin,
    /// Hold the reads too, and drain.
    HoldAll,
    /// Stop draining, and let traffic flow.
    GiveUp,
    /// Make the key valid.
    LetIn,
    /// Let nobody in any more, and end who is.
    EndConnections,
    /// Let traffic flow.
    Reopen,
    /// Keep traffic held until a person has looked.
    StayHeld,
}

/// Why a command changed nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// It was meant for another window.
    #[error(transparent)]
    Late(#[from] Late),
    /// The window is over, or about to be.
    #[error("the window has ended: {}", .0.why)]
    Over(End),
}

/// A window's life.
#[derive(Debug)]
pub struct Life {
    state: State,
    lease: Lease,
    on_lost: After,
    before: Before,
}

/// What comes before traffic is held.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Before {
    /// For how long it is capped.
    pub capped: Option<Duration>,
    /// For how long reads go on after that, while writes are held.
    pub read_only: Option<Duration>,
}

impl Life {
    /// Of a window that waits for its turn.
    #[must_use]
    pub fn begin(lease: Lease, on_lost: After, before: Before) -> Life {
        Life {
            state: State::Queued,
            lease,
            on_lost,
            before,
        }
    }

    /// Where it stands.
    #[must_use]
    pub fn stage(&self) -> Stage {
        match self.state {
            State::Queued => Stage::Queued,
            State::Capped(_) => Stage::Capped,
            State::ReadOnly(_) => Stage::ReadOnly,
            State::Draining => Stage::Draining,
            State::Exclusive => Stage::Exclusive,
            State::Ending(_) => Stage::Ending,
            State::Closed(_) => Stage::Closed,
        }
    }

    /// How it ended, or is about to.
    #[must_use]
    pub fn end(&self) -> Option<End> {
        match self.state {
            State::Queued
            | State::Capped(_)
            | State::ReadOnly(_)
            | State::Draining
            | State::Exclusive => None,
            State::Ending(end) | State::Closed(end) => Some(end),
        }
    }

    /// Its lease.
    #[must_use]
    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    /// Traffic is held from now on, until `end` at most; `None` while it is not.
    pub fn ends_at(&mut self, end: Option<Instant>) {
        self.lease.ends_at(end);
    }

    /// When [`Event::Clock`] is to come next.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        match self.state {
            State::Capped(until) | State::ReadOnly(until) => Some(until.min(self.lease.due())),
            State::Queued | State::Draining | State::Exclusive => Some(self.lease.due()),
            State::Ending(_) | State::Closed(_) => None,
        }
    }

    /// Does what a command with this term wants, unless its time has passed; the effects are to be
    /// carried out in any case.
    pub fn command(
        &mut self,
        command: Command,
        term: Term,
        now: Instant,
    ) -> (Vec<Effect>, Result<(), Denied>) {
        if let Err(late) = self.lease.check(term) {
            return (Vec::new(), Err(late.into()));
        }
        // The timer may be late; the clock is not.
        let mut effects = self.apply(Event::Clock, now);
        if let Some(end) = self.end() {
            return (effects, Err(Denied::Over(end)));
        }
        effects.extend(match command {
            Command::Renew => {
                // It was not over a moment ago.
                let _renewed = self.lease.renew(now);
                Vec::new()
            }
            Command::Finish => self.stop(Why::Finished, After::Reopen),
            Command::Abort(after) => self.stop(Why::Aborted, after.unwrap_or(self.on_lost)),
        });
        (effects, Ok(()))
    }

    /// Takes note of an event, and says what is to be done.
    pub fn apply(&mut self, event: Event, now: Instant) -> Vec<Effect> {
        match (event, self.state) {
            (Event::Turn, State::Queued) => match self.before.capped {
                Some(time) => {
                    self.state = State::Capped(now + time);
                    vec![Effect::Cap]
                }
                None => self.drains(now),
            },
            (Event::Clock, State::Capped(until))
                if until <= now && self.lease.over(now).is_none() =>
            {
                self.drains(now)
            }
            (Event::Clock, State::ReadOnly(until))
                if until <= now && self.lease.over(now).is_none() =>
            {
                self.state = State::Draining;
                vec![Effect::HoldAll]
            }
            (Event::Busy, State::ReadOnly(_) | State::Draining) => {
                self.state = State::Queued;
                Vec::new()
            }
            (Event::Granted, State::Draining) => {
                self.state = State::Exclusive;
                vec![Effect::LetIn]
            }
            // It was granted in the instant in which it was given up.
            (Event::Granted, State::Ending(_)) => vec![Effect::EndConnections],
            (Event::NotGranted, State::ReadOnly(_) | State::Draining) => self.closed(End {
                why: Why::NotGranted,
                after: After::Reopen,
            }),
            (Event::NotGranted | Event::Busy, State::Ending(end)) => self.closed(end),
            (
                Event::Clock,
                State::Queued
                | State::Capped(_)
                | State::ReadOnly(_)
                | State::Draining
                | State::Exclusive,
            ) => {
                match self.lease.over(now) {
                    Some(Over::NotRenewed) => self.stop(Why::LeaseLost, self.on_lost),
                    Some(Over::TimeOver) => self.stop(Why::TimeOver, self.on_lost),
                    None => Vec::new(),
                }
            }
            (Event::Opened, State::Exclusive) => self.stop(Why::Opened, After::Reopen),
            (Event::Opened, State::Ending(end)) => {
                // There is nothing left to keep held.
                self.state = State::Ending(End {
                    after: After::Reopen,
                    ..end
                });
                Vec::new()
            }
            (Event::Gone, State::Ending(end)) => {
                self.state = State::Closed(end);
                match end.after {
                    After::Reopen => vec![Effect::Reopen],
                    After::Stay => vec![Effect::StayHeld],
                }
            }
            (
                Event::Turn,
                State::Capped(_)
                | State::ReadOnly(_)
                | State::Draining
                | State::Exclusive
                | State::Ending(_)
                | State::Closed(_),
            )
            | (
                Event::Busy | Event::Granted | Event::NotGranted,
                State::Queued | State::Capped(_) | State::Exclusive | State::Closed(_),
            )
            // Nothing is granted while reads go on for a while.
            | (Event::Granted, State::ReadOnly(_))
            | (Event::Clock, State::Ending(_) | State::Closed(_))
            // The drain tells that it was opened.
            | (
                Event::Opened,
                State::Queued
                | State::Capped(_)
                | State::ReadOnly(_)
                | State::Draining
                | State::Closed(_),
            )
            | (
                Event::Gone,
                State::Queued
                | State::Capped(_)
                | State::ReadOnly(_)
                | State::Draining
                | State::Exclusive
                | State::Closed(_),
            ) => Vec::new(),
        }
    }

    fn drains(&mut self, now: Instant) -> Vec<Effect> {
        self.state = match self.before.read_only {
            Some(time) => State::ReadOnly(now + time),
            None => State::Draining,
        };
        vec![Effect::Begin]
    }

    /// Ends it. Before anybody was let in nothing can have been left half done: traffic flows.
    fn stop(&mut self, why: Why, after: After) -> Vec<Effect> {
        let nothing_done = End {
            why,
            after: After::Reopen,
        };
        match self.state {
            State::Queued | State::Capped(_) => self.closed(nothing_done),
            State::ReadOnly(_) | State::Draining => {
                self.state = State::Ending(nothing_done);
                vec![Effect::GiveUp]
            }
            State::Exclusive => {
                self.state = State::Ending(End { why, after });
                vec![Effect::EndConnections]
            }
            State::Ending(_) | State::Closed(_) => Vec::new(),
        }
    }

    fn closed(&mut self, end: End) -> Vec<Effect> {
        self.state = State::Closed(end);
        Vec::new()
    }
}

#[cfg(test)]
mod tests;
