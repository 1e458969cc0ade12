//! The admin HTTP: what operators and the command line ask of a running pgdrain.
//!
//! [`serve`] answers on a listener; what it needs of the rest of the program is [`Api`].

mod access;
mod api;
mod dashboard;
mod http;
mod router;
mod routes;
pub mod sse;
#[cfg(test)]
mod tests;
pub mod types;

pub use api::{Answer, Api, ApiError, Caller, Databases};
pub use http::serve;
