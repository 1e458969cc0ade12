//! What the server counts while a watch lasts: the touched tables, who waits, what row-level security costs.

use std::time::Duration;

use tokio::time::Instant;
use tokio_postgres::{Client, Error};

use super::catalog::{CatalogComparison, Snapshot, Span};
use super::kept::Kept;
use super::rls;
use crate::config::{Thresholds, TriggerOn};

/// How often counters are looked at, and row-level security is measured.
const COUNTERS: Duration = Duration::from_secs(10);
const RLS: Duration = Duration::from_secs(30);

/// What is known between two looks.
#[derive(Debug, Default)]
pub(super) struct Database {
    counted: Option<Instant>,
    measured: Option<Instant>,
    rls_ms: Option<f64>,
    pub(super) comparison: Option<CatalogComparison>,
}

impl Database {
    /// The next look counts, however short it is after the last.
    pub(super) fn count_again(&mut self) {
        self.counted = None;
    }

    /// Looks at what is due, and gives the cost of row-level security, if a trigger asks for it and it is
    /// known.
    pub(super) async fn look(
        &mut self,
        client: &Client,
        kept: &mut Kept,
        thresholds: &Thresholds,
    ) -> Result<Option<f64>, Error> {
        let now = Instant::now();
        let due = |last: Option<Instant>, every| last.is_none_or(|it| now - it >= every);
        if kept.baseline.catalog.is_some() && due(self.counted, COUNTERS) {
            self.counted = Some(now);
            let last = Snapshot::take(client, &kept.relations).await?;
            self.comparison = compare(kept, last);
        }
        let asked = kept.triggers.iter().any(|it| it.on == TriggerOn::RlsMs);
        if let Some(role) = thresholds.rls_role.as_deref().filter(|_| asked)
            && due(self.measured, RLS)
        {
            self.measured = Some(now);
            self.rls_ms = match rls::measure(client, role, &kept.relations).await {
                Ok(costs) => rls::dearest(&costs),
                // Unknown is never zero; a session that is gone is not this question's affair.
                Err(error) if error.as_db_error().is_some() => {
                    tracing::warn!(run = kept.run, %error, "row-level security is not measured");
                    None
                }
                Err(error) => return Err(error),
            };
        }
        Ok(self.rls_ms)
    }
}

/// The time before the run against the time since the watch began, over restarts too.
fn compare(kept: &mut Kept, last: Snapshot) -> Option<CatalogComparison> {
    let first = kept.counted.get_or_insert_with(|| last.clone());
    let since = Span {
        first: Some(first),
        last: &last,
        lock_waits: kept.lock_waits,
    };
    Some(CatalogComparison::new(kept.baseline.span()?, since))
}
