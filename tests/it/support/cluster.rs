//! A Postgres of the test's own, copied from a template and gone when the test ends.

use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};

use pgdrain::cli::demo::cluster::{Cluster, Options};
use tokio::task::JoinSet;
use tokio_postgres::{Client, NoTls};

/// Faster, and still correct when its processes are killed: only a crash of the machine would lose
/// something. Nothing runs by itself in the background.
const SETTINGS: [(&str, &str); 8] = [
    ("fsync", "off"),
    ("full_page_writes", "off"),
    ("autovacuum", "off"),
    ("jit", "off"),
    ("shared_buffers", "16MB"),
    ("max_connections", "250"),
    ("max_prepared_transactions", "10"),
    ("superuser_reserved_connections", "10"),
];

/// A running cluster; see [`Cluster`] for stopping, crashing and restarting it.
pub(crate) struct Postgres {
    cluster: Cluster,
    // Dropped with the cluster, so that no connection outlives the test.
    connections: JoinSet<()>,
}

impl Postgres {
    /// A cluster with `trust` for everybody.
    pub(crate) async fn start() -> Self {
        Self::start_with(&[], &[]).await
    }

    /// A cluster with more settings, and with lines of `pg_hba.conf` unless there are none.
    pub(crate) async fn start_with(settings: &[(&str, &str)], pg_hba: &[&str]) -> Self {
        Self::made_by(None, settings, pg_hba).await
    }

    async fn made_by(bin_dir: Option<PathBuf>, settings: &[(&str, &str)], pg_hba: &[&str]) -> Self {
        let settings = SETTINGS.iter().chain(settings);
        let options = Options {
            settings: settings
                .map(|(name, value)| (name.to_string(), value.to_string()))
                .collect(),
            pg_hba: pg_hba.iter().map(ToString::to_string).collect(),
            bin_dir,
        };
        let templates = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let cluster = Cluster::from_template(options, templates)
            .await
            .expect("a cluster");
        Self {
            cluster,
            connections: JoinSet::new(),
        }
    }

    /// A cluster of another version, `None` (and said so) where `make versions` has put none.
    #[expect(clippy::print_stdout, reason = "a skipped version is said, not hidden")]
    pub(crate) async fn of_version(version: &str, settings: &[(&str, &str)]) -> Option<Self> {
        let home = std::env::var_os("PGDRAIN_POSTGRES_DIR");
        let home = home.map_or_else(|| "/var/tmp/pgdrain-postgres".into(), PathBuf::from);
        let bin_dir = home.join(version).join("bin");
        if !bin_dir.join("initdb").exists() {
            println!("skipped: there is no Postgres {version} in {home:?}");
            return None;
        }
        Some(Self::made_by(Some(bin_dir), settings, &[]).await)
    }

    /// A connection of the superuser, direct and not through any proxy.
    pub(crate) async fn connect(&mut self, database: &str) -> Client {
        let url = self.cluster.url(database);
        let (client, connection) = tokio_postgres::connect(&url, NoTls)
            .await
            .expect("a direct connection");
        self.connections.spawn(async move {
            // Its end is seen by the client that it belongs to.
            drop(connection.await);
        });
        client
    }

    /// The cluster without the conveniences.
    pub(crate) fn into_cluster(self) -> Cluster {
        self.cluster
    }

    /// Runs statements as the superuser in the database `postgres`.
    pub(crate) async fn execute(&mut self, sql: &str) {
        let client = self.connect("postgres").await;
        client
            .batch_execute(sql)
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }
}

impl Deref for Postgres {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        &self.cluster
    }
}

impl DerefMut for Postgres {
    fn deref_mut(&mut self) -> &mut Cluster {
        &mut self.cluster
    }
}
