//! `pgdrain demo`: the main job, done for real on a Postgres that is thrown away afterwards.

pub mod cluster;
