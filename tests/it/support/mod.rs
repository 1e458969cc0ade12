//! What the tests share: a real Postgres, the real binary, raw and scripted peers.

pub(crate) mod cluster;
pub(crate) mod poll;
