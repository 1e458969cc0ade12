//! Who approved which plan, and what was decided about runs that failed: kept in the database's own
//! history, and only ever added to.
//!
//! An approval names a plan by its hash, so that whatever changes the plan voids it. Who approves (`by`) is
//! the name that the admin HTTP has proved, or what the caller says where nothing has to be shown.

mod books;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::Runner;
use super::history::{Ledger, LedgerError};
use super::preflight::Check;
use super::traffic::Traffic;
use crate::config::{Approvals as Settings, HumanDuration};

/// Longer names would be no names.
const NAME_MAX: usize = 200;

/// Body of `POST /v1/databases/{db}/migrations/approvals`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApproveRequest {
    /// The hash of the plan.
    pub plan: String,
    /// As whom.
    pub role: String,
    /// Who approves.
    #[serde(default)]
    pub by: Option<String>,
    /// For how long; as configured if it is not said.
    #[serde(default)]
    pub expires: Option<HumanDuration>,
    /// What there is to say about it.
    #[serde(default)]
    pub reason: Option<String>,
}

/// Body of `POST /v1/databases/{db}/migrations/approvals/revoke`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevokeRequest {
    /// The hash of the plan.
    pub plan: String,
    /// The role whose approval is taken back.
    pub role: String,
    /// Who takes it back.
    #[serde(default)]
    pub by: Option<String>,
    /// Why.
    #[serde(default)]
    pub reason: Option<String>,
}

/// What an entry stands for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// The plan is approved by this role.
    Valid,
    /// Its time is over.
    Expired,
    /// It was taken back.
    Revoked,
    /// It takes back what was approved before it.
    Revocation,
}

impl Standing {
    /// The word used in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
            Self::Revocation => "revocation",
        }
    }
}

/// An entry: an approval, or that it was taken back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// Its number.
    pub id: i64,
    /// The hash of the plan.
    pub plan: String,
    /// As whom.
    pub role: String,
    /// Who.
    pub by: String,
    /// When, RFC 3339 in UTC, by the server's clock.
    pub at: String,
    /// Until when it holds; none of what takes something back.
    pub expires_at: Option<String>,
    /// What was said about it.
    pub reason: Option<String>,
    /// What it stands for now.
    pub standing: Standing,
}

/// Answer of `GET /v1/databases/{db}/migrations/approvals`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approvals {
    /// The roles that have to approve.
    pub roles: Vec<String>,
    /// Whether nothing runs up without them.
    pub required: bool,
    /// The newest thousand entries, oldest first.
    pub approvals: Vec<Approval>,
}

/// What is to be done about a run that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Choice {
    /// Another migration puts it right.
    FixForward,
    /// It is taken back.
    Rollback,
}

impl Choice {
    /// The word used in JSON and in the history.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::FixForward => "fix_forward",
            Self::Rollback => "rollback",
        }
    }
}

/// Body of `POST /v1/databases/{db}/migrations/decide`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DecideRequest {
    /// The run that failed.
    pub run: String,
    /// What is to be done.
    pub decision: Choice,
    /// Who decides.
    #[serde(default)]
    pub by: Option<String>,
    /// Why.
    #[serde(default)]
    pub reason: Option<String>,
}

/// A decision about a run; the last one counts, all are kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// What is to be done.
    pub decision: Choice,
    /// Who decided.
    pub by: String,
    /// Why.
    pub reason: Option<String>,
    /// When, RFC 3339 in UTC, by the server's clock.
    pub at: String,
}

/// Why nothing was written down.
#[derive(Debug, thiserror::Error)]
pub enum ApprovalError {
    /// The request cannot be used.
    #[error("{0}")]
    Invalid(String),
    /// There is no such run in the history.
    #[error("the history of this database knows no run {0}")]
    NoRun(String),
    /// There is nothing to revoke, or to decide.
    #[error("{0}")]
    Nothing(String),
    /// The history cannot be read or written.
    #[error(transparent)]
    History(#[from] LedgerError),
}

impl<T: Traffic> Runner<T> {
    /// Takes down that a plan is approved.
    ///
    /// # Errors
    /// When the request cannot be used, or the history cannot be written.
    pub async fn approve(
        &self,
        database: &str,
        request: &ApproveRequest,
    ) -> Result<Approval, ApprovalError> {
        let settings = &self.options.approvals;
        let by = named(request.by.as_deref())?;
        plan_hash(&request.plan)?;
        role(settings, &request.role)?;
        let expires = request.expires.map_or(settings.expire, |it| it.0);
        if expires.is_zero() {
            let text = "expires must be longer than nothing";
            return Err(ApprovalError::Invalid(text.to_owned()));
        }
        let ledger = self.books(database).await?;
        let written = ledger.approve(request, &by, expires).await;
        ledger.close().await;
        let written = written?;
        tracing::info!(
            database,
            plan = request.plan,
            role = request.role,
            by,
            "approved"
        );
        Ok(written)
    }

    /// Takes down that an approval is taken back.
    ///
    /// # Errors
    /// When there is none, or the history cannot be written.
    pub async fn revoke(
        &self,
        database: &str,
        request: &RevokeRequest,
    ) -> Result<Approval, ApprovalError> {
        let by = named(request.by.as_deref())?;
        plan_hash(&request.plan)?;
        let ledger = self.books(database).await?;
        let written = ledger.revoke(request, &by).await;
        ledger.close().await;
        let Some(written) = written? else {
            let text = format!("{} has no valid approval of that plan", request.role);
            return Err(ApprovalError::Nothing(text));
        };
        tracing::info!(
            database,
            plan = request.plan,
            role = request.role,
            by,
            "revoked"
        );
        Ok(written)
    }

    /// What was approved, of one plan or of all.
    ///
    /// # Errors
    /// When the history cannot be read.
    pub async fn approvals(
        &self,
        database: &str,
        plan: Option<&str>,
    ) -> Result<Approvals, ApprovalError> {
        let ledger = Ledger::open(&self.connector, database).await?;
        let read = ledger.approvals(plan).await;
        ledger.close().await;
        let settings = &self.options.approvals;
        Ok(Approvals {
            roles: settings.roles.clone(),
            required: settings.required,
            approvals: read?,
        })
    }

    /// Takes down what is to be done about a run that failed, in the history and in its report.
    ///
    /// # Errors
    /// When there is no such run, it succeeded or has not ended, or the history cannot be written.
    pub async fn decide(
        &self,
        database: &str,
        request: &DecideRequest,
    ) -> Result<Decision, ApprovalError> {
        let by = named(request.by.as_deref())?;
        let run = &request.run;
        let is_id = run.len() == 36 && run.bytes().all(|it| it == b'-' || it.is_ascii_hexdigit());
        if !is_id {
            return Err(ApprovalError::NoRun(run.clone()));
        }
        let ledger = self.books(database).await?;
        let decided = ledger.decide(request, &by).await;
        ledger.close().await;
        let decided = decided?;
        if let Some(known) = self.find(run) {
            known.decide(decided.clone());
        }
        tracing::info!(
            database,
            run,
            decision = decided.decision.as_str(),
            by,
            "decided"
        );
        Ok(decided)
    }

    /// The history with the tables of this module.
    async fn books(&self, database: &str) -> Result<Ledger, LedgerError> {
        let ledger = Ledger::open(&self.connector, database).await?;
        if !ledger.has_approvals().await? {
            // Two must not make the tables at once; entries need no lock.
            let deadline = Instant::now() + self.options.lock_wait;
            ledger.lock(deadline, None).await?;
            ledger.ensure_layout().await?;
        }
        Ok(ledger)
    }
}

/// The check that a plan is approved by everybody who has to.
pub(super) async fn check(
    ledger: &Ledger,
    settings: &Settings,
    database: &str,
    plan: &str,
) -> Check {
    let name = "approvals";
    let approved = match ledger.approvals(Some(plan)).await {
        Ok(entries) => entries,
        Err(error) => return Check::unknown(name, &error),
    };
    let of = |role: &str| {
        let entry = approved.iter().rfind(|it| it.role == role);
        entry.filter(|it| it.standing == Standing::Valid)
    };
    let missing: Vec<_> = settings
        .roles
        .iter()
        .filter(|it| of(it).is_none())
        .collect();
    let details = settings.roles.iter().filter_map(|role| {
        let it = of(role)?;
        let until = it.expires_at.as_deref().unwrap_or_default();
        Some(format!("{role}: {} at {}, until {until}", it.by, it.at))
    });
    let details = details.collect();
    match missing.as_slice() {
        [] => Check {
            details,
            ..Check::passed(name, "everybody who has to has approved this plan")
        },
        missing => {
            let names: Vec<_> = missing.iter().map(|it| it.as_str()).collect();
            let text = format!("not approved by {}: plan {plan}", names.join(", "));
            let first = names[0];
            let hint =
                format!("`pgdrain migrate approve '{database}' --plan {plan} --as '{first}'`");
            Check {
                details,
                hint: Some(hint),
                ..Check::failed(name, text)
            }
        }
    }
}

/// The check that somebody is named who would lead the database back.
pub(super) fn rollback_executor(named: Option<&str>) -> Check {
    let name = "rollback_executor";
    match named.map(str::trim).filter(|it| !it.is_empty()) {
        Some(who) => Check::passed(name, format!("{who} leads back if it has to be")),
        None => Check {
            hint: Some("name somebody: `--rollback-by NAME`".to_owned()),
            ..Check::failed(name, "nobody is named who would lead back")
        },
    }
}

fn named(by: Option<&str>) -> Result<String, ApprovalError> {
    match by.map(str::trim).filter(|it| !it.is_empty()) {
        Some(by) if by.len() > NAME_MAX => Err(ApprovalError::Invalid(format!(
            "by is longer than {NAME_MAX} bytes"
        ))),
        Some(by) => Ok(by.to_owned()),
        None => Err(ApprovalError::Invalid("by has to say who it is".to_owned())),
    }
}

fn plan_hash(text: &str) -> Result<(), ApprovalError> {
    let lower = |it: u8| it.is_ascii_digit() || (b'a'..=b'f').contains(&it);
    if text.len() == 64 && text.bytes().all(lower) {
        return Ok(());
    }
    let text = "plan is no hash of a plan: `pgdrain migrate plan` shows it, 64 hexadecimal digits";
    Err(ApprovalError::Invalid(text.to_owned()))
}

fn role(settings: &Settings, role: &str) -> Result<(), ApprovalError> {
    let known = settings.roles.is_empty() || settings.roles.iter().any(|it| it == role);
    if known && !role.trim().is_empty() && role.len() <= NAME_MAX {
        return Ok(());
    }
    let known = settings.roles.join(", ");
    let text = format!("{role:?} is none of migrate.approvals.roles ({known})");
    Err(ApprovalError::Invalid(text))
}
