//! How a client comes to be trusted: by the server, or by us.

pub mod passthrough;
pub mod scram;
