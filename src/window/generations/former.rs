//! The former process: where it answers, and what it does for the newer one.

use std::fs::{self, File, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

use super::ask::{Answer, Envelope, FormerView, HeldGate, HeldThere, LINE_MAX, PROTOCOL, Question};
use super::{LOCK, socket};
use crate::window::controller::{Controller, HoldRequest, Target};
use crate::wire::startup::CancelKey;

/// How long the newer process may take to ask, and to read the answer.
const ASK_TIME: Duration = Duration::from_secs(10);

/// How long a session may take to act on a cancel request.
const CANCEL_TIME: Duration = Duration::from_secs(10);

/// A pause after accept failed, which it does for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The place of the former process of a state directory, of which there is one.
#[derive(Debug)]
pub struct Seat {
    listener: UnixListener,
    /// Held as long as the process lives.
    _lock: File,
}

/// Listens on a socket that is for this user alone; the path is there when it is so.
///
/// # Errors
/// Those of the file system; a path beyond some 100 bytes is one of them.
pub fn listen_privately(path: &Path) -> io::Result<UnixListener> {
    let beside = path.with_extension("new");
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(&beside)?;
    fs::set_permissions(&beside, Permissions::from_mode(0o600))?;
    fs::rename(&beside, path)?;
    Ok(listener)
}

/// Whether who connected is the user that owns the socket's directory entry, or root. The mode of
/// the file says so too, but not on every system, and not before it was set.
///
/// # Errors
/// When that cannot be known.
pub fn is_ours(stream: &UnixStream, path: &Path) -> io::Result<bool> {
    let asker = stream.peer_cred()?.uid();
    Ok(asker == 0 || asker == fs::metadata(path)?.uid())
}

impl Seat {
    /// Takes the seat.
    ///
    /// # Errors
    /// `ResourceBusy` when another former process has it; those of the file system.
    pub fn take(state_dir: &Path) -> io::Result<Seat> {
        let lock = File::create(state_dir.join(LOCK))?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => io::ErrorKind::ResourceBusy.into(),
            TryLockError::Error(error) => error,
        })?;
        Ok(Seat {
            listener: listen_privately(&socket(state_dir))?,
            _lock: lock,
        })
    }

    /// Answers the newer process, until the tasks are stopped. `ends_at` is when the former process
    /// ends whatever happens.
    pub async fn serve(self, controller: Arc<Controller>, ends_at: Option<Timestamp>) {
        let path = socket(&controller.config().state_dir);
        let stop = controller.tasks.shutdown_token();
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => return,
                accepted = self.listener.accept() => accepted,
            };
            let stream = match accepted {
                Ok((stream, _)) if is_ours(&stream, &path).unwrap_or(false) => stream,
                Ok(_) => continue,
                Err(error) => {
                    tracing::warn!(%error, "the newer process cannot be heard");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let (asked, stop) = (Arc::clone(&controller), stop.clone());
            controller.tasks.spawn("newer process", async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    heard = answer(stream, &asked, ends_at) => if let Err(error) = heard {
                        tracing::debug!(%error, "the newer process left before its answer");
                    },
                }
            });
        }
    }
}

async fn answer(
    stream: UnixStream,
    controller: &Arc<Controller>,
    ends_at: Option<Timestamp>,
) -> io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    let mut limited = (&mut reader).take(LINE_MAX);
    timeout(ASK_TIME, limited.read_line(&mut line)).await??;
    let answer = match understand(&line) {
        Ok(question) => controller.answer_as_former(question, ends_at).await,
        Err(why) => Answer::Refused { why },
    };
    let mut line = serde_json::to_vec(&answer)?;
    line.push(b'\n');
    timeout(ASK_TIME, reader.into_inner().write_all(&line)).await?
}

/// The version first: another one may know other questions.
fn understand(line: &str) -> Result<Question, String> {
    let envelope: Envelope<serde_json::Value> =
        serde_json::from_str(line).map_err(|error| error.to_string())?;
    if envelope.pgdrain_former != PROTOCOL {
        return Err(format!(
            "this process (version {}) speaks version {PROTOCOL} of the language between \
             generations, not {}",
            env!("CARGO_PKG_VERSION"),
            envelope.pgdrain_former
        ));
    }
    serde_json::from_value(envelope.content).map_err(|error| error.to_string())
}

impl Controller {
    async fn answer_as_former(
        self: &Arc<Self>,
        question: Question,
        ends_at: Option<Timestamp>,
    ) -> Answer {
        match question {
            Question::Status => Answer::Status {
                former: self.as_former(ends_at),
                backends: self.backends(),
            },
            Question::Hold {
                database,
                scope,
                spec,
                ladder,
            } => {
                let request = HoldRequest {
                    scope,
                    spec,
                    ladder,
                    // The newer process treats them, for both.
                    bypass: crate::config::Bypass::Ignore,
                };
                // The newer process has written it down.
                let target = target(database);
                let held = self.place(&target, &request).into_iter();
                let held = held.map(|(gate, draining)| {
                    let there = HeldThere {
                        gate: HeldGate::of(&gate),
                        generation: draining.generation,
                    };
                    self.reopen_when_exhausted(gate, target.holder(), draining);
                    there
                });
                Answer::Held(held.collect())
            }
            Question::Drained {
                gate,
                holder,
                generation,
            } => match self
                .gates
                .find_scope(&gate.database, &gate.scope)
                .and_then(|gate| self.draining(&gate.name(), holder))
            {
                Some(drain) if drain.generation == generation => {
                    Answer::Drained(Box::new(drain.ended().await))
                }
                Some(_) | None => Answer::Refused {
                    why: "this hold has been replaced by another".into(),
                },
            },
            Question::EndHold {
                gate,
                holder,
                generation,
            } => {
                if let Some(gate) = self.gates.find_scope(&gate.database, &gate.scope) {
                    gate.end_hold(holder, Some(generation));
                }
                Answer::Done
            }
            Question::Open {
                database,
                scope,
                force,
            } => {
                self.open_now(&target(database), &scope, force);
                Answer::Done
            }
            Question::Ladder {
                database,
                ladder,
                by,
            } => {
                // Its own events say from where.
                self.change_ladder(&target(database), &ladder, (&by, None));
                Answer::Done
            }
            Question::Cap { database, cap } => {
                let gate = self.gates.of(&database);
                match cap {
                    Some(spec) => {
                        gate.cap(spec);
                    }
                    None => {
                        gate.lift_cap(None);
                    }
                }
                Answer::Done
            }
            Question::Cancel { pid, secret } => {
                let key = CancelKey {
                    pid,
                    secret: secret.into(),
                };
                if let Some(session) = self.sessions.by_key(&key) {
                    let _ = timeout(CANCEL_TIME, session.request_cancel()).await;
                }
                Answer::Done
            }
        }
    }

    fn backends(&self) -> Vec<i32> {
        let sessions = self.sessions.all();
        let clients = sessions.iter().filter_map(|session| session.pid());
        clients.chain(self.own.pids()).collect()
    }

    /// How this process is, as the former one.
    fn as_former(&self, ends_at: Option<Timestamp>) -> FormerView {
        let sessions = self.sessions.all();
        let oldest = sessions.iter().map(|session| session.connected_at).min();
        FormerView {
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            sessions: sessions.len() as u64,
            oldest_at: oldest.and_then(|at| Timestamp::try_from(at).ok()),
            ends_at,
        }
    }
}

fn target(database: Option<String>) -> Target {
    database.map_or(Target::Everywhere, Target::Database)
}
