//! `pgdrain config`: looks at a configuration without serving, and makes one of PgBouncer's.

use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Subcommand};

use super::exit::Exit;
use super::output::{line, note};
use super::token::NewToken;
use crate::config::{Source, Surroundings, pgbouncer};

/// Check a configuration, or make one from PgBouncer's
#[derive(Args, Debug)]
pub(super) struct Config {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Check(Check),
    Token(NewToken),
    FromPgbouncer(FromPgbouncer),
}

/// Read a configuration as `serve` and a reload would, with the variables of the environment, and name
/// everything that is wrong with its line and key
///
/// Ends with 0 if it can be used, with 5 if not.
#[derive(Args, Debug)]
struct Check {
    /// The configuration file.
    #[arg(long, value_name = "FILE", env = "PGDRAIN_CONFIG")]
    config: Option<PathBuf>,
}

/// Write a configuration that does what a pgbouncer.ini says
///
/// What has no counterpart stands at the end as comments, with what to do instead. Passwords are not
/// copied.
#[derive(Args, Debug)]
struct FromPgbouncer {
    /// The pgbouncer.ini.
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

impl Config {
    pub(super) fn run(self) -> anyhow::Result<Exit> {
        match self.command {
            Command::Check(check) => check.run(),
            Command::Token(token) => token.run(),
            Command::FromPgbouncer(translation) => translation.run(),
        }
    }
}

impl Check {
    fn run(self) -> anyhow::Result<Exit> {
        let loaded = Source::new(self.config).load(&Surroundings::of_process())?;
        for warning in loaded.warnings {
            note(&format!("warning: {warning}"));
        }
        line("the configuration can be used")?;
        Ok(Exit::SUCCESS)
    }
}

impl FromPgbouncer {
    fn run(self) -> anyhow::Result<Exit> {
        let named = || self.file.display().to_string();
        let text = std::fs::read_to_string(&self.file).with_context(named)?;
        line(pgbouncer::translate(&text).with_context(named)?.trim_end())?;
        Ok(Exit::SUCCESS)
    }
}
