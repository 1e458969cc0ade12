//! From single looks to the figures of a file: peaks, and how long each lock was held.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::host::Host;
use super::progress::Work;

/// Locks that are followed one by one; a file that takes more is known by these.
const LOCKS_MAX: usize = 1000;

/// Locks that a report names.
const LOCKS_NAMED: usize = 10;

/// A table or index, and the mode in which we hold it.
pub(in crate::runner) type Lock = (String, String);

/// What one look at the server found.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::runner) struct Look {
    /// Sessions of the database that wait for a lock and are not ours.
    pub(in crate::runner) blocked: i64,
    /// Locks of the database that somebody waits for, we included.
    pub(in crate::runner) ungranted: i64,
    /// The longest of their waits so far, in milliseconds.
    pub(in crate::runner) wait_ms: i64,
    /// The longest of ours.
    pub(in crate::runner) own_wait_ms: i64,
    /// Where the write-ahead log ends.
    pub(in crate::runner) wal: i64,
    /// The locks of ours that keep others from reading or writing.
    pub(in crate::runner) held: BTreeSet<Lock>,
}

/// How things are while a file runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Now {
    /// When it was looked.
    pub at: jiff::Timestamp,
    /// The file that runs; none between two.
    pub file: Option<String>,
    /// Sessions of the database that wait for a lock and are not pgdrain's.
    pub blocked: i64,
    /// Locks that somebody waits for, pgdrain included.
    pub ungranted: i64,
    /// The longest of the others' waits so far, in milliseconds.
    pub wait_ms: i64,
    /// The longest of pgdrain's own.
    pub own_wait_ms: i64,
    /// How long pgdrain has held a lock that keeps others out, in milliseconds.
    pub held_ms: u64,
    /// Bytes of write-ahead log since the file began, whoever wrote them.
    pub wal_bytes: i64,
    /// Statements of pgdrain's whose progress the server tells.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub work: Vec<Work>,
    /// The server's machine, if it is this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<Host>,
}

impl std::fmt::Display for Now {
    /// What is seen, for people.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut parts: Vec<String> = self.work.iter().map(ToString::to_string).collect();
        if self.own_wait_ms > 0 {
            parts.push(format!("waits for a lock since {} ms", self.own_wait_ms));
        }
        if self.held_ms > 0 {
            parts.push(format!("keeps others out since {} ms", self.held_ms));
        }
        if self.blocked > 0 {
            let who = if self.blocked == 1 {
                "session"
            } else {
                "sessions"
            };
            parts.push(format!(
                "{} {who} blocked, the longest for {} ms",
                self.blocked, self.wait_ms
            ));
        }
        if let Some(Host { cpu_percent, .. }) = self.host {
            parts.push(format!("processors {cpu_percent} % busy"));
        }
        parts.push(format!("{} KiB of WAL", self.wal_bytes / 1024));
        let file = self.file.as_deref().unwrap_or_default();
        write!(f, "{file}: {}", parts.join("; "))
    }
}

/// What was seen while a file ran. Looks are 100 ms apart: what is shorter may be missed, and a lock was
/// held for up to two looks longer than is said.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Watched {
    /// How often it was looked.
    pub looks: u64,
    /// The most sessions, not pgdrain's, that waited for a lock at once.
    pub blocked_max: i64,
    /// The most locks that were waited for at once.
    pub ungranted_max: i64,
    /// The longest wait of others for a lock, in milliseconds.
    pub wait_max_ms: i64,
    /// The longest wait of pgdrain's own.
    pub own_wait_max_ms: i64,
    /// How long the longest lock was held that kept others from reading or writing, in milliseconds.
    pub held_max_ms: u64,
    /// The ten that were held longest.
    pub held: Vec<HeldLock>,
    /// Bytes of write-ahead log meanwhile, whoever wrote them.
    pub wal_bytes: i64,
    /// Peaks of the server's machine, if it is this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<HostPeak>,
}

/// A lock that kept others from reading or writing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldLock {
    /// The table or index.
    pub relation: String,
    /// The mode, as `pg_locks` has it.
    pub mode: String,
    /// How long it was seen without a break, in milliseconds.
    pub ms: u64,
}

/// The worst of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostPeak {
    /// The busiest second, of all processors together.
    pub cpu_percent_max: u8,
    /// The least memory that was available, in bytes.
    pub memory_available_min: u64,
}

/// A lock as it was seen so far.
#[derive(Clone, Copy, Debug)]
struct Span {
    first: Instant,
    last: Instant,
    /// Whether the last look saw it.
    open: bool,
    /// The longest of its spans that are over.
    longest: Duration,
}

impl Span {
    fn longest(self) -> Duration {
        self.longest.max(self.last - self.first)
    }
}

/// The figures of a file that runs.
#[derive(Debug)]
pub(super) struct Figures {
    pub(super) since: Instant,
    seen: Watched,
    wal: Option<(i64, i64)>,
    locks: BTreeMap<Lock, Span>,
}

impl Figures {
    /// Of a file that begins now.
    pub(super) fn new(since: Instant) -> Self {
        Self {
            since,
            seen: Watched::default(),
            wal: None,
            locks: BTreeMap::new(),
        }
    }

    /// Takes in a look; true if more sessions were blocked than ever before.
    pub(super) fn add(&mut self, look: &Look, host: Option<Host>, now: Instant) -> bool {
        let seen = &mut self.seen;
        let peak = look.blocked > seen.blocked_max;
        seen.looks += 1;
        seen.blocked_max = seen.blocked_max.max(look.blocked);
        seen.ungranted_max = seen.ungranted_max.max(look.ungranted);
        seen.wait_max_ms = seen.wait_max_ms.max(look.wait_ms);
        seen.own_wait_max_ms = seen.own_wait_max_ms.max(look.own_wait_ms);
        if let Some(host) = host {
            let before = seen.host.unwrap_or(HostPeak {
                cpu_percent_max: 0,
                memory_available_min: u64::MAX,
            });
            seen.host = Some(HostPeak {
                cpu_percent_max: before.cpu_percent_max.max(host.cpu_percent),
                memory_available_min: before.memory_available_min.min(host.memory_available),
            });
        }
        let first = self.wal.map_or(look.wal, |(first, _)| first);
        self.wal = Some((first, look.wal));
        self.follow(&look.held, now);
        peak
    }

    fn follow(&mut self, held: &BTreeSet<Lock>, now: Instant) {
        for (lock, span) in &mut self.locks {
            if span.open && !held.contains(lock) {
                span.longest = span.longest();
                span.open = false;
            }
        }
        for lock in held {
            if let Some(span) = self.locks.get_mut(lock) {
                if !span.open {
                    (span.first, span.open) = (now, true);
                }
                span.last = now;
            } else if self.locks.len() < LOCKS_MAX {
                let span = Span {
                    first: now,
                    last: now,
                    open: true,
                    longest: Duration::ZERO,
                };
                self.locks.insert(lock.clone(), span);
            }
        }
    }

    /// Bytes of write-ahead log so far.
    pub(super) fn wal_bytes(&self) -> i64 {
        self.wal.map_or(0, |(first, last)| last - first)
    }

    /// How long the oldest of the locks that are held now has been held.
    pub(super) fn held_ms(&self) -> u64 {
        let open = self.locks.values().filter(|span| span.open);
        let longest = open.map(|span| span.last - span.first).max();
        longest.map_or(0, millis)
    }

    /// The figures; none if nobody ever looked.
    pub(super) fn report(&self) -> Option<Watched> {
        if self.seen.looks == 0 {
            return None;
        }
        let mut held: Vec<_> = self
            .locks
            .iter()
            .map(|((relation, mode), span)| HeldLock {
                relation: relation.clone(),
                mode: mode.clone(),
                ms: millis(span.longest()),
            })
            .collect();
        held.sort_by(|a, b| b.ms.cmp(&a.ms).then_with(|| a.relation.cmp(&b.relation)));
        held.truncate(LOCKS_NAMED);
        Some(Watched {
            held_max_ms: held.first().map_or(0, |it| it.ms),
            held,
            wal_bytes: self.wal_bytes(),
            ..self.seen.clone()
        })
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(blocked: i64, wal: i64, held: &[&str]) -> Look {
        let held = held.iter();
        let lock = |it: &&str| ((*it).to_owned(), "AccessExclusiveLock".to_owned());
        Look {
            blocked,
            ungranted: blocked,
            wait_ms: blocked * 10,
            own_wait_ms: 3,
            wal,
            held: held.map(lock).collect(),
        }
    }

    #[test]
    fn peaks_are_kept_and_spans_of_locks_are_told_apart() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut figures = Figures::new(start);
        assert_eq!(figures.report(), None);
        assert!(!figures.add(&look(0, 1000, &[]), None, at(0)));
        assert!(figures.add(&look(2, 1500, &["t", "u"]), None, at(100)));
        assert!(!figures.add(&look(1, 1500, &["t"]), None, at(200)));
        assert_eq!(figures.held_ms(), 100);
        assert!(!figures.add(&look(0, 1600, &["t"]), None, at(400)));
        assert_eq!((figures.held_ms(), figures.wal_bytes()), (300, 600));
        // It was let go, and taken again: two spans.
        figures.add(&look(0, 1600, &[]), None, at(500));
        figures.add(&look(0, 1600, &["t"]), None, at(600));
        figures.add(&look(0, 1700, &["t"]), None, at(700));
        let seen = figures.report().expect("looks");
        assert_eq!(
            (
                seen.looks,
                seen.blocked_max,
                seen.wait_max_ms,
                seen.wal_bytes
            ),
            (7, 2, 20, 700)
        );
        let held: Vec<_> = seen
            .held
            .iter()
            .map(|it| (it.relation.as_str(), it.ms))
            .collect();
        assert_eq!(held, [("t", 300), ("u", 0)]);
        assert_eq!(
            (seen.held_max_ms, seen.own_wait_max_ms, seen.host),
            (300, 3, None)
        );
    }

    #[test]
    fn a_file_with_very_many_locks_stays_small() {
        let start = Instant::now();
        let mut figures = Figures::new(start);
        let names: Vec<String> = (0..LOCKS_MAX + 7).map(|it| format!("t{it}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        figures.add(&look(0, 0, &names), None, start);
        figures.add(
            &look(0, 0, &names),
            None,
            start + Duration::from_millis(100),
        );
        assert_eq!(figures.locks.len(), LOCKS_MAX);
        let seen = figures.report().expect("looks");
        assert_eq!((seen.held.len(), seen.held_max_ms), (LOCKS_NAMED, 100));
    }

    #[test]
    fn a_machine_is_known_by_its_worst() {
        let start = Instant::now();
        let mut figures = Figures::new(start);
        for (cpu_percent, memory_available) in [(10, 500), (90, 400), (20, 450)] {
            let host = Host {
                cpu_percent,
                memory_available,
                memory_total: 1000,
            };
            figures.add(&look(0, 0, &[]), Some(host), start);
        }
        let worst = HostPeak {
            cpu_percent_max: 90,
            memory_available_min: 400,
        };
        assert_eq!(figures.report().expect("looks").host, Some(worst));
    }

    #[test]
    fn what_is_seen_is_a_sentence() {
        let mut now = Now {
            at: jiff::Timestamp::UNIX_EPOCH,
            file: Some("1_a.up.sql".to_owned()),
            blocked: 2,
            ungranted: 2,
            wait_ms: 120,
            own_wait_ms: 0,
            held_ms: 130,
            wal_bytes: 4096,
            work: Vec::new(),
            host: None,
        };
        assert_eq!(
            now.to_string(),
            "1_a.up.sql: keeps others out since 130 ms; 2 sessions blocked, the longest for 120 ms; \
             4 KiB of WAL"
        );
        (now.blocked, now.held_ms, now.own_wait_ms) = (0, 0, 50);
        assert_eq!(
            now.to_string(),
            "1_a.up.sql: waits for a lock since 50 ms; 4 KiB of WAL"
        );
    }
}
