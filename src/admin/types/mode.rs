//! Holding and opening: what is asked for and what came of it.

use ipnet::IpNet;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::drain::DrainReport;
use super::read_only::{Enforcement, ReadOnlyRequest};
use crate::config::{Blocked, Bypass, HumanDuration, Permission, Preset, Scope, Then};
use crate::wire::refusal::Sqlstate;

pub use crate::gate::mode::{Holder, Mode as ModeName};

/// One hold on a database.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HoldStatus {
    /// Who holds it.
    pub holder: Holder,
    /// Whether it lets reads in: `read_only`, or `hold`.
    #[serde(default = "hold")]
    pub mode: ModeName,
    /// The number of this hold; a later one has a greater one.
    pub generation: u64,
    /// When it began.
    pub since: Timestamp,
    /// Its own end; `None` while it waits for somebody to end it.
    pub until: Option<Timestamp>,
    /// What happens at that end.
    pub then: Then,
    /// What happens to transactions that may not start; in mode `read_only` those that write.
    pub blocked: Blocked,
    /// In mode `read_only`, in how many sessions the server itself refuses writes by now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enforcement: Option<Enforcement>,
    /// Who asked for it.
    pub by: String,
    /// Why.
    pub reason: String,
    /// Whether its end has passed and it stays.
    pub overdue: bool,
    /// Why it stays although the window's work is over: somebody has to look, or it is not known yet
    /// how the work ended. Absent otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stays: Option<String>,
    /// How its drain goes.
    pub drain: Option<DrainReport>,
}

/// A hold on every database, those included that no client has come to yet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StandingHold {
    /// Whom it is for; absent if it is for everybody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scope>,
    /// Whether it lets reads in: `read_only`, or `hold`.
    pub mode: ModeName,
    /// When it began.
    pub since: Timestamp,
    /// Its own end; `None` when that has passed, and it stays.
    pub until: Option<Timestamp>,
    /// What happens at that end.
    pub then: Then,
    /// What happens to transactions that may not start; in mode `read_only` those that write.
    pub blocked: Blocked,
    /// Who asked for it.
    pub by: String,
    /// Why.
    pub reason: String,
}

/// What a hold was before there was another kind.
fn hold() -> ModeName {
    ModeName::Hold
}

/// Body of `PUT /v1/databases/{db}/mode`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "mode", rename_all = "snake_case")]
pub enum ModeRequest {
    /// Hold and drain.
    Hold(HoldRequest),
    /// Let only transactions start that read, and drain the others.
    ReadOnly(ReadOnlyRequest),
    /// Let transactions start again.
    Open(OpenRequest),
}

impl ModeRequest {
    /// What whoever asks for it has to be allowed.
    #[must_use]
    pub fn needs(&self) -> Permission {
        match self {
            Self::Hold(_) | Self::ReadOnly(_) => Permission::Hold,
            Self::Open(_) => Permission::Open,
        }
    }
}

/// How to hold; what is left out is as configured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HoldRequest {
    /// Only for sessions of this user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Only for sessions that gave this `application_name` at login.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub application_name: Option<String>,
    /// Only for clients in this network, such as `10.0.0.0/8`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<IpNet>,
    /// The hold's own end, from now.
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    pub duration: Option<HumanDuration>,
    /// What happens at that end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub then: Option<Then>,
    /// What happens to transactions that may not start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocked: Option<Blocked>,
    /// The SQLSTATE that rejected transactions are told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sqlstate: Option<Sqlstate>,
    /// How far the drain goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ladder: Option<Preset>,
    /// For how long at most only transaction blocks are kept from starting, before all are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autocommit: Option<HumanDuration>,
    /// How long it waits for transactions to end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<HumanDuration>,
    /// How long it waits after cancelling statements.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel: Option<HumanDuration>,
    /// How long it waits after it freed conversations that are stuck.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stuck: Option<HumanDuration>,
    /// How long it waits after aborting idle transactions in place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub abort: Option<HumanDuration>,
    /// How long it waits after terminating sessions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terminate: Option<HumanDuration>,
    /// What is done about sessions that did not come through us, until the hold ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bypass: Option<Bypass>,
    /// Whether the server keeps new sessions out meanwhile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fence: Option<bool>,
    /// Why, for logs and for those who wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Who asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Whether to be content when the server cannot be asked if anything still runs.
    #[serde(default)]
    pub unproved: bool,
}

/// How to open.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpenRequest {
    /// Only for sessions of this user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Only for sessions that gave this `application_name` at login.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub application_name: Option<String>,
    /// Only for clients in this network, such as `10.0.0.0/8`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<IpNet>,
    /// Whether to open even against a window, and without the journal.
    #[serde(default)]
    pub force: bool,
    /// Why, for logs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Who asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

impl HoldRequest {
    /// Whom it is for.
    #[must_use]
    pub fn scope(&self) -> Scope {
        let Self {
            user,
            application_name,
            client,
            ..
        } = self.clone();
        Scope {
            user,
            application_name,
            client,
        }
    }
}

impl OpenRequest {
    /// Whose hold it ends.
    #[must_use]
    pub fn scope(&self) -> Scope {
        let Self {
            user,
            application_name,
            client,
            ..
        } = self.clone();
        Scope {
            user,
            application_name,
            client,
        }
    }
}

/// Answer of `PUT /v1/databases/{db}/mode`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModeResults {
    /// Names the mode that was made, as the `tag` of [`super::ModeStates`] does: the `ETag` of the answer.
    /// Absent where no mode was changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// What came of it in each database.
    pub results: Vec<ModeResult>,
}

/// What came of a mode request in one database.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModeResult {
    /// The database.
    pub database: String,
    /// Whom it was about; absent when it was about all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<Scope>,
    /// Its mode now; it stays held while another holder wants so.
    pub mode: ModeName,
    /// The number of the hold that was made or ended.
    pub generation: u64,
    /// How the drain goes.
    pub drain: Option<DrainReport>,
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn read(json: &str) -> Result<ModeRequest, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }

    #[test]
    fn a_mode_request_reads_as_documented() {
        let hold = read(
            r#"{"mode":"hold","for":"5m","then":"stay","blocked":"reject","ladder":"firm","by":"me"}"#,
        );
        let expected = HoldRequest {
            duration: Some(HumanDuration(Duration::from_secs(300))),
            then: Some(Then::Stay),
            blocked: Some(Blocked::Reject),
            ladder: Some(Preset::Firm),
            by: Some("me".to_owned()),
            ..HoldRequest::default()
        };
        assert_eq!(hold, Ok(ModeRequest::Hold(expected.clone())));
        assert_eq!(
            read(r#"{"mode":"open"}"#),
            Ok(ModeRequest::Open(OpenRequest::default()))
        );
        let forced = OpenRequest {
            force: true,
            ..OpenRequest::default()
        };
        assert_eq!(
            read(r#"{"force":true,"mode":"open"}"#),
            Ok(ModeRequest::Open(forced))
        );

        let reads = ReadOnlyRequest {
            duration: Some(HumanDuration(Duration::from_secs(600))),
            writes: Some(Blocked::Reject),
            ..ReadOnlyRequest::default()
        };
        assert_eq!(
            read(r#"{"mode":"read_only","writes":"reject","for":"10m"}"#),
            Ok(ModeRequest::ReadOnly(reads))
        );

        let written = serde_json::to_string(&ModeRequest::Hold(expected.clone())).expect("JSON");
        assert_eq!(read(&written), Ok(ModeRequest::Hold(expected)));
    }

    #[test]
    fn what_is_misspelt_is_refused() {
        for (json, message) in [
            (r#"{"mode":"hold","fro":"5m"}"#, "unknown field `fro`"),
            (r#"{"mode":"open","for":"5m"}"#, "unknown field `for`"),
            (r#"{"mode":"pause"}"#, "unknown variant `pause`"),
            (r#"{"for":"5m"}"#, "missing field `mode`"),
            (r#"{"mode":"hold","for":"5"}"#, "is not a duration"),
            (
                r#"{"mode":"hold","writes":"queue"}"#,
                "unknown field `writes`",
            ),
            (
                r#"{"mode":"read_only","blocked":"queue"}"#,
                "unknown field `blocked`",
            ),
            (
                r#"{"mode":"read_only","autocommit":"5s"}"#,
                "unknown field `autocommit`",
            ),
            (
                r#"{"mode":"read_only","fence":true}"#,
                "unknown field `fence`",
            ),
            (
                r#"{"mode":"read_only","writes":"drop"}"#,
                "expected `queue` or `reject`",
            ),
        ] {
            let error = read(json).expect_err(json);
            assert!(error.contains(message), "{error}");
        }
    }
}
