//! The part of validation that is about what preflight asks for.

use super::demands::{Demands, RawDemands};
use super::quantity::ByteSize;
use super::raw::RawPreflight;
use super::settings::Preflight;
use super::validate::Check;

impl Check<'_> {
    pub(super) fn preflight(&mut self, raw: RawPreflight) -> Preflight {
        let default = Preflight::default();
        let mut time = |key: &str, written, default| {
            self.time(&format!("migrate.preflight.{key}"), written, default)
        };
        let bytes = |written: Option<ByteSize>, default: u64| {
            written.map_or(default, |ByteSize(bytes)| bytes as u64)
        };
        let preflight = Preflight {
            long_transaction: time(
                "long_transaction",
                raw.long_transaction,
                default.long_transaction,
            ),
            idle_in_transaction: time(
                "idle_in_transaction",
                raw.idle_in_transaction,
                default.idle_in_transaction,
            ),
            lock_wait: time("lock_wait", raw.lock_wait, default.lock_wait),
            replication_lag: time(
                "replication_lag",
                raw.replication_lag,
                default.replication_lag,
            ),
            rows_time: time("rows_time", raw.rows_time, default.rows_time),
            off: raw.off.unwrap_or_default(),
            extensions: raw.extensions.unwrap_or_default(),
            connections_percent: raw
                .connections_percent
                .unwrap_or(default.connections_percent),
            replication_bytes: bytes(raw.replication_bytes, default.replication_bytes),
            slot_bytes: bytes(raw.slot_bytes, default.slot_bytes),
            index_percent: raw.index_percent.unwrap_or(default.index_percent),
            disk_unasked: bytes(raw.disk_unasked, default.disk_unasked),
            disk_free_command: raw.disk_free_command,
            analyze_first: raw.analyze_first.unwrap_or_default(),
            drift: raw.drift.unwrap_or_default(),
            drift_ignore: raw.drift_ignore.unwrap_or_default(),
            demands: Demands::default(),
        };
        let demands = self.demands(RawDemands {
            required: raw.required,
            relations: raw.relations,
            monitoring: raw.monitoring,
            staging: raw.staging,
            backup_age: raw.backup_age,
            commands: raw.commands,
        });
        let preflight = Preflight {
            demands,
            ..preflight
        };
        let percent = preflight.connections_percent;
        self.within("migrate.preflight.connections_percent", percent, 1..=100);
        let percent = preflight.index_percent;
        self.within("migrate.preflight.index_percent", percent, 0..=1000);
        let command = preflight.disk_free_command.as_ref();
        self.not_empty("migrate.preflight.disk_free_command", command);
        preflight
    }
}
