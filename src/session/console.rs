//! Clients that name the console instead of a database: let in here, and served by whoever takes them.
//!
//! They are no sessions: no gate, cap, fence or limit of a database is asked. The names of the console
//! are compared once, at the login.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::BytesMut;
use subtle::ConstantTimeEq;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout_at};

use super::life::Host;
use super::login::Applicant;
use crate::audit::{Event, Kind};
use crate::auth::passthrough::Failed;
use crate::auth::users::Accounts;
use crate::auth::verify;
use crate::config::{AdminRole, AuthMethod};
use crate::metrics;
use crate::tls::stream::{Peer, Stream};
use crate::wire::refusal::{NotProved, Refusal};
use crate::wire::startup::{CancelKey, Startup};

/// Visitors that may wait to be taken; they are taken at once but while the program starts or stops.
const WAITING_MAX: usize = 16;

/// Visitors that prove who they are at the same time. Those of this machine need no place: who floods
/// the console from elsewhere does not keep them out.
const PROVING_MAX: usize = 64;

/// Of the name of a user so much is told: strangers choose it.
const SHOWN_MAX: usize = 100;

/// A client of the console that was let in, and has not been told so yet.
#[derive(Debug)]
pub struct Visitor {
    /// Its connection.
    pub stream: Stream,
    /// What it has sent behind its login.
    pub behind: BytesMut,
    /// Where it is.
    pub peer: Peer,
    /// What it said at first.
    pub startup: Startup,
    /// What it is.
    pub standing: Standing,
    /// What cancels its statements.
    pub handle: Handle,
}

/// What a visitor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Somebody on this machine, who was asked nothing.
    Local,
    /// The user whom it names, by a password.
    Proved(AdminRole),
}

/// The key of a visitor. While it is there, its statements can be cancelled.
#[derive(Debug)]
pub struct Handle {
    /// What a cancel request has to show.
    pub key: CancelKey,
    /// Counts the cancel requests.
    pub cancels: watch::Receiver<u64>,
    keys: Arc<Keys>,
}

/// The visitors' keys.
#[derive(Debug, Default)]
struct Keys(Mutex<Vec<(CancelKey, watch::Sender<u64>)>>);

/// How many visitors there are.
#[derive(Debug)]
pub struct Count(Arc<Keys>);

impl Count {
    /// So many now.
    #[must_use]
    pub fn now(&self) -> usize {
        self.0.all().len()
    }
}

/// Where visitors are handed to.
#[derive(Debug)]
pub struct Reception {
    keys: Arc<Keys>,
    sender: mpsc::Sender<Visitor>,
}

impl Reception {
    /// One, and where its visitors come out. While nobody takes them, they are refused.
    #[must_use]
    pub fn new() -> (Reception, mpsc::Receiver<Visitor>) {
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        let keys = Arc::default();
        (Reception { keys, sender }, receiver)
    }

    /// What tells how many visitors there are.
    #[must_use]
    pub fn count(&self) -> Count {
        Count(Arc::clone(&self.keys))
    }

    /// Cancels what the visitor with this key runs; whether there is one. Secrets are compared in
    /// constant time.
    pub(super) fn cancel(&self, key: &CancelKey) -> bool {
        let keys = self.keys.all();
        let same = |(ours, _): &&(CancelKey, watch::Sender<u64>)| {
            ours.pid == key.pid && bool::from(ours.secret.ct_eq(&key.secret))
        };
        let found = keys.iter().find(same);
        found.inspect(|(_, cancels)| cancels.send_modify(|count| *count += 1));
        found.is_some()
    }

    fn handle(&self, startup: &Startup) -> Handle {
        // Clients of older protocols take exactly four bytes.
        let mut secret = vec![0; if startup.spoken_minor() < 2 { 4 } else { 32 }];
        rand::fill(&mut secret[..]);
        let key = CancelKey {
            // Nobody looks for a server process by it: it is ours, which an operator can look for.
            pid: std::process::id().cast_signed(),
            secret: secret.into(),
        };
        let (sender, cancels) = watch::channel(0);
        self.keys.all().push((key.clone(), sender));
        Handle {
            key,
            cancels,
            keys: Arc::clone(&self.keys),
        }
    }
}

impl Keys {
    fn all(&self) -> MutexGuard<'_, Vec<(CancelKey, watch::Sender<u64>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.keys.all().retain(|(key, _)| *key != self.key);
    }
}

impl Host {
    /// Lets a client of the console in, and hands it on.
    pub(super) async fn receive(&self, mut applicant: Applicant, deadline: Instant) {
        let standing = match timeout_at(deadline, self.standing(&mut applicant)).await {
            Ok(Ok(standing)) => standing,
            Ok(Err(failed)) => {
                self.note_refused(&applicant, &failed);
                return self.turn_away(applicant, failed).await;
            }
            Err(_elapsed) => {
                let late = self.full("login_time", Refusal::LoginTimeout);
                return self.turn_away(applicant, late).await;
            }
        };
        let Applicant {
            stream,
            peer,
            startup,
            behind,
            ..
        } = applicant;
        let visitor = Visitor {
            handle: self.reception.handle(&startup),
            stream,
            behind,
            peer,
            startup,
            standing,
        };
        if let Err(error) = self.reception.sender.try_send(visitor) {
            let visitor = match error {
                mpsc::error::TrySendError::Full(visitor)
                | mpsc::error::TrySendError::Closed(visitor) => visitor,
            };
            self.tell(visitor.stream, visitor.peer, &Refusal::ShuttingDown)
                .await;
        }
    }

    /// Tells of a client that did not prove who it is; what it says of itself is no proof.
    fn note_refused(&self, applicant: &Applicant, failed: &Failed) {
        let Failed::Refused(refusal) = failed else {
            return;
        };
        // Class 28: invalid authorization specification.
        if !refusal.sqlstate().as_str().starts_with("28") {
            return;
        }
        self.common
            .metrics
            .access_refused(metrics::Refusal::Console);
        let user: String = applicant.startup.user().chars().take(SHOWN_MAX).collect();
        let event = Event {
            from: Some(applicant.peer.to_string()),
            outcome: Some(format!("refused: a login of the console as {user:?}")),
            ..Event::here(Kind::Access)
        };
        self.gates.audit().refused(applicant.peer.ip(), event);
    }

    /// What a client is to the console. Not cancel safe.
    async fn standing(&self, applicant: &mut Applicant) -> Result<Standing, Failed> {
        applicant.check_certificate()?;
        let console = &applicant.config.console;
        if console.users.is_empty() {
            if !applicant.peer.is_local() {
                return Err(Failed::Refused(NotProved::ConsoleUnlisted.into()));
            }
            verify::negotiate(&mut applicant.stream, &applicant.startup).await?;
            return Ok(Standing::Local);
        }
        let proving = self.rooms.proving.take(PROVING_MAX);
        let _proving =
            proving.ok_or_else(|| self.full("console.connections", Refusal::TooManyConnections))?;
        verify::negotiate(&mut applicant.stream, &applicant.startup).await?;
        let user = applicant.startup.user();
        let accounts = Accounts {
            disguise: &self.disguise,
            users: &console.users,
            iterations: applicant.config.auth.iterations,
        };
        let stored = console.users.get(user).cloned();
        let account = accounts.open(user, stored, AuthMethod::ScramSha256).await;
        let encryption = applicant.encryption.as_ref();
        let (client, behind) = (&mut applicant.stream, &mut applicant.behind);
        verify::password(client, behind, user, &account, encryption).await?;
        let role = console.role(user);
        // Whoever has a password there has a role.
        let unknown = || Failed::Refused(NotProved::Password(user.to_owned()).into());
        role.map(Standing::Proved).ok_or_else(unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::startup::{First, parse};

    fn startup(minor: u8) -> Startup {
        let body = [&[0, 3, 0, minor], &b"user\0anna\0\0"[..]].concat();
        let length = u32::try_from(body.len() + 4).expect("short").to_be_bytes();
        match parse(&[&length[..], &body].concat()) {
            Ok(First::Startup(startup)) => startup,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_cancel_request_reaches_the_visitor_whose_key_it_shows() {
        let (reception, _visitors) = Reception::new();
        let (one, other) = (reception.handle(&startup(0)), reception.handle(&startup(2)));
        assert_eq!((one.key.secret.len(), other.key.secret.len()), (4, 32));
        let key = one.key.clone();
        assert!(reception.cancel(&key));
        assert_eq!((*one.cancels.borrow(), *other.cancels.borrow()), (1, 0));
        let wrong = CancelKey {
            secret: vec![0; 8].into(),
            ..key.clone()
        };
        assert!(!reception.cancel(&wrong));
        drop(one);
        assert!(!reception.cancel(&key));
    }
}
