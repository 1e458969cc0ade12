//! The configuration: read from flags, environment and file, checked whole, reloadable in part.
//!
//! A [`Config`] exists only if it is valid. [`Source`] reads one, [`Shared`] holds the one in use.

mod address;
mod bare;
mod file;
mod listen;
mod passfile;
mod problem;
mod quantity;
mod raw;
mod reload;
mod secret;
mod servers;
mod settings;
mod source;
mod surroundings;
#[cfg(test)]
mod tests;
mod tls;
mod upstream;
mod validate;
mod words;

pub use address::{AddressError, Host, LISTEN_PORT, ListenAddress, TcpAddress, UnixAddress};
pub use listen::Listen;
pub use problem::{ConfigError, Origin, Problem};
pub use quantity::{ByteSize, DurationOrNever, HumanDuration, QuantityError};
pub use reload::{Reloaded, Shared};
pub use secret::Secret;
pub use settings::{
    AskedLadder, Config, ControlRole, Database, Hold, Ladder, Limits, Log, MigrateRole, Passwords,
    Role, Target, Tls, Upstream,
};
pub use source::{Loaded, Source};
pub use surroundings::Surroundings;
pub use upstream::{UpstreamUrl, UrlError, parse as parse_url};
pub(crate) use words::words;
pub use words::{Blocked, ClientTls, LogFormat, LogLevel, Preset, Then, UnknownWord};
