//! The part of validation that is about limits, peers that are gone, and how much is kept.

use std::time::Duration;

use super::quantity::{ByteSize, CountOrNone, DurationOrNever, HumanDuration};
use super::raw::{RawAudit, RawLimits, RawTcp};
use super::settings::{Audit, Limits};
use super::validate::Check;
use crate::tls::tcp::TcpOptions;

/// The largest number of connections that may be allowed.
const CONNECTIONS_MAX: usize = 1_000_000;

/// How large the file of events grows.
const AUDIT_BYTES: usize = 16 << 20;

/// The longest time between two probes that Linux takes (`MAX_TCP_KEEPIDLE`, `MAX_TCP_KEEPINTVL`).
const PROBE_MAX: Duration = Duration::from_secs(32_767);

/// The most probes that Linux takes (`MAX_TCP_KEEPCNT`).
const PROBES_MAX: usize = 127;

/// Longer ones do not fit `TCP_USER_TIMEOUT`, which counts milliseconds in an `int`.
const USER_TIMEOUT_MAX: Duration = Duration::from_millis(i32::MAX as u64);

impl Check<'_> {
    pub(super) fn limits(&mut self, raw: RawLimits) -> Limits {
        Limits {
            connections: self.count("limits.connections", raw.connections, 10_000),
            connections_per_database: self.count_or_none(
                "limits.connections_per_database",
                raw.connections_per_database,
            ),
            connections_per_user: self
                .count_or_none("limits.connections_per_user", raw.connections_per_user),
            connections_per_address: self.count_or_none(
                "limits.connections_per_address",
                raw.connections_per_address,
            ),
            logins: self.count("limits.logins", raw.logins, 1000),
            login_time: self.time("limits.login_time", raw.login_time, Duration::from_secs(60)),
            client_stalled: self.time_or_never("limits.client_stalled", raw.client_stalled),
            cancels: self.count("limits.cancels", raw.cancels, 64),
            accepts_per_second: self.count(
                "limits.accepts_per_second",
                raw.accepts_per_second,
                2000,
            ),
        }
    }

    pub(super) fn tcp(&mut self, raw: RawTcp) -> TcpOptions {
        let default = TcpOptions::default();
        let count = raw.keepalive_count.unwrap_or(default.keepalive_count);
        let probes = usize::try_from(count).unwrap_or(usize::MAX);
        self.within("tcp.keepalive_count", probes, 1..=PROBES_MAX);
        let user_timeout = self.time_or_never("tcp.user_timeout", raw.user_timeout);
        if user_timeout.is_some_and(|time| time > USER_TIMEOUT_MAX) {
            self.wrong("tcp.user_timeout", "it is longer than 24days");
        }
        TcpOptions {
            keepalive_idle: self.probe(
                "tcp.keepalive_idle",
                raw.keepalive_idle,
                default.keepalive_idle,
            ),
            keepalive_interval: self.probe(
                "tcp.keepalive_interval",
                raw.keepalive_interval,
                default.keepalive_interval,
            ),
            keepalive_count: count,
            user_timeout,
        }
    }

    pub(super) fn audit(&mut self, raw: RawAudit) -> Audit {
        let rotate_bytes = raw
            .rotate_bytes
            .map_or(AUDIT_BYTES, |ByteSize(bytes)| bytes);
        self.within("audit.rotate_bytes", rotate_bytes, 4096..=1 << 40);
        let keep = raw.keep.unwrap_or(5);
        self.within("audit.keep", keep, 0..=1000);
        Audit {
            rotate_bytes: rotate_bytes as u64,
            keep: u32::try_from(keep).unwrap_or(u32::MAX),
        }
    }

    fn count(&mut self, key: &str, written: Option<usize>, default: usize) -> usize {
        let count = written.unwrap_or(default);
        self.within(key, count, 1..=CONNECTIONS_MAX);
        count
    }

    fn count_or_none(&mut self, key: &str, written: Option<CountOrNone>) -> Option<usize> {
        let CountOrNone(count) = written?;
        count.inspect(|count| self.within(key, *count, 1..=CONNECTIONS_MAX))
    }

    fn time_or_never(&mut self, key: &str, written: Option<DurationOrNever>) -> Option<Duration> {
        let DurationOrNever(time) = written?;
        time.map(|time| self.time(key, Some(HumanDuration(time)), time))
    }

    /// A time that the kernel counts in whole seconds.
    fn probe(&mut self, key: &str, written: Option<HumanDuration>, default: Duration) -> Duration {
        let time = written.map_or(default, Duration::from);
        if time.subsec_nanos() > 0 || time.is_zero() || time > PROBE_MAX {
            self.wrong(key, "it is not in whole seconds between 1s and 32767s");
        }
        time
    }
}
