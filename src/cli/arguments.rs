//! Arguments that several commands share.

use std::fmt::Debug;
use std::os::unix::fs::MetadataExt;
use std::str::FromStr;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use ipnet::IpNet;

use super::client::{ADMIN_DEFAULT, Client, ClientError};
use super::output::Format;
use crate::config::{Bypass, HumanDuration, Preset};

/// Which pgdrain is asked, and how its answer is printed.
#[derive(Args, Clone, Debug)]
pub(super) struct Asking {
    /// Where the running pgdrain is asked.
    #[arg(long, value_name = "URL", env = "PGDRAIN_ADMIN", default_value = ADMIN_DEFAULT)]
    admin: String,
    /// Print JSON instead of text.
    #[arg(long)]
    json: bool,
}

impl Asking {
    pub(super) fn client(&self) -> Result<Client, ClientError> {
        Client::new(&self.admin)
    }

    pub(super) fn format(&self) -> Format {
        Format::new(self.json)
    }
}

/// Whom of a database it is about; all that is given has to fit, and nothing is everybody.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct ScopeArguments {
    /// Only sessions of this user.
    #[arg(long, value_name = "USER")]
    pub(super) user: Option<String>,
    /// Only sessions that gave this application_name at login.
    #[arg(long, value_name = "NAME")]
    pub(super) application: Option<String>,
    /// Only clients in this network, such as 10.0.0.0/8.
    #[arg(long, value_name = "CIDR")]
    pub(super) client: Option<IpNet>,
}

/// How a drain ends what still runs; what is left out is as configured.
#[derive(Args, Clone, Copy, Debug, Default)]
pub(super) struct LadderArguments {
    /// How far it goes: gentle waits, firm also cancels and aborts idle transactions, force also
    /// terminates.
    #[arg(long, value_name = "PRESET", value_parser = words::<Preset>(Preset::WORDS))]
    pub(super) ladder: Option<Preset>,
    /// For how long at most it first keeps only transaction blocks from starting, such as 5s, while
    /// single statements still pass; 0s holds all at once.
    #[arg(long, value_name = "TIME")]
    pub(super) autocommit: Option<HumanDuration>,
    /// How long it waits for transactions to end, such as 30s.
    #[arg(long, value_name = "TIME")]
    pub(super) wait: Option<HumanDuration>,
    /// How long it waits after cancelling statements.
    #[arg(long, value_name = "TIME")]
    pub(super) cancel: Option<HumanDuration>,
    /// How long it waits after it freed conversations that are stuck.
    #[arg(long, value_name = "TIME")]
    pub(super) stuck: Option<HumanDuration>,
    /// How long it waits after aborting idle transactions in place.
    #[arg(long, value_name = "TIME")]
    pub(super) abort: Option<HumanDuration>,
    /// How long it waits after terminating sessions.
    #[arg(long, value_name = "TIME")]
    pub(super) terminate: Option<HumanDuration>,
    /// What is done about sessions in the database that did not come through pgdrain and are in a
    /// transaction, at once and for as long as the hold lasts.
    #[arg(long, value_name = "WHAT", value_parser = words::<Bypass>(Bypass::WORDS))]
    pub(super) bypass: Option<Bypass>,
}

/// Reads one of a set of words; help and errors list them.
pub(super) fn words<T>(words: &'static [&'static str]) -> impl TypedValueParser<Value = T>
where
    T: FromStr<Err: Debug> + Clone + Send + Sync + 'static,
{
    PossibleValuesParser::new(words).map(|word| word.parse().expect("clap saw that it is one"))
}

/// Who asks, for logs and for those who wait.
pub(super) fn operator() -> String {
    ["USER", "LOGNAME"]
        .into_iter()
        .find_map(|name| std::env::var(name).ok().filter(|user| !user.is_empty()))
        .or_else(|| {
            Some(format!(
                "uid {}",
                std::fs::metadata("/proc/self").ok()?.uid()
            ))
        })
        .unwrap_or_else(|| "unknown".to_owned())
}
