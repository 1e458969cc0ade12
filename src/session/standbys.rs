//! Which standbys can be read from: asked every second, while their database wants to be read-only.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_postgres::Client;

use crate::config::{Config, Role, Shared, Target, Upstream};
use crate::gate::Gates;
use crate::server::driver::{NotOpen, open_as};
use crate::server::own::{OwnBackend, OwnBackends};
use crate::tasks::Tasks;

/// How often a standby is asked.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// How long an answer may take before the standby counts as unusable.
const ANSWER_TIME: Duration = Duration::from_secs(1);

/// What the server has written so far.
const WRITTEN: &str = "SELECT pg_catalog.pg_current_wal_lsn()::pg_catalog.text";

/// Whether the standby is one, whether it has replayed so much, and how old the last transaction is
/// that it has replayed, in seconds.
const REPLAYED: &str = "SELECT pg_catalog.pg_is_in_recovery(), \
    coalesce(pg_catalog.pg_last_wal_replay_lsn() >= $1::pg_catalog.text::pg_catalog.pg_lsn, false), \
    extract(epoch FROM pg_catalog.clock_timestamp() \
        - pg_catalog.pg_last_xact_replay_timestamp())::pg_catalog.float8";

/// The standbys of all databases.
#[derive(Debug)]
pub struct Standbys {
    usable: Mutex<BTreeMap<String, Arc<AtomicBool>>>,
    own: OwnBackends,
    tasks: Tasks,
}

/// Connections to ask by.
struct Asked {
    upstreams: (Upstream, Upstream),
    server: Client,
    standby: Client,
    /// The server's backend is no session that did not come through us.
    _own: OwnBackend,
}

/// Why a standby cannot be used.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error(transparent)]
    NotOpen(#[from] NotOpen),
    #[error("it gave no answer")]
    Postgres(#[from] tokio_postgres::Error),
    #[error("it gave no answer within {ANSWER_TIME:?}")]
    Timeout,
    #[error("no user is configured to ask it ([control] user, or one in its URL)")]
    NoRole,
    #[error("it is no standby")]
    NoStandby,
    #[error("how far it is behind is not known")]
    LagUnknown,
    #[error("it is {0:.1} s behind")]
    Lags(f64),
}

impl Standbys {
    /// None can be used yet.
    #[must_use]
    pub fn new(own: OwnBackends, tasks: Tasks) -> Standbys {
        Standbys {
            usable: Mutex::default(),
            own,
            tasks,
        }
    }

    /// Whether the standby of this database can be used: kept current.
    #[must_use]
    pub(super) fn usable(&self, database: &str) -> Arc<AtomicBool> {
        let mut all = self.usable.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(all.entry(database.to_owned()).or_default())
    }

    /// Asks standbys for ever.
    pub async fn watch(&self, config: &Shared, gates: &Gates) {
        let mut ticks = interval(ASK_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut kept: BTreeMap<String, Asked> = BTreeMap::new();
        loop {
            ticks.tick().await;
            let config = config.load();
            kept.retain(|name, _| config.databases.contains_key(name));
            for name in config.databases.keys() {
                self.look(&config, name, gates, &mut kept).await;
            }
        }
    }

    async fn look(
        &self,
        config: &Config,
        name: &str,
        gates: &Gates,
        kept: &mut BTreeMap<String, Asked>,
    ) {
        let usable = self.usable(name);
        let narrow = gates.narrow(name).into_iter();
        let wants = narrow
            .chain(gates.find(name))
            .any(|gate| gate.wants_read_only());
        if !wants || config.read_target(name).is_none() {
            usable.store(false, Ordering::Release);
            kept.remove(name);
            return;
        }
        let asked = timeout(ANSWER_TIME, self.ask(config, name, kept.remove(name))).await;
        let now = match asked.unwrap_or(Err(Unusable::Timeout)) {
            Ok(asked) => {
                kept.insert(name.to_owned(), asked);
                true
            }
            Err(why) => {
                let why = &why as &dyn std::error::Error;
                tracing::debug!(database = name, why, "its standby is not used");
                false
            }
        };
        if usable.swap(now, Ordering::AcqRel) != now {
            tracing::info!(database = name, usable = now, "reads from its standby");
        }
    }

    /// Fails unless the standby is near enough.
    async fn ask(
        &self,
        config: &Config,
        name: &str,
        kept: Option<Asked>,
    ) -> Result<Asked, Unusable> {
        let (Some(here), Some((there, read))) = (config.target(name), config.read_target(name))
        else {
            return Err(Unusable::NoStandby);
        };
        let same = |asked: &Asked| {
            asked.upstreams.0 == here.upstream
                && asked.upstreams.1 == there.upstream
                && !asked.server.is_closed()
                && !asked.standby.is_closed()
        };
        let asked = match kept.filter(same) {
            Some(asked) => asked,
            None => self.open_both(here, there).await?,
        };
        let written: String = asked.server.query_one(WRITTEN, &[]).await?.try_get(0)?;
        let row = asked.standby.query_one(REPLAYED, &[&written]).await?;
        let (standby, replayed): (bool, bool) = (row.try_get(0)?, row.try_get(1)?);
        let age: Option<f64> = row.try_get(2)?;
        match age {
            _ if !standby => Err(Unusable::NoStandby),
            _ if replayed => Ok(asked),
            None => Err(Unusable::LagUnknown),
            Some(age) if age > read.lag_max.as_secs_f64() => Err(Unusable::Lags(age)),
            Some(_) => Ok(asked),
        }
    }

    async fn open_both(&self, here: Target, there: Target) -> Result<Asked, Unusable> {
        let server = open(&here.upstream, here.control.as_ref(), &self.tasks).await?;
        let pid = server
            .query_one("select pg_backend_pid()", &[])
            .await?
            .try_get(0)?;
        Ok(Asked {
            _own: self.own.insert(pid),
            server,
            standby: open(&there.upstream, there.control.as_ref(), &self.tasks).await?,
            upstreams: (here.upstream, there.upstream),
        })
    }
}

async fn open(upstream: &Upstream, role: Option<&Role>, tasks: &Tasks) -> Result<Client, Unusable> {
    let role = role.ok_or(Unusable::NoRole)?;
    Ok(open_as(upstream, role, "pgdrain standby", tasks).await?.0)
}
