//! What would stand in the way of a window, or of read-only mode, if it were asked for now, before anything
//! is held.

mod reading;

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::controller::Controller;
use super::fence::{FenceFor, NoFence};
use super::pace::Expected;
use super::steps::WindowMode;
use crate::config::{Bypass, Preset, words};
use crate::drain::bypass::{Around, around};
use crate::drain::report::{Blocker, millis};
use crate::drain::with_causes;
use crate::server::control::{Control, ControlError, ObstacleKind, Rights, SessionTimeout};
use crate::session::registry::{Activity, Session, Sessions};

/// A transaction of this age is not expected to end by itself in time.
const LONG: Duration = Duration::from_secs(30);

/// What is asked.
#[derive(Debug, Clone)]
pub struct Question {
    /// The database.
    pub database: String,
    /// Who is to wait: everybody, or who writes.
    pub mode: WindowMode,
    /// How far the drain is to go.
    pub ladder: Preset,
    /// What is to be done about sessions that did not come through us.
    pub bypass: Bypass,
    /// Whether a fence is to be raised.
    pub fence: bool,
    /// How long a client may be held.
    pub held: Duration,
}

words! {
    /// What kind of thing stands in the way.
    FindingKind {
        /// A client of ours whose transaction runs a statement.
        Active = "active",
        /// A client of ours that sits idle in a transaction.
        IdleInTransaction = "idle_in_transaction",
        /// A client of ours that runs a single statement that reads, which read-only mode leaves alone.
        Reading = "reading",
        /// Clients of ours that no hold stops: they may write in read-only mode.
        Exempt = "exempt_session",
        /// Sessions that the server's own settings let begin read-only, in the mode and behind it.
        BeginsReadOnly = "begins_read_only",
        /// The server is in recovery, and refuses writes by itself.
        Recovery = "in_recovery",
        /// A session in a transaction that did not come through us.
        Bypass = "bypass_session",
        /// A transaction that is prepared for a second phase.
        Prepared = "prepared_transaction",
        /// A base backup of the server.
        BaseBackup = "base_backup",
        /// An autovacuum against wraparound, which does not make way.
        Wraparound = "wraparound_autovacuum",
        /// The server ends sessions that are idle for so long as ours are held.
        SessionTimeout = "session_timeout",
        /// The control role may not do what is needed.
        Privilege = "missing_privilege",
        /// What the server does cannot be known.
        Unknown = "unknown",
        /// Another proxy serves the database.
        OtherProxy = "other_proxy",
        /// The fence that is asked for cannot be raised, or would keep out who has to come in.
        Fence = "fence",
        /// Traffic is held already.
        Held = "held",
    }
}

words! {
    /// What a step of the ladder would do about it.
    Fate {
        /// Nothing: it does not matter to this step.
        Nothing = "-",
        /// It is named.
        Named = "named",
        /// It is waited for.
        Waits = "waits",
        /// What it runs is cancelled.
        Cancels = "cancels",
        /// Its transaction is aborted in place.
        Aborts = "aborts",
        /// It is terminated.
        Terminates = "terminates",
    }
}

/// Something that stands in the way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// What kind of thing it is.
    pub kind: FindingKind,
    /// Whether a window with this ladder and this policy is likely to fail by it.
    pub blocks: bool,
    /// Who or what it is.
    pub what: String,
    /// Whose.
    pub owner: String,
    /// How old it is.
    pub age_ms: Option<u64>,
    /// What the ladder *gentle* does about it.
    pub gentle: Fate,
    /// What *firm* does at its last step.
    pub firm: Fate,
    /// What *force* does at its last step.
    pub force: Fate,
}

/// Answer of a precheck.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Precheck {
    /// The database.
    pub database: String,
    /// Whether nothing blocks.
    pub go: bool,
    /// What was asked about: that everybody waits, or who writes.
    pub mode: WindowMode,
    /// The ladder that was asked about.
    pub ladder: Preset,
    /// The policy for bypass sessions that was asked about.
    pub bypass: Bypass,
    /// What stands in the way; what blocks comes first, older before younger.
    pub findings: Vec<Finding>,
    /// How long a drain and its queue are expected to be.
    pub expected: Forecast,
}

/// From the last minutes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Forecast {
    /// Seconds that it is from; with few of them it says little.
    pub seconds: u64,
    /// Half of the drains would have waited for transactions no longer than this.
    pub drain_p50_ms: u64,
    /// Nine of ten.
    pub drain_p90_ms: u64,
    /// All of them.
    pub drain_max_ms: u64,
    /// Transactions that end, and so begin, in a second.
    pub transactions_per_second: f64,
    /// Clients that are connected: no more can wait.
    pub sessions: u64,
    /// How many would wait at the end of a drain that takes as long as nine of ten.
    pub held_after_p90: u64,
}

impl Controller {
    /// Looks at everything that would stand in the way. Nothing is held, and nobody is disturbed.
    pub async fn precheck(&self, question: Question) -> Precheck {
        let database = &question.database;
        let control = self.control(database);
        let mut findings = match question.mode {
            WindowMode::Exclusive => self.of_sessions(&question),
            WindowMode::ReadOnly => self.of_writers(&question, &control).await,
        };
        findings.extend(self.of_holds(database));
        if let Err(error) = of_server(&control, &self.sessions, &question, &mut findings).await {
            let why = with_causes(&error);
            findings.push(Finding::blocking(FindingKind::Unknown, why));
        }
        findings.extend(self.of_fence(&question).await);
        findings.sort_by_key(|finding| (!finding.blocks, std::cmp::Reverse(finding.age_ms)));
        let sessions = self.sessions.held_with(database).len() as u64;
        Precheck {
            go: findings.iter().all(|finding| !finding.blocks),
            expected: Forecast::of(self.pace.expected(database), sessions),
            mode: question.mode,
            ladder: question.ladder,
            bypass: question.bypass,
            findings,
            database: question.database,
        }
    }

    fn of_sessions(&self, question: &Question) -> Vec<Finding> {
        let inside = self.inside(question);
        let findings = inside.iter().map(|session| of_session(session, question));
        findings.collect()
    }

    /// Those that a hold stops and that are in a transaction.
    fn inside(&self, question: &Question) -> Vec<Arc<Session>> {
        let mut inside = self.sessions.held_with(&question.database);
        inside.retain(|session| session.transaction_age().is_some());
        inside
    }

    async fn of_fence(&self, question: &Question) -> Option<Finding> {
        if !question.fence {
            return None;
        }
        let refused = self.may_fence(&question.database, FenceFor::Migration);
        let refused = refused.await.err()?;
        Some(Finding {
            // Only migrations are.
            blocks: !matches!(refused, NoFence::Runner(_)),
            ..Finding::blocking(FindingKind::Fence, with_causes(&refused))
        })
    }

    fn of_holds(&self, database: &str) -> Vec<Finding> {
        let gate = self.gates.find(database);
        let holds = gate.map(|gate| gate.holds().1).unwrap_or_default();
        let findings = holds.into_iter().map(|(holder, hold)| Finding {
            // A hold of an operator may be there for just that.
            blocks: holder == crate::gate::mode::Holder::Window,
            what: format!("held by {holder}"),
            owner: hold.spec.by.clone(),
            age_ms: Some(millis(hold.since.elapsed())),
            ..Finding::blocking(FindingKind::Held, String::new())
        });
        findings.collect()
    }
}

fn of_session(session: &Session, question: &Question) -> Finding {
    let active = session.activity() == Activity::Active;
    let age = session.transaction_age().unwrap_or_default();
    let (kind, firm) = match active {
        true => (FindingKind::Active, Fate::Cancels),
        false => (FindingKind::IdleInTransaction, Fate::Aborts),
    };
    Finding {
        blocks: age >= LONG && question.ladder == Preset::Gentle,
        gentle: Fate::Waits,
        firm,
        force: Fate::Terminates,
        ..Finding::of(kind, &Blocker::from(session))
    }
}

/// What the server has to say.
async fn of_server(
    control: &Control,
    sessions: &Sessions,
    question: &Question,
    findings: &mut Vec<Finding>,
) -> Result<(), ControlError> {
    let database = &question.database;
    let Some(rights) = control.rights(database).await? else {
        let what = "the server has no such database".to_owned();
        findings.push(Finding::blocking(FindingKind::Unknown, what));
        return Ok(());
    };
    findings.extend(of_rights(&rights, question));
    let around = around(database, sessions, control).await;
    findings.extend(around.who.iter().map(|who| of_bypass(who, question.bypass)));
    if let Around {
        unknown: Some(why), ..
    } = around
    {
        findings.push(Finding::blocking(FindingKind::Unknown, why));
    }
    for obstacle in control.obstacles(database).await? {
        let kind = match obstacle.kind {
            ObstacleKind::Prepared => FindingKind::Prepared,
            ObstacleKind::BaseBackup => FindingKind::BaseBackup,
            ObstacleKind::Wraparound => FindingKind::Wraparound,
        };
        findings.push(Finding {
            blocks: match obstacle.kind {
                ObstacleKind::Prepared => obstacle.age() >= LONG,
                ObstacleKind::BaseBackup => false,
                // It does not make way for DDL; a mode in which all read on does not wait for it.
                ObstacleKind::Wraparound => question.mode == WindowMode::Exclusive,
            },
            what: format!("{}: {}", obstacle.name, obstacle.detail),
            owner: obstacle.owner,
            age_ms: Some(obstacle.age_ms),
            gentle: Fate::Named,
            firm: Fate::Named,
            force: Fate::Named,
            ..Finding::blocking(kind, String::new())
        });
    }
    if question.mode == WindowMode::ReadOnly {
        findings.extend(reading::of_settings(control, database).await?);
    }
    let timeouts = control.timeouts(database).await?;
    findings.extend(timeouts.iter().filter_map(|set| of_timeout(set, question)));
    let others = control.others(database).await?;
    findings.extend(others.iter().map(|other| {
        Finding::blocking(
            FindingKind::OtherProxy,
            format!("another pgdrain serves it: {other}"),
        )
    }));
    Ok(())
}

fn of_rights(rights: &Rights, question: &Question) -> Vec<Finding> {
    let ends = question.ladder == Preset::Force
        || matches!(question.bypass, Bypass::Cancel | Bypass::Terminate);
    let missing = [
        (rights.sees, "pg_read_all_stats", true),
        (rights.ends, "pg_signal_backend", ends),
    ];
    let findings = missing.into_iter().filter(|(has, ..)| !has);
    let findings = findings.map(|(_, right, blocks)| Finding {
        blocks,
        owner: rights.role.clone(),
        ..Finding::blocking(
            FindingKind::Privilege,
            format!("the control role needs {right}"),
        )
    });
    findings.collect()
}

fn of_bypass(who: &Blocker, policy: Bypass) -> Finding {
    let long = who
        .transaction_age_ms
        .is_some_and(|age| age >= millis(LONG));
    let active = who.state == "active";
    let (fate, blocks) = match policy {
        Bypass::Ignore => (Fate::Named, false),
        Bypass::Wait => (Fate::Waits, long),
        Bypass::Cancel if active => (Fate::Cancels, false),
        Bypass::Cancel => (Fate::Waits, long),
        Bypass::Terminate => (Fate::Terminates, false),
    };
    // Its policy is not the ladder's.
    Finding {
        blocks,
        gentle: fate,
        firm: fate,
        force: fate,
        ..Finding::of(FindingKind::Bypass, who)
    }
}

/// A held session is idle for the server; one that was aborted in place is idle in a transaction.
fn of_timeout(set: &SessionTimeout, question: &Question) -> Option<Finding> {
    let idle = set.name == "idle_session_timeout";
    if set.time >= question.held || !idle && question.ladder == Preset::Gentle {
        return None;
    }
    Some(Finding {
        blocks: idle,
        what: format!(
            "{} = {} ms would end held sessions, which may wait for {} ms",
            set.name,
            millis(set.time),
            millis(question.held)
        ),
        owner: set.role.clone(),
        ..Finding::blocking(FindingKind::SessionTimeout, String::new())
    })
}

impl Finding {
    /// Nothing is done about it: it is named.
    fn named(kind: FindingKind, what: String) -> Finding {
        Finding {
            blocks: false,
            gentle: Fate::Named,
            firm: Fate::Named,
            force: Fate::Named,
            ..Finding::blocking(kind, what)
        }
    }

    fn blocking(kind: FindingKind, what: String) -> Finding {
        Finding {
            kind,
            blocks: true,
            what,
            owner: String::new(),
            age_ms: None,
            gentle: Fate::Nothing,
            firm: Fate::Nothing,
            force: Fate::Nothing,
        }
    }

    fn of(kind: FindingKind, who: &Blocker) -> Finding {
        let pid = who
            .pid
            .map_or_else(|| "?".to_owned(), |pid| pid.to_string());
        Finding {
            what: format!("pid {pid}, {:?}, {}", who.application_name, who.client),
            owner: who.user.clone(),
            age_ms: who.transaction_age_ms,
            ..Finding::blocking(kind, String::new())
        }
    }
}

impl Forecast {
    fn of(expected: Expected, sessions: u64) -> Forecast {
        let arriving = expected.per_second * expected.drain_p90.as_secs_f64();
        // Whoever waits begins nothing else: no more can wait than are connected.
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "an estimate, and not negative"
        )]
        let arriving = arriving.ceil() as u64;
        Forecast {
            seconds: expected.looks as u64,
            drain_p50_ms: millis(expected.drain_p50),
            drain_p90_ms: millis(expected.drain_p90),
            drain_max_ms: millis(expected.drain_max),
            transactions_per_second: (expected.per_second * 10.0).round() / 10.0,
            sessions,
            held_after_p90: arriving.min(sessions),
        }
    }
}
