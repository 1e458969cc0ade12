//! What a person types: each subcommand, and how its answer is shown.

pub mod demo;
