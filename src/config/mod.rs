//! The configuration: read from flags, environment and file, checked whole, reloadable in part.
//!
//! A [`Config`] exists only if it is valid. [`Source`] reads one, [`Shared`] holds the one in use.

mod address;
mod admin;
mod approvals;
mod auth;
mod backup;
mod bare;
mod canary;
mod cap;
mod compare;
mod console;
mod copies;
mod demands;
#[cfg(test)]
mod documented;
mod expiry;
mod file;
mod hold;
mod hooks;
mod limits;
mod listen;
mod measures;
mod nearest;
mod passfile;
mod permission;
pub mod pgbouncer;
mod postflight;
mod preflight;
mod problem;
mod quantity;
mod raw;
mod read_only;
mod reload;
mod rules;
mod runs;
mod scope;
mod secret;
mod servers;
mod settings;
mod shown;
mod source;
mod stored;
mod surroundings;
#[cfg(test)]
mod tests;
mod tls;
mod token;
mod traces;
mod upstream;
mod users;
mod validate;
mod validation;
mod words;

pub use address::{AddressError, Host, LISTEN_PORT, ListenAddress, TcpAddress, UnixAddress};
pub use admin::{Admin, AdminAddress, ClientCertificate, Token};
pub use approvals::{Approvals, GateUse};
pub use canary::{Canary, OnCanaryFailure, typed_scope};
pub use cap::{AskedCap, BadCap};
pub use compare::{BatchLimits, Compare, CompareWhen};
pub use console::Console;
pub use copies::Copies;
pub use demands::{CheckCommand, Demands, Reference};
pub use expiry::{Ending, Expires, NoEnd};
pub use hooks::{Hook, HookPhase, Notify, NotifyForm, NotifyOf, NotifyTo};
pub use listen::Listen;
pub use measures::Measures;
pub use permission::{AdminRole, Permission};
pub use postflight::{Analyze, Fingerprints, Postflight, PostflightCheck, Reports};
pub use problem::{ConfigError, Origin, Problem};
pub use quantity::{ByteSize, CountOrNone, DurationOrNever, HumanDuration, QuantityError};
pub use reload::{Reloaded, Shared};
pub use rules::{CertificateName, CertificateUser, Names, Place, Rule};
pub use runs::{Trigger, TriggerAction, TriggerOn};
pub use scope::{Exempt, Scope, Who};
pub use secret::Secret;
pub use settings::{
    AskedLadder, Audit, Auth, AuthQuery, Backup, Config, ControlRole, Database, Hold, Ladder,
    Limits, Log, MigrateRole, Passwords, Preflight, ReadUpstream, Reopen, Retry, Role, RunLog,
    Target, Thresholds, Tls, Upstream,
};
pub use shown::{Shown, shown};
pub use source::{Loaded, Source};
pub use stored::{BadStored, ITERATIONS_MAX, Stored, Verifier};
pub use surroundings::Surroundings;
pub use token::{TokenHash, new_token};
pub use traces::Traces;
pub use upstream::{UpstreamUrl, UrlError, UrlTls, parse as parse_url};
pub use users::Users;
pub use validation::Validate;
pub(crate) use words::words;
pub use words::{
    AfterRestart, AuthMethod, Blocked, Bypass, ClientTls, CountRows, LogFormat, LogLevel, OnDrift,
    PreflightCheck, Preset, ReplicationHold, SaveObjects, Stateful, Then, UnknownWord, Verify,
    WhenFull,
};
