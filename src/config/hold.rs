//! `[hold]`: what a hold does when its command says nothing else, and what in it does not fit together.

use std::time::Duration;

use super::quantity::{ByteSize, DurationOrNever, HumanDuration};
use super::raw::RawHold;
use super::scope::Exempt;
use super::settings::{Hold, Ladder, Limits, Reopen};
use super::validate::Check;
use super::words::{Blocked, Preset, ReplicationHold, Then, WhenFull};
use crate::wire::refusal::Sqlstate;

/// More than this is hardly meant to be kept of held clients.
const KEPT_SANE: usize = 4 << 30;

impl Check<'_> {
    pub(super) fn hold(&mut self, raw: RawHold) -> Hold {
        let seconds = |written: Option<HumanDuration>, default| {
            written.map_or(Duration::from_secs(default), Duration::from)
        };
        let clients_max = raw.clients_max.unwrap_or(10_000);
        self.within("hold.clients_max", clients_max, 1..=1_000_000);
        let clients_max_total = raw.clients_max_total.unwrap_or(clients_max.max(10_000));
        self.within("hold.clients_max_total", clients_max_total, 1..=1_000_000);
        let ByteSize(bytes_per_client) = raw.bytes_per_client.unwrap_or(ByteSize(64 << 10));
        self.within("hold.bytes_per_client", bytes_per_client, 1 << 10..=1 << 30);
        Hold {
            duration: self.time("hold.for", raw.r#for, Duration::from_secs(300)),
            then: raw.then.unwrap_or(Then::Open),
            blocked: raw.blocked.unwrap_or(Blocked::Queue),
            client_deadline: self.time(
                "hold.client_deadline",
                raw.client_deadline,
                Duration::from_secs(60),
            ),
            reject_sqlstate: raw.reject_sqlstate.unwrap_or(Sqlstate::HOLD_REJECTS),
            clients_max,
            clients_max_total,
            when_full: raw.when_full.unwrap_or(WhenFull::Newest),
            notice_after: self.notice_after(raw.notice_after),
            exempt: self.exempt(raw.exempt),
            reopen: self.reopen(raw.reopen_rate, raw.reopen_transactions, raw.reopen_for),
            bytes_per_client,
            replication: raw.replication.unwrap_or(ReplicationHold::Exempt),
            ladder: Ladder {
                preset: raw.ladder.unwrap_or(Preset::Gentle),
                autocommit: seconds(raw.autocommit, 0),
                wait: seconds(raw.wait, 30),
                cancel: seconds(raw.cancel, 10),
                stuck: seconds(raw.stuck, 5),
                abort: seconds(raw.abort, 5),
                terminate: seconds(raw.terminate, 10),
            },
            bypass: raw.bypass,
            fence: raw.fence.unwrap_or(false),
            ready: raw.ready.unwrap_or(true),
        }
    }

    fn notice_after(&mut self, written: Option<DurationOrNever>) -> Option<Duration> {
        let DurationOrNever(after) = written?;
        if after.is_some_and(|after| after.is_zero()) {
            self.wrong(
                "hold.notice_after",
                "it must be longer than zero, or \"never\"",
            );
        }
        after
    }

    fn exempt(&mut self, written: Option<Vec<Exempt>>) -> Vec<Exempt> {
        let exempt = written.unwrap_or_default();
        if exempt.iter().any(|it| it.scope.is_whole()) {
            let text =
                "an entry names no user, application_name or client: no hold would stop anybody";
            self.wrong("hold.exempt", text);
        }
        exempt
    }

    fn reopen(
        &mut self,
        rate: Option<usize>,
        transactions: Option<usize>,
        longest: Option<HumanDuration>,
    ) -> Reopen {
        let reopen = Reopen {
            rate: rate.unwrap_or(2000),
            transactions: transactions.unwrap_or(512),
            longest: self.time("hold.reopen_for", longest, Duration::from_secs(10)),
        };
        self.within("hold.reopen_rate", reopen.rate, 1..=1_000_000);
        self.within(
            "hold.reopen_transactions",
            reopen.transactions,
            1..=1_000_000,
        );
        reopen
    }

    /// What is valid and contradicts itself is said at start.
    pub(super) fn hold_among_limits(&mut self, hold: &Hold, limits: &Limits) {
        let kept = hold.clients_max_total.saturating_mul(hold.bytes_per_client);
        let most = limits.connections;
        let contradictions = [
            (
                hold.client_deadline > hold.duration && hold.then == Then::Open,
                "hold.client_deadline is longer than hold.for: no client waits that long"
                    .to_owned(),
            ),
            (
                hold.clients_max > hold.clients_max_total,
                format!(
                    "hold.clients_max is {}, and hold.clients_max_total lets only {} wait",
                    hold.clients_max, hold.clients_max_total
                ),
            ),
            (
                hold.clients_max_total < most && limits.connections_per_database.is_none(),
                format!(
                    "hold.clients_max_total is {}, and limits.connections lets {most} clients in: \
                     in a hold some may be refused",
                    hold.clients_max_total
                ),
            ),
            (
                kept.min(most.saturating_mul(hold.bytes_per_client)) > KEPT_SANE,
                format!(
                    "held clients may take {} GiB: hold.bytes_per_client for each of \
                     hold.clients_max_total",
                    kept >> 30
                ),
            ),
            (
                hold.notice_after
                    .is_some_and(|after| after >= hold.client_deadline),
                "hold.notice_after is not shorter than hold.client_deadline: nobody gets a notice"
                    .to_owned(),
            ),
            (
                hold.ladder.wait >= hold.duration,
                "hold.wait is not shorter than hold.for: the hold ends before its drain".to_owned(),
            ),
        ];
        let said = contradictions.into_iter().filter(|(is_so, _)| *is_so);
        self.warnings.extend(said.map(|(_, text)| text));
    }
}
