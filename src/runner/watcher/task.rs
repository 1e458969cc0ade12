//! The watcher's own task: looks, tells, and writes down how far the run is.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;

use super::Shared;
use super::figures::{Look, Now};
use super::host::{Host, Meter};
use super::look::{self, Line, Questions};
use super::progress::{Paces, Work};
use crate::runner::connect::{Connector, Session};
use crate::runner::report::chain;
use crate::runner::types::EventKind;

/// The pause between two looks.
const EVERY: Duration = Duration::from_millis(100);

/// A look that takes long is followed by a pause so many times as long: the watcher is no load.
const REST: u32 = 10;

/// How often the progress of statements and the load of the machine are asked for.
const SLOWLY: Duration = Duration::from_secs(1);

/// How long an answer may take before the session is given up.
const PATIENCE: Duration = Duration::from_secs(8);

/// The pause before a lost session is replaced.
const AGAIN: Duration = Duration::from_secs(2);

/// The pause between two events, and behind the first minute of a file: it may run for hours, and a run
/// keeps only so many events.
const TELL: Duration = Duration::from_secs(2);
const TELL_PEAK: Duration = Duration::from_millis(500);
const TELL_LATER: Duration = Duration::from_secs(20);
const LATER: Duration = Duration::from_secs(60);

/// The session and what it asks.
struct Asking {
    session: Session,
    questions: Questions,
    /// Whether the server runs on this machine.
    here: bool,
}

/// See the module.
pub(super) struct Task {
    connector: Arc<Connector>,
    shared: Arc<Shared>,
    asking: Option<Asking>,
    /// When the next session may be tried for.
    again: Instant,
    /// The trouble that was told last, which is told once.
    trouble: Option<String>,
    paces: Paces,
    meter: Meter,
    slow: Slow,
    told: Option<Instant>,
    /// More were blocked than ever before, and that was not told yet.
    peak: bool,
    /// Rows that are still to be written; the newest of each step.
    lines: BTreeMap<(String, String), Line>,
}

/// What is asked for less often.
#[derive(Default)]
struct Slow {
    asked: Option<Instant>,
    work: Vec<Work>,
    host: Option<Host>,
}

impl Task {
    /// Connects, if it can.
    pub(super) async fn new(connector: Arc<Connector>, shared: Arc<Shared>) -> Self {
        let mut task = Self {
            connector,
            shared,
            asking: None,
            again: Instant::now(),
            trouble: None,
            paces: Paces::default(),
            meter: Meter::default(),
            slow: Slow::default(),
            told: None,
            peak: false,
            lines: BTreeMap::new(),
        };
        task.connect().await;
        task
    }

    /// Looks until told to stop.
    pub(super) async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut pause = EVERY;
        loop {
            tokio::select! {
                // A sender that is gone means the same.
                _ = stop.wait_for(|stop| *stop) => break,
                () = tokio::time::sleep(pause) => {}
            }
            let begun = Instant::now();
            self.turn().await;
            pause = EVERY.max(begun.elapsed() * REST);
        }
        self.gather(None);
        self.write().await;
        if let Some(asking) = self.asking.take() {
            asking.session.close(PATIENCE).await;
        }
    }

    async fn connect(&mut self) {
        let opened = tokio::time::timeout(PATIENCE, self.open()).await;
        match opened.unwrap_or_else(|_elapsed| Err("no answer".to_owned())) {
            Ok(asking) => {
                self.asking = Some(asking);
                if self.trouble.take().is_some() {
                    self.shared.run.note("the run is watched again");
                }
            }
            Err(why) => self.lost(why),
        }
    }

    async fn open(&self) -> Result<Asking, String> {
        let database = &self.shared.run.database;
        let session = self.connector.connect(database, Box::new(|_| {})).await;
        let session = session.map_err(|error| chain(&error))?;
        let questions = Questions::prepare(&session.client).await;
        let questions = questions.map_err(|error| chain(&error))?;
        let here = session.is_here().await.unwrap_or(false);
        Ok(Asking {
            session,
            questions,
            here,
        })
    }

    /// Gives the session up. A run goes on unwatched; that is told once.
    fn lost(&mut self, why: String) {
        self.asking = None;
        self.again = Instant::now() + AGAIN;
        if self.trouble.is_none() {
            let text = format!("the run is not watched for now: {why}");
            self.shared.run.note(text);
        }
        self.trouble = Some(why);
    }

    async fn turn(&mut self) {
        if self.asking.is_none() && Instant::now() >= self.again {
            self.connect().await;
        }
        let due = self.slow.asked.is_none_or(|it| it.elapsed() >= SLOWLY);
        match tokio::time::timeout(PATIENCE, self.look(due)).await {
            Ok(Ok(Some(look))) => self.take_in(&look),
            Ok(Ok(None)) => {}
            Ok(Err(error)) => self.lost(chain(&error)),
            Err(_elapsed) => self.lost("no answer".to_owned()),
        }
        if due && self.asking.is_some() {
            self.gather(self.shared.run.now().as_ref());
            self.write().await;
        }
    }

    /// Asks the server; none without a session.
    async fn look(&mut self, slowly: bool) -> Result<Option<Look>, tokio_postgres::Error> {
        let Some(asking) = &self.asking else {
            return Ok(None);
        };
        let ours = self.connector.own_pids();
        let client = &asking.session.client;
        let look = asking.questions.look(client, &ours).await?;
        if slowly {
            self.slow.asked = Some(Instant::now());
            let seen = asking.questions.progress(client, &ours).await?;
            self.slow.work = self.paces.follow(seen, Instant::now());
            self.slow.host = match asking.here {
                true => self.meter.look().await,
                false => None,
            };
        }
        Ok(Some(look))
    }

    fn take_in(&mut self, look: &Look) {
        let now = Instant::now();
        let mut file = self.shared.file();
        let (mut wal_bytes, mut held_ms, mut since) = (0, 0, now);
        if let Some((_, figures)) = file.as_mut() {
            self.peak |= figures.add(look, self.slow.host, now);
            (wal_bytes, held_ms) = (figures.wal_bytes(), figures.held_ms());
            since = figures.since;
        }
        let name = file.as_ref().map(|(name, _)| name.clone());
        drop(file);
        let seen = Now {
            at: jiff::Timestamp::now(),
            file: name,
            blocked: look.blocked,
            ungranted: look.ungranted,
            wait_ms: look.wait_ms,
            own_wait_ms: look.own_wait_ms,
            held_ms,
            wal_bytes,
            work: self.slow.work.clone(),
            host: self.slow.host,
        };
        let pause = match now - since < LATER {
            true => TELL,
            false => TELL_LATER,
        };
        let pause = if self.peak {
            pause.min(TELL_PEAK)
        } else {
            pause
        };
        let due = self.told.is_none_or(|it| now - it >= pause);
        let news = self.peak || seen.blocked > 0 || seen.own_wait_ms > 0 || !seen.work.is_empty();
        if due && news && seen.file.is_some() {
            self.told = Some(now);
            self.peak = false;
            self.shared
                .run
                .tell(EventKind::Watch, seen.to_string(), json!(seen));
        }
        self.shared.run.seen(Some(seen));
    }

    /// Collects what is to be written: what the migration said, and what the server says of its statements.
    fn gather(&mut self, now: Option<&Now>) {
        for line in self.shared.run.take_progress() {
            self.lines
                .insert((line.phase.clone(), line.step.clone()), line);
        }
        let Some(now) = now else { return };
        let Some(file) = &now.file else { return };
        let detail = json!(now);
        let steps: Vec<(String, Option<f64>)> = match now.work.as_slice() {
            [] => vec![("runs".to_owned(), None)],
            work => work
                .iter()
                .map(|it| (format!("{}: {}", it.what, it.phase), it.percent))
                .collect(),
        };
        for (step, pct) in steps {
            let line = Line {
                phase: file.clone(),
                step,
                pct,
                detail: detail.clone(),
            };
            self.lines
                .insert((line.phase.clone(), line.step.clone()), line);
        }
    }

    /// Writes what was collected. What cannot be written is of the past a second later.
    async fn write(&mut self) {
        let lines: Vec<Line> = std::mem::take(&mut self.lines).into_values().collect();
        let Some(asking) = &self.asking else { return };
        let written = look::write(&asking.session.client, &self.shared.run.id, &lines);
        match tokio::time::timeout(PATIENCE, written).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) if !error.is_closed() => {
                tracing::debug!(run = self.shared.run.id, %error, "pgdrain.progress is not written");
            }
            Ok(Err(error)) => self.lost(chain(&error)),
            Err(_elapsed) => self.lost("no answer".to_owned()),
        }
    }
}

/// What is told with a line of progress of the migration itself.
pub(in crate::runner) fn line_event(line: &Line) -> (String, Value) {
    let percent = line.pct.map(|it| format!(", {it} %")).unwrap_or_default();
    let text = format!("{}: {}{percent}", line.phase, line.step);
    let data = json!({ "phase": line.phase, "step": line.step, "percent": line.pct });
    (text, data)
}
