//! `pgdrain demo`: the main job, done for real on a Postgres that is thrown away afterwards.
//!
//! ```text
//! cluster ─ proxy ─ load ─┬─ traffic ─ migration in a window ─ traffic ─┬─ counting ─ table
//!   stage.rs     load.rs  └── live.rs shows, work.rs asks, tally.rs ────┘  scene.rs   table.rs
//! ```

pub mod cluster;
mod course;
mod live;
mod load;
mod proxy;
mod run;
mod scene;
mod stage;
mod table;
mod tally;
mod work;

use std::path::PathBuf;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::exit::Exit;
use super::output::note;

/// See it work: migrate a throw-away Postgres under load, and count what its clients saw
///
/// Starts a Postgres of its own, pgdrain in front of it, and 32 clients that read and write all the
/// time; then applies a migration that needs the database for itself. Ends with 0 when no client
/// saw an error and every acknowledged write is there once, and leaves nothing behind.
#[derive(Args, Debug)]
pub(super) struct Demo {
    /// Where `postgres` and `initdb` are; otherwise PG_BIN, Debian's newest, then PATH.
    #[arg(long, value_name = "DIR")]
    pg_bin: Option<PathBuf>,
    /// Leave Postgres and pgdrain running, and print how to reach and to end them.
    #[arg(long)]
    keep: bool,
    /// How many accounts the table holds.
    #[arg(long, hide = true, default_value_t = 200_000, value_parser = clap::value_parser!(u32).range(100..=10_000_000))]
    rows: u32,
    /// How many clients work.
    #[arg(long, hide = true, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=1000))]
    clients: u32,
    /// How long they work before the migration, and after it.
    #[arg(long, hide = true, default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..=3600))]
    seconds: u32,
}

impl Demo {
    pub(super) async fn run(self) -> anyhow::Result<Exit> {
        let mut interrupted = signal(SignalKind::interrupt())?;
        let mut terminated = signal(SignalKind::terminate())?;
        let stopped = tokio::select! {
            ended = run::run(&self) => return ended,
            _ = interrupted.recv() => Exit::INTERRUPTED,
            _ = terminated.recv() => Exit::TERMINATED,
        };
        // The guards of what was running have done it by now.
        note("stopped: what was started has ended, and its directory is gone");
        Ok(stopped)
    }
}
