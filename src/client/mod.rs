//! The client's side: sockets to listen on, and the first packets that come in.

pub mod admin;
pub mod arrival;
pub mod handshake;
pub mod inherited;
pub mod listener;
pub mod origin;
pub mod pace;
