//! What clients feel while a watch lasts, by the proxy's own measures.

use std::time::Duration;

use tokio::time::Instant;

use super::compare::{Comparison, Recent};
use super::kept::Kept;
use super::task::Task;
use super::triggers::Figures;
use crate::metrics::statements::Measured;
use crate::runner::Runner;
use crate::runner::traffic::Traffic;

/// How often measures are looked at: they are copied for that.
const EVERY: Duration = Duration::from_secs(2);

/// Measuring is put off by this at each look, and ends by itself when nobody looks any more.
const ON: Duration = Duration::from_secs(60);

/// What was measured in this watch.
#[derive(Debug, Default)]
pub(super) struct Clients {
    looked: Option<Instant>,
    /// At the first look.
    first: Option<Measured>,
    recent: Recent,
    lately: Option<Measured>,
}

impl Clients {
    /// What was measured in the last half minute.
    pub(super) fn lately(&self) -> Option<&Measured> {
        self.lately.as_ref()
    }
}

impl<T: Traffic> Runner<T> {
    /// Goes on measuring where there is something to compare with, or a trigger that needs it.
    pub(super) fn measure_on(&self, kept: &Kept) {
        let wanted =
            kept.baseline.measured.is_some() || kept.triggers.iter().any(|it| it.on.is_measured());
        if wanted {
            let one_in = self.options.measures.one_in;
            self.traffic.measure(&kept.database, ON, one_in);
        }
    }
}

impl<T: Traffic> Task<T> {
    /// The figures of what clients feel.
    pub(super) fn look_at_clients(&mut self) -> Figures {
        let traffic = &self.runner.traffic;
        let longest = traffic.longest_statement(&self.kept.database);
        let mut figures = Figures {
            longest_statement_ms: longest.map(|it| it.as_secs_f64() * 1000.0),
            ..Figures::default()
        };
        let (now, clients) = (Instant::now(), &mut self.clients);
        if clients.looked.is_none_or(|it| now - it >= EVERY) {
            clients.looked = Some(now);
            self.runner.measure_on(&self.kept);
            let measured = traffic.measured(&self.kept.database);
            clients.lately = measured.map(|measured| {
                let first = clients.first.get_or_insert_with(|| measured.clone());
                if let Some(before) = &self.kept.baseline.measured {
                    let since = measured.since(first);
                    self.view.comparison = Some(Comparison::new(before, &since));
                }
                clients.recent.add(now, measured)
            });
        }
        if let Some(lately) = &clients.lately {
            figures.measured(self.kept.baseline.measured.as_ref(), lately);
        }
        figures
    }
}
