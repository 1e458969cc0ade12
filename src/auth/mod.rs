//! How a client comes to be trusted. For now there is one way: the server decides.

pub mod passthrough;
