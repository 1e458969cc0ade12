//! Bytes and messages of the Postgres protocol: no sockets, no clock.
//!
//! Lengths and contents come from strangers. Nothing here allocates on a declared length, decodes
//! a message it does not need, or reads past the frame it was given.

pub mod asked;
pub mod backend;
pub mod frame;
pub mod frontend;
pub mod proxy_header;
pub mod refusal;
pub mod rows;
pub mod sqlstate;
pub mod startup;
pub mod window_key;
