//! Whether a gate is capped at so many transactions at once: pure, with time as an argument.
//!
//! A cap has an end of its own, like a hold, and a generation, so that a late timer or command never
//! touches a newer one.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::mode::Generation;

/// A cap as it is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapSpec {
    /// Transactions at once, at most; at least one.
    pub transactions: u32,
    /// How long it lasts at most.
    pub duration: Duration,
    /// Who asked.
    pub by: String,
    /// Why, in the operator's words.
    pub reason: Option<String>,
}

/// A cap on a gate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cap {
    /// Its number.
    pub generation: Generation,
    /// What was asked for.
    pub spec: CapSpec,
    /// When it is over.
    pub until: Instant,
}

/// What happens to a cap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CapEvent {
    /// Somebody caps the gate, in place of a cap that may be there.
    Set(CapSpec),
    /// Somebody takes the cap off; with a generation only that very one.
    Lift(Option<Generation>),
    /// The time of this cap may have passed.
    Timer(Generation),
}

/// What is to be done about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CapEffect {
    /// Look who may come in.
    Pace,
    /// Tell of this time when it comes.
    SetTimer(Generation, Instant),
    /// A cap is over.
    Ended(Cap),
}

/// The cap of one gate.
#[derive(Debug, Default)]
pub struct Caps {
    now: Option<Cap>,
    last: Generation,
}

impl Caps {
    /// The cap that is on.
    #[must_use]
    pub fn current(&self) -> Option<&Cap> {
        self.now.as_ref()
    }

    /// The only door for changes.
    pub fn apply(&mut self, event: CapEvent, now: Instant) -> Vec<CapEffect> {
        match event {
            CapEvent::Set(spec) => {
                self.last = Generation(self.last.0 + 1);
                let cap = Cap {
                    generation: self.last,
                    until: now + spec.duration,
                    spec,
                };
                let timer = CapEffect::SetTimer(cap.generation, cap.until);
                self.now = Some(cap);
                vec![timer, CapEffect::Pace]
            }
            CapEvent::Lift(generation) => self.end(generation),
            CapEvent::Timer(generation) => match &self.now {
                Some(cap) if cap.generation == generation && now < cap.until => {
                    vec![CapEffect::SetTimer(generation, cap.until)]
                }
                Some(_) | None => self.end(Some(generation)),
            },
        }
    }

    fn end(&mut self, generation: Option<Generation>) -> Vec<CapEffect> {
        let meant = |cap: &mut Cap| generation.is_none_or(|it| it == cap.generation);
        let ended = self.now.take_if(meant);
        ended.map_or_else(Vec::new, |cap| vec![CapEffect::Ended(cap), CapEffect::Pace])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(transactions: u32) -> CapSpec {
        CapSpec {
            transactions,
            duration: Duration::from_secs(60),
            by: "test".into(),
            reason: None,
        }
    }

    #[test]
    fn a_cap_ends_by_its_time_and_an_old_timer_never_touches_a_new_one() {
        let (mut caps, now) = (Caps::default(), Instant::now());
        caps.apply(CapEvent::Set(spec(3)), now);
        let old = caps.current().expect("just set").generation;
        caps.apply(CapEvent::Set(spec(5)), now);
        let new = caps.current().expect("just set").clone();
        let late = now + Duration::from_secs(61);
        assert_eq!(caps.apply(CapEvent::Timer(old), late), []);
        assert_eq!(caps.apply(CapEvent::Lift(Some(old)), late), []);
        assert_eq!(
            caps.apply(CapEvent::Timer(new.generation), now),
            [CapEffect::SetTimer(new.generation, new.until)]
        );
        assert_eq!(
            caps.apply(CapEvent::Timer(new.generation), late),
            [CapEffect::Ended(new), CapEffect::Pace]
        );
        assert_eq!(caps.apply(CapEvent::Lift(None), late), []);
    }

    #[test]
    fn a_command_ends_whichever_cap_is_on() {
        let (mut caps, now) = (Caps::default(), Instant::now());
        caps.apply(CapEvent::Set(spec(3)), now);
        assert_eq!(caps.apply(CapEvent::Lift(None), now).len(), 2);
        assert_eq!(caps.current(), None);
    }
}
