//! `-- pgdrain:batch table=orders size=10000 pause=100ms`: a statement over a table, piece by piece.

use std::time::Duration;

use super::fault::unknown;
use super::value::{table_name, timeout};

/// The keys of a batch.
const KEYS: [&str; 3] = ["table", "size", "pause"];

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
}

impl Batch {
    pub(super) fn read(value: &str) -> Result<Self, String> {
        let (mut table, mut size, mut pause) = (None, None, None);
        for word in value.split_whitespace() {
            let (key, value) = word
                .split_once('=')
                .ok_or_else(|| format!("{word:?} is no KEY=VALUE of {}", KEYS.join(", ")))?;
            let twice = match key {
                "table" => table.replace(table_name(value)?).is_some(),
                "size" => size.replace(rows(value)?).is_some(),
                "pause" => pause.replace(timeout(value)?).is_some(),
                other => return Err(unknown(other, &KEYS)),
            };
            if twice {
                return Err(format!("{key} is given twice"));
            }
        }
        Ok(Self {
            table: table.ok_or("table=NAME is missing")?,
            size: size.ok_or("size=ROWS is missing")?,
            pause: pause.unwrap_or_default(),
        })
    }
}

fn rows(value: &str) -> Result<u32, String> {
    match value.parse() {
        Ok(size @ 1..=SIZE_MAX) => Ok(size),
        Ok(_) | Err(_) => Err(format!(
            "size={value} is no number of rows from 1 to {SIZE_MAX}"
        )),
    }
}
