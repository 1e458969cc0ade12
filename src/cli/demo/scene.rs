//! What the demo plays with: a shop's tables, and the migration that changes them.

use std::fs;
use std::path::Path;

use anyhow::Context;
use tokio_postgres::Client;

/// The database that the clients work in.
pub(super) const DATABASE: &str = "shop";

/// What each account starts with. Transfers move money and make none.
pub(super) const BALANCE: i64 = 1000;

/// The migration, in golang-migrate's manner. `examples` has it to be read; the binary carries it,
/// so that it needs no checkout to run.
const FILES: [(&str, &str); 6] = {
    macro_rules! files {
        ($($name:literal),*) => {
            [$(($name, include_str!(concat!("../../../examples/demo/migrations/", $name)))),*]
        };
    }
    files![
        "001_widen_balance.up.sql",
        "001_widen_balance.down.sql",
        "002_find_by_owner.up.sql",
        "002_find_by_owner.down.sql",
        "003_add_currency.up.sql",
        "003_add_currency.down.sql"
    ]
};

/// Writes the migration files into a directory that is not there yet.
///
/// # Errors
/// The directory cannot be written.
pub(super) fn write_migrations(directory: &Path) -> anyhow::Result<()> {
    let write = || {
        fs::create_dir(directory)?;
        for (name, sql) in FILES {
            fs::write(directory.join(name), sql)?;
        }
        Ok::<_, std::io::Error>(())
    };
    write().with_context(|| format!("writing migrations to {}", directory.display()))
}

/// Makes the tables, with so many accounts.
///
/// # Errors
/// The server refused a statement.
pub(super) async fn set(client: &Client, rows: u32) -> Result<(), tokio_postgres::Error> {
    // The ledger has no unique key: a write that came twice has to be seen, not refused. Accounts
    // have some weight, so that the rewrite takes as long as to be felt.
    let tables = format!(
        "CREATE TABLE accounts (
             id integer PRIMARY KEY,
             owner text NOT NULL,
             balance integer NOT NULL,
             details text NOT NULL
         );
         CREATE TABLE ledger (
             id bigint NOT NULL,
             account integer NOT NULL,
             amount integer NOT NULL,
             written_at timestamptz NOT NULL DEFAULT now()
         );
         INSERT INTO accounts
             SELECT n, 'owner ' || n % 5000, {BALANCE}, repeat(md5(n::text), 16)
             FROM generate_series(1, {rows}) AS n"
    );
    client.batch_execute(&tables).await?;
    // As a table that has been there for long; otherwise autovacuum comes in the middle.
    client.batch_execute("VACUUM (ANALYZE) accounts").await
}

/// What is in the database when all is over.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The ids of the ledger, each with how often it is there.
    pub(super) ledger: Vec<(i64, i64)>,
    /// The sum of all balances.
    pub(super) money: i64,
    /// What of the migration is not there.
    pub(super) missing: Vec<&'static str>,
}

/// Counts what there is.
///
/// # Errors
/// The server refused a question.
pub(super) async fn count(client: &Client) -> Result<Found, tokio_postgres::Error> {
    let ledger = client.query("SELECT id, count(*) FROM ledger GROUP BY id", &[]);
    let ledger = ledger.await?;
    let money = client.query_one("SELECT sum(balance)::bigint FROM accounts", &[]);
    let money = money.await?;
    Ok(Found {
        ledger: ledger.iter().map(|row| (row.get(0), row.get(1))).collect(),
        money: money.get(0),
        missing: missing(client).await?,
    })
}

async fn missing(client: &Client) -> Result<Vec<&'static str>, tokio_postgres::Error> {
    let parts = [
        (
            "the wider column",
            "SELECT EXISTS (SELECT FROM pg_attribute WHERE attrelid = 'accounts'::regclass
                            AND attname = 'balance' AND atttypid = 'bigint'::regtype)",
        ),
        (
            "the index",
            "SELECT EXISTS (SELECT FROM pg_index WHERE indrelid = 'accounts'::regclass
                            AND indexrelid = to_regclass('accounts_owner_idx') AND indisvalid)",
        ),
        (
            "the new column",
            "SELECT EXISTS (SELECT FROM pg_attribute WHERE attrelid = 'accounts'::regclass
                            AND attname = 'currency' AND attnotnull)",
        ),
    ];
    let mut missing = Vec::new();
    for (part, question) in parts {
        if !client.query_one(question, &[]).await?.get::<_, bool>(0) {
            missing.push(part);
        }
    }
    Ok(missing)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runner::source::{self, Format};

    #[test]
    fn the_files_are_a_set_of_migrations_with_a_way_back() {
        let directory = tempfile::tempdir().expect("a directory");
        let directory = directory.path().join("migrations");
        write_migrations(&directory).expect("writable");
        let files = source::read_directory(&directory, None).expect("sound files");
        assert_eq!(files.len(), FILES.len());
        let set = Format::GolangMigrate.collect(&files).expect("a set");
        assert_eq!(set.len(), 3);
        assert!(set.iter().all(|migration| migration.down.is_some()));
    }
}
