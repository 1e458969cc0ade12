//! The admin HTTP: what operators and the command line ask of a running pgdrain.

pub mod types;
