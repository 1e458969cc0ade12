//! Arguments that several commands share.

use std::fmt::Debug;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::Context;
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use ipnet::IpNet;

use super::client::{ADMIN_DEFAULT, Client};
use super::output::Format;
use crate::config::{Bypass, HumanDuration, Preset, Secret};

/// Which pgdrain is asked, and how its answer is printed.
#[derive(Args, Clone, Debug)]
pub(super) struct Asking {
    /// Where the running pgdrain is asked.
    #[arg(long, value_name = "URL", env = "PGDRAIN_ADMIN", default_value = ADMIN_DEFAULT)]
    admin: String,
    /// A file with the token to show, instead of PGDRAIN_TOKEN.
    #[arg(long, value_name = "FILE", env = "PGDRAIN_TOKEN_FILE")]
    token_file: Option<PathBuf>,
    /// Who signs for the certificate of an https:// URL, instead of the system's authorities.
    #[arg(long, value_name = "FILE", env = "PGDRAIN_CA_FILE")]
    ca_file: Option<PathBuf>,
    /// A certificate that says who asks at an https:// URL, instead of a token.
    #[arg(
        long = "cert",
        value_name = "FILE",
        env = "PGDRAIN_CERT_FILE",
        requires = "key_file"
    )]
    cert_file: Option<PathBuf>,
    /// Its private key, which nobody else may be able to read.
    #[arg(
        long = "key",
        value_name = "FILE",
        env = "PGDRAIN_KEY_FILE",
        requires = "cert_file"
    )]
    key_file: Option<PathBuf>,
    /// Print JSON instead of text.
    #[arg(long)]
    json: bool,
}

impl Asking {
    pub(super) fn client(&self) -> anyhow::Result<Client> {
        let client = Client::new(&self.admin)?.trusting(self.ca_file.as_deref());
        let pair = self.cert_file.clone().zip(self.key_file.clone());
        Ok(client.showing(self.token()?).proving(pair))
    }

    /// No argument of ours, since arguments are for everybody on this machine to see.
    fn token(&self) -> anyhow::Result<Option<Secret>> {
        if let Some(path) = &self.token_file {
            let token = Secret::read(path);
            return token
                .map(Some)
                .with_context(|| format!("--token-file {}", path.display()));
        }
        let token = std::env::var("PGDRAIN_TOKEN").ok();
        Ok(token.filter(|it| !it.is_empty()).map(Secret::from))
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
