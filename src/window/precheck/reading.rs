//! What would stand in the way of read-only mode, and who writes or does not write whatever the mode says.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::{Controller, Finding, FindingKind, Question, of_session};
use crate::clock;
use crate::drain::report::{Blocker, millis};
use crate::drain::take_readers;
use crate::server::control::{Control, ControlError};
use crate::session::registry::{Session, Signals};

/// How long sessions have to say what they run.
const SAY_TIME: Duration = Duration::from_millis(100);

/// The time between two looks at whether they have.
const SAY_PAUSE: Duration = Duration::from_millis(10);

impl Controller {
    /// Clients of ours in a transaction, those that only read apart; and those that no hold stops.
    pub(super) async fn of_writers(&self, question: &Question, control: &Control) -> Vec<Finding> {
        let mut inside = self.inside(question);
        let_them_say(&inside).await;
        let readers = take_readers(control, &question.database, &mut inside).await;
        let reading = readers.iter().map(|session| {
            let Finding {
                what,
                owner,
                age_ms,
                ..
            } = Finding::of(FindingKind::Reading, &Blocker::from(&**session));
            Finding {
                owner,
                age_ms,
                ..Finding::named(FindingKind::Reading, what)
            }
        });
        let mut findings: Vec<Finding> = reading.collect();
        findings.extend(inside.iter().map(|session| of_session(session, question)));
        findings.extend(self.of_exempt(&question.database));
        findings
    }

    /// They may begin to write at any time, and are many where a pool of them is: one line for each
    /// application of a user.
    fn of_exempt(&self, database: &str) -> Vec<Finding> {
        let mut exempt = self.sessions.of(database);
        exempt.retain(|session| !session.held_by_holds);
        let mut found: BTreeMap<(String, String), (u32, Option<u64>)> = BTreeMap::new();
        for session in exempt {
            let who = Blocker::from(&*session);
            let (many, oldest) = found.entry((who.user, who.application_name)).or_default();
            *many += 1;
            *oldest = (*oldest).max(session.transaction_age().map(millis));
        }
        let findings = found
            .into_iter()
            .map(|((owner, application), (many, age_ms))| Finding {
                owner,
                age_ms,
                ..Finding::named(
                    FindingKind::Exempt,
                    format!("{many} that no hold stops, {application:?}: may write"),
                )
            });
        findings.collect()
    }
}

/// Lets sessions say whether what they run is all of their transaction, as it is when the mode begins. One
/// that does not look in time is taken for one that may write.
async fn let_them_say(inside: &[Arc<Session>]) {
    for session in inside {
        session.signal(Signals::SAY_ALONE);
    }
    let until = clock::now() + SAY_TIME;
    while !inside.is_empty() && clock::now() < until {
        sleep(SAY_PAUSE).await;
        if inside.iter().all(|session| session.has_looked()) {
            return;
        }
    }
}

/// Who is refused writes by the server's own settings.
pub(super) async fn of_settings(
    control: &Control,
    database: &str,
) -> Result<Vec<Finding>, ControlError> {
    let begin = control.begin_read_only(database).await?;
    let mut findings: Vec<Finding> = begin
        .into_iter()
        .map(|set| Finding {
            owner: set.role,
            ..Finding::named(
                FindingKind::BeginsReadOnly,
                format!(
                    "default_transaction_read_only is on in database {}: writes are refused in the mode \
                     and behind it",
                    set.database
                ),
            )
        })
        .collect();
    if control.is_in_recovery().await? {
        findings.push(Finding::named(
            FindingKind::Recovery,
            "the server refuses writes by itself, also when the mode is over".to_owned(),
        ));
    }
    Ok(findings)
}
