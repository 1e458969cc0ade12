//! What the demo is played on: a cluster and a proxy before it, in one directory.

use std::path::PathBuf;

use anyhow::Context;
use tokio_postgres::{Client, NoTls};

use super::Demo;
use super::cluster::{Cluster, Options};
use super::proxy::Proxy;
use super::scene;

/// Connections beside those of the clients: our own, the proxy's, and of whoever looks on.
const SPARE_CONNECTIONS: u32 = 30;

/// A running cluster with a proxy before it. Dropping it ends both and removes the directory.
pub(super) struct Stage {
    // Dropped in this order.
    proxy: Proxy,
    cluster: Cluster,
}

impl Stage {
    /// Starts both and makes an empty database.
    ///
    /// # Errors
    /// One of them did not start; the end of its log is part of the error.
    pub(super) async fn build(demo: &Demo) -> anyhow::Result<Self> {
        let options = Options {
            bin_dir: demo.pg_bin.clone(),
            settings: vec![
                (
                    "max_connections".to_owned(),
                    (demo.clients + SPARE_CONNECTIONS).to_string(),
                ),
                // Nothing here outlives the machine, and disks differ more than anything else.
                ("fsync".to_owned(), "off".to_owned()),
            ],
            ..Options::default()
        };
        let cluster = Cluster::create(options).await?;
        let proxy = Proxy::start(&cluster, &cluster.dir().join("pgdrain")).await?;
        let stage = Self { proxy, cluster };
        let create = format!("CREATE DATABASE {}", scene::DATABASE);
        stage
            .direct("postgres", async |client| {
                Ok(client.batch_execute(&create).await?)
            })
            .await?;
        Ok(stage)
    }

    /// The proxy.
    pub(super) fn proxy(&self) -> &Proxy {
        &self.proxy
    }

    /// Where the migration files lie.
    pub(super) fn migrations(&self) -> PathBuf {
        self.cluster.dir().join("migrations")
    }

    /// Works on a connection that does not go through the proxy.
    ///
    /// # Errors
    /// Those of connecting, and of the work.
    pub(super) async fn direct<T>(
        &self,
        database: &str,
        work: impl AsyncFnOnce(&Client) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let (client, connection) = tokio_postgres::connect(&self.cluster.url(database), NoTls)
            .await
            .context("connecting to the cluster")?;
        let work = async move {
            let result = work(&client).await;
            // This ends the connection.
            drop(client);
            result
        };
        let (result, _ended) = tokio::join!(work, connection);
        result
    }

    /// Where everything is, for whoever wants to look.
    pub(super) fn addresses(&self) -> String {
        let database = scene::DATABASE;
        format!(
            "  applications  {}\n  beside them   {}\n  admin         {}\n  directory     {}",
            self.proxy.url(database),
            self.cluster.url(database),
            self.proxy.admin(),
            self.cluster.dir().display()
        )
    }

    /// Ends both in good order and removes the directory.
    ///
    /// # Errors
    /// The proxy did not end well; then it is killed.
    pub(super) async fn strike(mut self) -> anyhow::Result<()> {
        self.proxy.stop().await
    }

    /// Leaves both running; says how to ask and how to end them.
    pub(super) fn keep(self) -> String {
        let addresses = self.addresses();
        let admin = self.proxy.admin().to_owned();
        let pids = [self.proxy.pid(), self.cluster.pid()];
        let [proxy, postmaster] = pids.map(|pid| pid.map_or_else(String::new, |it| it.to_string()));
        self.proxy.keep();
        let directory = self.cluster.keep();
        // SIGINT is a fast shutdown, which does not wait for whoever is connected.
        let directory = directory.display();
        format!(
            "Left running:\n{addresses}\n\
             This asks it:\n  PGDRAIN_ADMIN={admin} {} status\n\
             This ends it:\n  kill {proxy}; kill -INT {postmaster}; \
             tail --pid {proxy} -f /dev/null; tail --pid {postmaster} -f /dev/null; rm -rf {directory}",
            program()
        )
    }
}

/// How this program can be called.
fn program() -> String {
    std::env::current_exe().map_or_else(
        |_| env!("CARGO_PKG_NAME").to_owned(),
        |path| path.display().to_string(),
    )
}
