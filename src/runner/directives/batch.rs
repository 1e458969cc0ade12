//! `-- pgdrain:batch table=orders size=10000 pause=100ms`: a statement over a table, piece by piece.

use std::fmt;
use std::time::Duration;

use super::fault::unknown;
use super::value::{column_name, predicate, table_name, timeout};
use crate::config::ByteSize;

/// The keys of a batch.
const KEYS: [&str; 11] = [
    "table",
    "size",
    "pause",
    "key",
    "by",
    "done",
    "vacuum",
    "max_lag",
    "max_lag_bytes",
    "max_blocked",
    "max_p99",
];

/// Rows that one transaction of a batch may have: beyond it, it is no batch any more.
const SIZE_MAX: u32 = 10_000_000;

/// How a statement is run over a table piece by piece.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The table, as SQL has it.
    pub table: String,
    /// Rows in one transaction.
    pub size: u32,
    /// How long nothing is done between two transactions.
    pub pause: Duration,
    /// What the table is cut by.
    pub by: By,
    /// A predicate that is true of the rows that are still to be done, as SQL has it.
    pub done: Option<String>,
    /// After how many batches the table is vacuumed each time; `None` is never.
    pub vacuum: Option<u32>,
    /// What the next batch waits for.
    pub limits: Limits,
}

/// What a table is cut by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum By {
    /// Its primary key, which has to be one column.
    PrimaryKey,
    /// A column with a unique index of its own, as SQL has it.
    Column(String),
    /// The place of its rows on disk.
    Ctid,
}

/// What is more than this keeps the next batch waiting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How far a standby may be behind in replay, in time.
    pub lag: Duration,
    /// How far a standby may be behind in replay, in bytes of WAL.
    pub lag_bytes: u64,
    /// How many other sessions of the database may wait for a lock.
    pub blocked: u32,
    /// Above which 99th percentile of what clients feel pauses grow; `None` is as configured.
    pub p99: Option<Duration>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            lag: Duration::from_secs(10),
            lag_bytes: 256 << 20,
            blocked: 5,
            p99: None,
        }
    }
}

impl fmt::Display for Batch {
    /// `batches of 1000 rows of orders, by its primary key, 100ms apart`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { size, table, .. } = self;
        write!(f, "batches of {size} rows of {table}, ")?;
        match &self.by {
            By::PrimaryKey => f.write_str("by its primary key")?,
            By::Column(column) => write!(f, "by {column}")?,
            By::Ctid => f.write_str("by blocks")?,
        }
        if !self.pause.is_zero() {
            write!(f, ", {} apart", humantime::format_duration(self.pause))?;
        }
        if let Some(batches) = self.vacuum {
            write!(f, ", VACUUM after every {batches}")?;
        }
        Ok(())
    }
}

impl Batch {
    pub(super) fn read(value: &str) -> Result<Self, String> {
        let mut given = Given::default();
        for word in words(value)? {
            let (key, value) = word
                .split_once('=')
                .ok_or_else(|| format!("{word:?} is no KEY=VALUE of {}", KEYS.join(", ")))?;
            if given.take(key, value)? {
                return Err(format!("{key} is given twice"));
            }
        }
        given.batch()
    }
}

/// What was read so far.
#[derive(Default)]
struct Given {
    table: Option<String>,
    size: Option<u32>,
    pause: Option<Duration>,
    key: Option<String>,
    ctid: Option<()>,
    done: Option<String>,
    vacuum: Option<u32>,
    lag: Option<Duration>,
    lag_bytes: Option<u64>,
    blocked: Option<u32>,
    p99: Option<Duration>,
}

impl Given {
    /// Takes a value; tells whether there was one already.
    fn take(&mut self, key: &str, value: &str) -> Result<bool, String> {
        Ok(match key {
            "table" => self.table.replace(table_name(value)?).is_some(),
            "size" => self.size.replace(rows(value)?).is_some(),
            "pause" => self.pause.replace(timeout(value)?).is_some(),
            "key" => self.key.replace(column_name(value)?).is_some(),
            "by" if value == "ctid" => self.ctid.replace(()).is_some(),
            "by" => return Err(format!("{value:?} is not one of ctid")),
            "done" => self.done.replace(predicate(value)?).is_some(),
            "vacuum" => self.vacuum.replace(batches(value)?).is_some(),
            "max_lag" => self.lag.replace(timeout(value)?).is_some(),
            "max_lag_bytes" => self.lag_bytes.replace(bytes(value)?).is_some(),
            "max_p99" => self.p99.replace(limit(value)?).is_some(),
            "max_blocked" => self.blocked.replace(sessions(value)?).is_some(),
            other => return Err(unknown(other, &KEYS)),
        })
    }

    fn batch(self) -> Result<Batch, String> {
        let by = match (self.key, self.ctid) {
            (Some(_), Some(())) => return Err("key and by exclude each other".to_owned()),
            (Some(column), None) => By::Column(column),
            (None, Some(())) => By::Ctid,
            (None, None) => By::PrimaryKey,
        };
        if by == By::Ctid && self.done.is_none() {
            let why = "by=ctid needs done=\"...\", true of the rows that are still to be done: \
                       rows change their place while others write, and must not be taken twice";
            return Err(why.to_owned());
        }
        let usual = Limits::default();
        Ok(Batch {
            table: self.table.ok_or("table=NAME is missing")?,
            size: self.size.ok_or("size=ROWS is missing")?,
            pause: self.pause.unwrap_or_default(),
            by,
            done: self.done,
            vacuum: self.vacuum,
            limits: Limits {
                lag: self.lag.unwrap_or(usual.lag),
                lag_bytes: self.lag_bytes.unwrap_or(usual.lag_bytes),
                blocked: self.blocked.unwrap_or(usual.blocked),
                p99: self.p99,
            },
        })
    }
}

/// Words between blanks; blanks inside double quotes are part of a word.
fn words(value: &str) -> Result<Vec<&str>, String> {
    let mut words = Vec::new();
    let (mut start, mut quoted) = (None, false);
    for (at, character) in value.char_indices() {
        match character {
            '"' => {
                quoted = !quoted;
                start.get_or_insert(at);
            }
            blank if blank.is_whitespace() && !quoted => {
                words.extend(start.take().map(|from: usize| &value[from..at]));
            }
            _ => {
                start.get_or_insert(at);
            }
        }
    }
    if quoted {
        return Err("a double quote is not closed".to_owned());
    }
    words.extend(start.map(|from| &value[from..]));
    Ok(words)
}

fn rows(value: &str) -> Result<u32, String> {
    match value.parse() {
        Ok(size @ 1..=SIZE_MAX) => Ok(size),
        Ok(_) | Err(_) => Err(format!(
            "size={value} is no number of rows from 1 to {SIZE_MAX}"
        )),
    }
}

fn limit(value: &str) -> Result<Duration, String> {
    match timeout(value)? {
        Duration::ZERO => {
            Err("nothing stays below zero: without max_p99 nothing is asked".to_owned())
        }
        time => Ok(time),
    }
}

fn batches(value: &str) -> Result<u32, String> {
    match value.parse() {
        Ok(0) | Err(_) => Err(format!("vacuum={value} is no number of batches from 1")),
        Ok(batches) => Ok(batches),
    }
}

fn bytes(value: &str) -> Result<u64, String> {
    match value.parse() {
        Ok(ByteSize(bytes)) => Ok(u64::try_from(bytes).unwrap_or(u64::MAX)),
        Err(error) => Err(format!("max_lag_bytes={value}: {error}")),
    }
}

fn sessions(value: &str) -> Result<u32, String> {
    value
        .parse()
        .map_err(|_not_a_number| format!("max_blocked={value} is no number of sessions"))
}
