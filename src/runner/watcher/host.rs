//! The load of this machine, as the kernel tells it in `/proc` (proc(5)).

use serde::{Deserialize, Serialize};

/// The load of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// How busy all processors were together since the last look, in percent.
    pub cpu_percent: u8,
    /// Memory that programs could still have, in bytes.
    pub memory_available: u64,
    /// All of its memory, in bytes.
    pub memory_total: u64,
}

/// Ticks of all processors since the machine started: busy ones, and all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ticks {
    busy: u64,
    all: u64,
}

/// Looks again and again; the load is what happened between two looks.
#[derive(Debug, Default)]
pub(super) struct Meter {
    before: Option<Ticks>,
}

impl Meter {
    /// The load since the last look; none the first time, or where there is no such `/proc`.
    pub(super) async fn look(&mut self) -> Option<Host> {
        let stat = tokio::fs::read_to_string("/proc/stat").await.ok()?;
        let memory = tokio::fs::read_to_string("/proc/meminfo").await.ok()?;
        self.read(&stat, &memory)
    }

    fn read(&mut self, stat: &str, memory: &str) -> Option<Host> {
        let now = ticks(stat)?;
        let before = self.before.replace(now)?;
        let all = now.all.saturating_sub(before.all).max(1);
        let busy = now.busy.saturating_sub(before.busy);
        Some(Host {
            cpu_percent: u8::try_from(busy.saturating_mul(100) / all)
                .unwrap_or(100)
                .min(100),
            memory_available: kilobytes(memory, "MemAvailable:")?,
            memory_total: kilobytes(memory, "MemTotal:")?,
        })
    }
}

/// The first line: user, nice, system, idle, iowait, irq, softirq, steal. Guests are counted in user.
fn ticks(stat: &str) -> Option<Ticks> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    let columns: Vec<u64> = line
        .split_whitespace()
        .take(8)
        .map_while(|it| it.parse().ok())
        .collect();
    let idle = columns.get(3)? + columns.get(4)?;
    let all: u64 = columns.iter().sum();
    let busy = all.saturating_sub(idle);
    Some(Ticks { busy, all })
}

fn kilobytes(memory: &str, name: &str) -> Option<u64> {
    let line = memory.lines().find_map(|it| it.strip_prefix(name))?;
    let number: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(number.saturating_mul(1024))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMORY: &str = "MemTotal:        8000 kB\nMemFree:   1 kB\nMemAvailable:    2000 kB\n";

    #[test]
    fn the_load_is_what_happened_between_two_looks() {
        let mut meter = Meter::default();
        let first = "cpu  100 0 100 700 100 0 0 0 0 0\ncpu0 1 2 3 4\n";
        assert_eq!(meter.read(first, MEMORY), None);
        // 30 of 120 ticks were busy.
        let second = "cpu  120 0 110 780 110 0 0 0 0 0\n";
        let host = Host {
            cpu_percent: 25,
            memory_available: 2000 * 1024,
            memory_total: 8000 * 1024,
        };
        assert_eq!(meter.read(second, MEMORY), Some(host));
        // Nothing has passed, or a counter went back: no division by zero, no overflow.
        assert_eq!(meter.read(second, MEMORY).map(|it| it.cpu_percent), Some(0));
        assert_eq!(meter.read(first, MEMORY).map(|it| it.cpu_percent), Some(0));
    }

    #[test]
    fn what_is_no_proc_is_nothing() {
        let mut meter = Meter::default();
        for stat in ["", "cpu", "cpu  1 2", "intr 5"] {
            assert_eq!(meter.read(stat, MEMORY), None, "{stat}");
        }
        meter.read("cpu  1 1 1 1 1", MEMORY);
        assert_eq!(meter.read("cpu  2 2 2 2 2", "MemTotal: x kB"), None);
    }
}
