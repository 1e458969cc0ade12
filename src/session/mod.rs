//! A client's life with its server connection: the relay between them, and what it knows.

pub mod scan;
pub mod transaction;
