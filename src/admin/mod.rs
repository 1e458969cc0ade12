//! The admin HTTP: what operators and the command line ask of a running pgdrain.
//!
//! [`serve`] answers on a listener; what it needs of the rest of the program is [`Api`].

mod access;
mod api;
mod caller;
mod dashboard;
mod http;
#[cfg(test)]
mod matrix;
mod replays;
mod router;
mod routes;
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
