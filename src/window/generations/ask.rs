//! What the newer process asks of the former one, and how: one connection a question, one line of
//! JSON each way.

use std::io;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::socket;
use crate::config::Scope;
use crate::drain::escalation::Ladder;
use crate::drain::report::DrainReport;
use crate::gate::Gate;
use crate::gate::cap::CapSpec;
use crate::gate::mode::{Generation, HoldSpec, Holder};

/// The version of questions and answers: processes of different versions refuse one another.
pub(super) const PROTOCOL: u32 = 1;

/// The longest line. Reports name every session that was waited for.
pub(super) const LINE_MAX: u64 = 16 << 20;

/// A question. Not `Debug`: one of them carries a secret.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Question {
    /// How are you?
    Status,
    /// Hold these sessions too.
    Hold {
        /// One database; absent for every one.
        database: Option<String>,
        /// Whose sessions.
        scope: Scope,
        /// The hold.
        spec: HoldSpec,
        /// How what runs is ended.
        ladder: Ladder,
    },
    /// Say when this drain has ended, and how.
    Drained {
        /// The gate.
        gate: HeldGate,
        /// Whose hold.
        holder: Holder,
        /// Which of them, by the former process's count.
        generation: Generation,
    },
    /// End this very hold.
    EndHold {
        /// The gate.
        gate: HeldGate,
        /// Whose hold.
        holder: Holder,
        /// Which of them, by the former process's count.
        generation: Generation,
    },
    /// Open, by force or not.
    Open {
        /// One database; absent for every one.
        database: Option<String>,
        /// Whose sessions.
        scope: Scope,
        /// Also what is held with every database.
        force: bool,
    },
    /// Climb this ladder from now on, where a drain is under way.
    Ladder {
        /// One database; absent for every one.
        database: Option<String>,
        /// The ladder.
        ladder: Ladder,
        /// Who asked.
        by: String,
    },
    /// Let only so many transactions run at once, or as many as come.
    Cap {
        /// The database.
        database: String,
        /// The cap; absent to take off what is there.
        cap: Option<CapSpec>,
    },
    /// A client wants this session's statement cancelled.
    Cancel {
        /// The server's process id.
        pid: i32,
        /// The secret that the client got.
        secret: Vec<u8>,
    },
}

/// A gate, by what both processes call it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldGate {
    /// The database.
    pub database: String,
    /// Whose sessions.
    pub scope: Scope,
}

impl HeldGate {
    pub(super) fn of(gate: &Gate) -> HeldGate {
        HeldGate {
            database: gate.database().to_owned(),
            scope: gate.scope().clone(),
        }
    }
}

/// A hold that the former process has placed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldThere {
    /// The gate.
    pub gate: HeldGate,
    /// Its hold, by the former process's count.
    pub generation: Generation,
}

/// An answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// How the former process is.
    Status {
        /// In words and numbers.
        former: FormerView,
        /// The server's process ids of its connections, which are no bypass.
        backends: Vec<i32>,
    },
    /// It holds.
    Held(Vec<HeldThere>),
    /// How its drain ended.
    Drained(Box<DrainReport>),
    /// Done.
    Done,
    /// It will not, or cannot.
    Refused {
        /// Why.
        why: String,
    },
}

/// The former process, as it sees itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FormerView {
    /// Its process id.
    pub pid: u32,
    /// Its version.
    pub version: String,
    /// Sessions that it still serves.
    pub sessions: u64,
    /// When the oldest of them connected.
    pub oldest_at: Option<Timestamp>,
    /// When it ends them, if it was told to.
    pub ends_at: Option<Timestamp>,
}

impl FormerView {
    /// Of a process that lives and does not answer.
    #[must_use]
    pub fn unknown() -> FormerView {
        FormerView {
            pid: 0,
            version: String::new(),
            sessions: 0,
            oldest_at: None,
            ends_at: None,
        }
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// It cannot be reached, or left in the middle.
    #[error("it does not answer: {0}")]
    Io(#[from] io::Error),
    /// It speaks another language.
    #[error("it answers what this version does not understand: {0}")]
    Strange(#[from] serde_json::Error),
    /// It said no.
    #[error("it refuses: {0}")]
    Refused(String),
}

#[derive(Serialize, Deserialize)]
pub(super) struct Envelope<T> {
    /// [`PROTOCOL`].
    pub(super) pgdrain_former: u32,
    pub(super) content: T,
}

/// Asks the former process of a state directory, and waits so long at most. Cancel safe: what was
/// asked for may be done all the same.
///
/// # Errors
/// See [`AskError`].
pub async fn ask(
    state_dir: &Path,
    question: &Question,
    patience: Duration,
) -> Result<Answer, AskError> {
    let envelope = Envelope {
        pgdrain_former: PROTOCOL,
        content: question,
    };
    let mut line = serde_json::to_vec(&envelope)?;
    line.push(b'\n');
    let asked = async {
        let mut stream = UnixStream::connect(socket(state_dir)).await?;
        stream.write_all(&line).await?;
        let mut answer = String::new();
        let mut reader = BufReader::new(stream.take(LINE_MAX));
        reader.read_line(&mut answer).await?;
        if !answer.ends_with('\n') {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok::<_, io::Error>(answer)
    };
    let late = |_elapsed| io::Error::from(io::ErrorKind::TimedOut);
    let answer = timeout(patience, asked).await.map_err(late)??;
    match serde_json::from_str(&answer)? {
        Answer::Refused { why } => Err(AskError::Refused(why)),
        answer @ (Answer::Status { .. } | Answer::Held(_) | Answer::Drained(_) | Answer::Done) => {
            Ok(answer)
        }
    }
}
