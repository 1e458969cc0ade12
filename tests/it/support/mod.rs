//! What the tests share: a real Postgres, the real binary, raw and scripted peers.

pub(crate) mod admin;
pub(crate) mod alike;
pub(crate) mod auth;
pub(crate) mod backups;
pub(crate) mod certificates;
pub(crate) mod cluster;
pub(crate) mod fake_postgres;
pub(crate) mod following;
pub(crate) mod holds;
pub(crate) mod load;
pub(crate) mod message;
pub(crate) mod migrations;
pub(crate) mod poll;
pub(crate) mod pooler;
pub(crate) mod preflight;
pub(crate) mod proxy;
pub(crate) mod reading;
pub(crate) mod schema;
pub(crate) mod script;
pub(crate) mod shop;
pub(crate) mod standby;
pub(crate) mod tap;
pub(crate) mod tool;
pub(crate) mod windows;
pub(crate) mod wire;
