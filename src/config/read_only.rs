//! `[read_only]`: what the read-only mode does when its command says nothing else.

use std::time::Duration;

use super::raw::RawReadOnly;
use super::settings::{Hold, ReadOnly};
use super::validate::Check;
use super::words::{Blocked, Then};

impl Check<'_> {
    pub(super) fn read_only(&mut self, raw: &RawReadOnly) -> ReadOnly {
        ReadOnly {
            duration: self.time("read_only.for", raw.r#for, Duration::from_secs(600)),
            then: raw.then.unwrap_or(Then::Open),
            writes: raw.writes.unwrap_or(Blocked::Queue),
        }
    }

    /// What is valid and contradicts itself is said at start.
    pub(super) fn read_only_among_holds(&mut self, read_only: &ReadOnly, hold: &Hold) {
        if hold.ladder.wait >= read_only.duration {
            let text = "hold.wait is not shorter than read_only.for: the mode ends before those that \
                        write have ended";
            self.warnings.push(text.to_owned());
        }
    }
}
