//! The admin HTTP: what operators and the command line ask of a running pgdrain.
//!
//! [`serve`] answers on a listener; what it needs of the rest of the program is [`Api`].

mod access;
mod api;
mod caller;
pub mod console;
mod dashboard;
mod failures;
mod http;
#[cfg(test)]
mod matrix;
mod patient;
mod replays;
mod router;
mod routes;
mod signed;
pub mod sse;
mod surface;
#[cfg(test)]
mod tests;
pub mod types;

pub use access::Access;
pub use api::{Answer, Api, ApiError, Databases};
pub use caller::Caller;
pub use http::serve;
pub use replays::Replays;
pub use surface::Surface;
