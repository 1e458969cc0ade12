//! The client's side: sockets to listen on, and the first packets that come in.

pub mod arrival;
pub mod handshake;
pub mod listener;
pub mod origin;
