//! Sockets to clients and servers, plain or encrypted.

pub mod stream;
pub mod tcp;
