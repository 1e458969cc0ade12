//! What one application does all day: transactions that read and write, simple and prepared.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use tokio_postgres::{Client, SimpleQueryMessage, Statement};

use super::scene::BALANCE;
use super::tally::Transaction;

/// The kinds of transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A prepared SELECT.
    Read,
    /// The same by simple query, also of the column that the migration changes.
    SimpleRead,
    /// A prepared INSERT, which is a transaction of its own.
    Write,
    /// Prepared statements between BEGIN and COMMIT.
    Transfer,
    /// The same as one simple query of several statements.
    SimpleTransfer,
}

impl Kind {
    /// As many reads as writes.
    fn draw() -> Self {
        match rand::random_range(0..6) {
            0 | 1 => Self::Read,
            2 => Self::SimpleRead,
            3 => Self::Write,
            4 => Self::Transfer,
            _ => Self::SimpleTransfer,
        }
    }
}

/// One application with its connection.
pub(super) struct Worker {
    client: Client,
    find: Statement,
    add: Statement,
    note: Statement,
    accounts: i32,
    next_id: i64,
}

impl Worker {
    /// Prepares the statements. None of them selects a column that the migration changes: a
    /// prepared statement whose result changes is an error of its own ("cached plan must not change
    /// result type"), with any proxy and without one.
    ///
    /// # Errors
    /// The server refused one.
    pub(super) async fn new(client: Client, number: u32, accounts: i32) -> anyhow::Result<Self> {
        let find = client.prepare("SELECT id, owner FROM accounts WHERE id = $1");
        let find = find.await?;
        let add = client.prepare("UPDATE accounts SET balance = balance + $1 WHERE id = $2");
        let add = add.await?;
        let note = client.prepare("INSERT INTO ledger (id, account, amount) VALUES ($1, $2, $3)");
        let note = note.await?;
        Ok(Self {
            client,
            find,
            add,
            note,
            accounts,
            next_id: i64::from(number) << 32,
        })
    }

    /// Makes a transaction of any kind, and tells of the row that it wrote into the ledger.
    ///
    /// # Errors
    /// The server's, and an answer that belongs to another question.
    pub(super) async fn transact(&mut self) -> anyhow::Result<(Transaction, Option<i64>)> {
        match Kind::draw() {
            Kind::Read => self.read().await,
            Kind::SimpleRead => self.simple_read().await,
            Kind::Write => self.write().await,
            Kind::Transfer => self.transfer().await,
            Kind::SimpleTransfer => self.simple_transfer().await,
        }
    }

    /// Leaves a transaction that failed in the middle; whether there is still a connection.
    pub(super) async fn recover(&self) -> bool {
        self.client.batch_execute("ROLLBACK").await.is_ok()
    }

    async fn read(&self) -> anyhow::Result<(Transaction, Option<i64>)> {
        let asked = Instant::now();
        let account = self.any_account();
        let row = self.client.query_one(&self.find, &[&account]).await?;
        let found: i32 = row.try_get(0)?;
        ensure!(found == account, "asked for account {account}, got {found}");
        Ok((lone(asked), None))
    }

    async fn simple_read(&self) -> anyhow::Result<(Transaction, Option<i64>)> {
        let asked = Instant::now();
        let account = self.any_account();
        let query = format!("SELECT id, balance FROM accounts WHERE id = {account}");
        let messages = self.client.simple_query(&query).await?;
        let row = messages.iter().find_map(|message| {
            let SimpleQueryMessage::Row(row) = message else {
                return None;
            };
            Some(row)
        });
        let row = row.with_context(|| format!("account {account} is not there"))?;
        let found: i32 = row.try_get(0)?.context("an account without id")?.parse()?;
        ensure!(found == account, "asked for account {account}, got {found}");
        Ok((lone(asked), None))
    }

    async fn write(&mut self) -> anyhow::Result<(Transaction, Option<i64>)> {
        let asked = Instant::now();
        let id = self.take_id();
        let values: [&(dyn tokio_postgres::types::ToSql + Sync); 3] =
            [&id, &self.any_account(), &0_i32];
        let rows = self.client.execute(&self.note, &values).await?;
        ensure!(rows == 1, "{rows} rows inserted instead of one");
        Ok((lone(asked), Some(id)))
    }

    async fn transfer(&mut self) -> anyhow::Result<(Transaction, Option<i64>)> {
        let asked = Instant::now();
        let id = self.take_id();
        let (first, second, amount) = self.any_transfer();
        self.client.batch_execute("BEGIN").await?;
        let answered = Instant::now();
        self.change(first, -amount).await?;
        if rand::random_ratio(1, 8) {
            // An application that computes something meanwhile: a drain has to wait for it.
            tokio::time::sleep(Duration::from_millis(rand::random_range(5..50))).await;
        }
        self.change(second, amount).await?;
        self.client
            .execute(&self.note, &[&id, &first, &amount])
            .await?;
        self.client.batch_execute("COMMIT").await?;
        let transaction = Transaction {
            asked,
            answered,
            ended: Instant::now(),
        };
        Ok((transaction, Some(id)))
    }

    async fn change(&self, account: i32, amount: i32) -> anyhow::Result<()> {
        let rows = self.client.execute(&self.add, &[&amount, &account]).await?;
        ensure!(rows == 1, "{rows} rows updated instead of one");
        Ok(())
    }

    async fn simple_transfer(&mut self) -> anyhow::Result<(Transaction, Option<i64>)> {
        let asked = Instant::now();
        let id = self.take_id();
        let (first, second, amount) = self.any_transfer();
        let script = format!(
            "BEGIN;
             UPDATE accounts SET balance = balance - {amount} WHERE id = {first};
             UPDATE accounts SET balance = balance + {amount} WHERE id = {second};
             INSERT INTO ledger (id, account, amount) VALUES ({id}, {first}, {amount});
             COMMIT"
        );
        self.client.batch_execute(&script).await?;
        Ok((lone(asked), Some(id)))
    }

    fn any_account(&self) -> i32 {
        rand::random_range(1..=self.accounts)
    }

    /// Two accounts and what goes from the first to the second. They are in order, so that no two
    /// transfers wait for each other.
    fn any_transfer(&self) -> (i32, i32, i32) {
        let first = rand::random_range(1..self.accounts);
        let second = rand::random_range(first + 1..=self.accounts);
        let most = i32::try_from(BALANCE / 10).expect("balances are small");
        (first, second, rand::random_range(-most..=most))
    }

    /// Each id is used once, also when its transaction fails.
    fn take_id(&mut self) -> i64 {
        self.next_id += 1;
        self.next_id
    }
}

/// A transaction with a single answer, which has just come.
fn lone(asked: Instant) -> Transaction {
    let now = Instant::now();
    Transaction {
        asked,
        answered: now,
        ended: now,
    }
}
