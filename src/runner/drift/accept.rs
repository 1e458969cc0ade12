//! `drift`: what somebody has changed past pgdrain, shown and accepted.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{Schema, Standing, kept, look};
use crate::runner::Runner;
use crate::runner::history::{Ledger, LedgerError};
use crate::runner::lock::LockError;
use crate::runner::traffic::Traffic;
use crate::runner::types::Exit;
use crate::runner::verify::SCHEMA_TIME;

/// How long the lock of migrations is asked for.
const LOCK_WAIT: Duration = Duration::from_secs(2);

/// Body of `POST /v1/databases/{db}/migrations/drift`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DriftRequest {
    /// Whether the schema as it is now is what the next run is held against; needs a `reason`.
    #[serde(default)]
    pub accept: bool,
    /// Why, for the history.
    #[serde(default)]
    pub reason: Option<String>,
    /// Who asks.
    #[serde(default)]
    pub by: Option<String>,
}

/// Answer of `POST /v1/databases/{db}/migrations/drift`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DriftReport {
    /// The database.
    pub database: String,
    /// When it was looked at.
    pub at: jiff::Timestamp,
    /// The SHA-256 of the schema as it is, without pgdrain's own.
    pub fingerprint: String,
    /// The same of what was left; none if there is nothing to compare with.
    pub left: Option<String>,
    /// Who left it: a run, or somebody who accepted it.
    pub left_by: Option<String>,
    /// When, RFC 3339 in UTC.
    pub left_at: Option<String>,
    /// Whether it is another one.
    pub drifted: bool,
    /// The lines that differ: `-` was left, `+` is there now. Empty too where the lines are not kept.
    pub differences: Vec<String>,
    /// What is to be said about it.
    pub text: String,
    /// Whether it was accepted just now.
    pub accepted: bool,
    /// The same for a shell: 0, or 1 when it has drifted and was not accepted.
    pub exit_code: u8,
}

/// Why nobody can tell.
#[derive(Debug, thiserror::Error)]
pub enum DriftError {
    /// The request cannot be used.
    #[error("{0}")]
    Invalid(String),
    /// A migration runs.
    #[error("{0}")]
    Busy(String),
    /// The database cannot be asked, or the history not be written.
    #[error(transparent)]
    History(#[from] LedgerError),
}

impl<T: Traffic> Runner<T> {
    /// Looks whether the schema is what the last run has left, and accepts it if that is asked for. Writes
    /// nothing otherwise.
    ///
    /// # Errors
    /// When the database cannot be asked. To accept it fails too while a migration runs.
    pub async fn drift(
        &self,
        database: &str,
        request: &DriftRequest,
    ) -> Result<DriftReport, DriftError> {
        let reason = request.reason.as_deref().map(str::trim).unwrap_or_default();
        if request.accept && reason.is_empty() {
            let text = "to accept a schema needs a reason";
            return Err(DriftError::Invalid(text.to_owned()));
        }
        let ledger = Ledger::open(&self.connector, database).await?;
        let looked = self.looked(&ledger, request, reason).await;
        ledger.close().await;
        looked
    }

    async fn looked(
        &self,
        ledger: &Ledger,
        request: &DriftRequest,
        reason: &str,
    ) -> Result<DriftReport, DriftError> {
        if request.accept {
            match ledger.lock(Instant::now() + LOCK_WAIT, None).await {
                Ok(()) => {}
                Err(taken @ LockError::Taken(_)) => {
                    return Err(DriftError::Busy(taken.to_string()));
                }
                Err(error) => return Err(LedgerError::from(error).into()),
            }
        }
        let ignore = &self.options.preflight.drift_ignore;
        let looked = async {
            let standing = look(ledger.session(), ignore, SCHEMA_TIME).await?;
            let schema = Schema::read(ledger.session(), SCHEMA_TIME).await?;
            Ok::<_, tokio_postgres::Error>((standing, schema))
        };
        let (standing, schema) = looked.await.map_err(LedgerError::from)?;
        if request.accept {
            let by = request.by.as_deref().unwrap_or("unknown");
            let written = async {
                ledger.ensure_layout().await?;
                kept::accept(ledger, &schema, by, Some(reason)).await
            };
            written.await.map_err(LedgerError::from)?;
        }
        let fingerprint = schema.fingerprint.to_string();
        Ok(report(
            ledger.database(),
            standing,
            fingerprint,
            request.accept,
        ))
    }
}

fn report(database: &str, standing: Standing, fingerprint: String, accepted: bool) -> DriftReport {
    let (left, drifted, differences, text) = match standing {
        Standing::Nothing(why) => (None, false, Vec::new(), why),
        Standing::Same(left) => {
            let text = format!("the schema is what {} left at {}", left.by, left.at);
            (Some(left), false, Vec::new(), text)
        }
        Standing::Drifted { left, differences } => {
            let mut text = format!("the schema is not what {} left at {}", left.by, left.at);
            if differences.is_none() {
                text += ", whose lines are not kept any more";
            }
            (Some(left), true, differences.unwrap_or_default(), text)
        }
    };
    let exit = match drifted && !accepted {
        true => Exit::Preflight,
        false => Exit::Success,
    };
    DriftReport {
        database: database.to_owned(),
        at: jiff::Timestamp::now(),
        fingerprint,
        left: left
            .as_ref()
            .and_then(|it| it.fingerprint)
            .map(|it| it.to_string()),
        left_at: left.as_ref().map(|it| it.at.clone()),
        left_by: left.map(|it| it.by),
        drifted,
        differences,
        text,
        accepted,
        exit_code: exit.code(),
    }
}
