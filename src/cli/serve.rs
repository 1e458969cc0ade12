//! `pgdrain serve`: reads the configuration, starts the log and the runtime, and runs.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Args;

use super::Exit;
use crate::app;
use crate::client::inherited::Inherited;
use crate::config::{HumanDuration, LogFormat, Secret, Source, Surroundings};
use crate::logging::{self, Format};
use crate::tasks::workers::Workers;

/// Carry traffic between clients and Postgres
///
/// Flags go over environment variables (PGDRAIN_LISTEN, PGDRAIN_HOLD_FOR, ...), and these over the
/// file. SIGTERM ends gracefully, SIGHUP reads the configuration anew, SIGUSR2 opens every database.
///
/// Only --upstream has to be said. `pgdrain config check` names what is wrong with a configuration,
/// `pgdrain config show` has every setting of the one that runs. Without a token, commands on this machine may
/// look, hold and open; for migrations make one (`pgdrain config token`), or let all of this machine
/// (PGDRAIN_ADMIN_LOCAL=look,hold,open,migrate).
#[derive(Args, Debug)]
pub(super) struct Serve {
    /// The configuration file.
    #[arg(long, value_name = "FILE", env = "PGDRAIN_CONFIG")]
    config: Option<PathBuf>,
    /// Where clients connect: IP:PORT or unix:/DIRECTORY; may be repeated. 127.0.0.1:6432 if it is
    /// said nowhere.
    #[arg(long, value_name = "ADDR")]
    listen: Vec<String>,
    /// Where Postgres is: postgres://USER@HOST:PORT (passwords belong into PGPASSFILE).
    #[arg(long, value_name = "URL")]
    upstream: Option<Secret>,
    /// Where the admin HTTP listens, which the other commands ask: IP:PORT or unix:/PATH; may be
    /// repeated. 127.0.0.1:6433 if it is said nowhere.
    #[arg(long, value_name = "ADDR")]
    admin: Vec<String>,
    /// The directory of journal and reports.
    #[arg(long, value_name = "DIR")]
    state_dir: Option<String>,
    /// Take the listening sockets over from the process that serves with this state directory, which
    /// then serves its sessions until they end. If nobody serves there, begin as usual.
    #[arg(long)]
    take_over: bool,
    /// How long that process may go on; what is left then is ended as by SIGTERM. As long as it
    /// takes, if this is not said.
    #[arg(long, value_name = "TIME", requires = "take_over")]
    old_for: Option<HumanDuration>,
}

/// How long a thread may take to drop what its sessions have left.
const END_TIME: Duration = Duration::from_secs(5);

/// Waits until what is left of the sessions is dropped, unless something still holds on to the workers.
fn end(workers: Arc<Workers>) {
    let ended = Arc::into_inner(workers).is_none_or(|workers| workers.stop(END_TIME));
    if !ended {
        tracing::error!("a worker thread does not end");
    }
}

impl Serve {
    pub(super) fn run(self) -> anyhow::Result<Exit> {
        let start = app::Start {
            // Before there are threads.
            sockets: Inherited::from_systemd().context("sockets passed by systemd")?,
            take_over: self.take_over,
            old_for: self.old_for.map(Duration::from),
        };
        let source = self.source();
        let loaded = source.load(&Surroundings::of_process())?;
        let config = loaded.config;
        let format = match config.log.format {
            LogFormat::Text => Format::Text,
            LogFormat::Json => Format::Json,
        };
        let logging = logging::install(format, config.log.level.into())?;
        for warning in loaded.warnings {
            tracing::warn!("{warning}");
        }
        let workers = Workers::start(config.workers);
        let workers = Arc::new(workers.context("a worker thread cannot be started")?);
        // All but the sessions: it has little to do, and one thread for it.
        let served = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .context("the runtime cannot be started")?
            .block_on(app::run(
                config,
                source,
                logging,
                start,
                Arc::clone(&workers),
            ));
        end(workers);
        served?;
        Ok(Exit::SUCCESS)
    }

    fn source(self) -> Source {
        let listen = (!self.listen.is_empty()).then(|| self.listen.join(","));
        let admin = (!self.admin.is_empty()).then(|| self.admin.join(","));
        let flags = [
            ("--listen", "listen", listen.map(Secret::from)),
            ("--upstream", "upstream.url", self.upstream),
            ("--admin", "admin.listen", admin.map(Secret::from)),
            ("--state-dir", "state_dir", self.state_dir.map(Secret::from)),
        ];
        flags.into_iter().fold(
            Source::new(self.config),
            |source, (flag, key, value)| match value {
                Some(value) => source.flag(flag, key, value),
                None => source,
            },
        )
    }
}
