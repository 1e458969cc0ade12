//! The keys of windows: which connection may pass a closed gate, how many may, and who is inside.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::sync::{Notify, mpsc, oneshot};

use crate::config::{Scope, Who};
use crate::wire::window_key::WindowKey;

/// What is kept of a secret.
pub type Hash = [u8; 32];

/// The hash of a secret.
#[must_use]
pub fn hash(secret: &str) -> Hash {
    Sha256::digest(secret).into()
}

/// How often a key may be shown, and was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Uses {
    /// How many connections may show it; `None` is any number.
    pub allowed: Option<u32>,
    /// How many came in by it.
    pub used: u32,
}

impl Uses {
    /// Takes one; false when none is left.
    fn take(&mut self) -> bool {
        let left = self.allowed.is_none_or(|allowed| self.used < allowed);
        self.used += u32::from(left);
        left
    }

    /// Gives one back that came to nothing.
    fn give_back(&mut self) {
        self.used = self.used.saturating_sub(1);
    }
}

/// A window's connection that has logged in at the server, and has sent it no statement yet.
#[derive(Debug)]
pub struct Arrived {
    /// The process id of its backend, if the server gave one.
    pub pid: Option<i32>,
    /// Told whether it may go on.
    pub answer: oneshot::Sender<bool>,
}

/// The keys of all windows that are exclusive.
#[derive(Debug, Default)]
pub struct Passes {
    keys: Mutex<BTreeMap<String, Key>>,
    /// Told of everybody who leaves.
    left: Notify,
}

#[derive(Debug)]
struct Key {
    database: String,
    secret: Hash,
    uses: Uses,
    /// Whether it lets anybody in.
    valid: bool,
    /// Whose connections come in without showing it.
    scope: Option<Scope>,
    /// How many are inside, or on their way.
    inside: usize,
    arrivals: mpsc::Sender<Arrived>,
}

impl Passes {
    /// Makes a window's key valid. Who comes in by it is told of in `arrivals` before it may do
    /// anything.
    pub fn issue(
        &self,
        window: &str,
        database: &str,
        (secret, allowed): (Hash, Option<u32>),
        arrivals: mpsc::Sender<Arrived>,
    ) {
        let key = Key {
            database: database.to_owned(),
            secret,
            uses: Uses { allowed, used: 0 },
            valid: true,
            scope: None,
            inside: 0,
            arrivals,
        };
        self.keys().insert(window.to_owned(), key);
    }

    /// Lets new connections of this scope in as if they had shown this window's key.
    pub fn admit(&self, window: &str, scope: Scope) {
        if let Some(key) = self.keys().get_mut(window) {
            key.scope = Some(scope);
        }
    }

    /// A pass for somebody whose scope is let into this database now, without a key.
    #[must_use]
    pub fn of_scope(self: &Arc<Self>, database: &str, who: Who<'_>) -> Option<Pass> {
        let mut keys = self.keys();
        let fits = |key: &Key| {
            let scope = key
                .scope
                .as_ref()
                .filter(|_| key.valid && key.database == database);
            scope.is_some_and(|scope| scope.fits(who))
        };
        let (window, key) = keys.iter_mut().find(|(_, key)| fits(key))?;
        if !key.uses.take() {
            return None;
        }
        key.inside += 1;
        Some(Pass {
            window: window.clone(),
            arrivals: key.arrivals.clone(),
            of: Arc::clone(self),
            arrived: false,
        })
    }

    /// Lets nobody in by this window's key any more.
    pub fn shut(&self, window: &str) {
        if let Some(key) = self.keys().get_mut(window) {
            key.valid = false;
        }
    }

    /// Forgets a window's key.
    pub fn forget(&self, window: &str) {
        self.keys().remove(window);
    }

    /// A pass for who shows this key, if it lets it into this database now. What is wrong with one
    /// that does not is not told, and takes the same time.
    #[must_use]
    pub fn show(self: &Arc<Self>, shown: &WindowKey, database: &str) -> Option<Pass> {
        let secret = hash(&shown.secret);
        let mut keys = self.keys();
        let key = keys.get_mut(&shown.window);
        // Of a window that is not there, no secret is right.
        let right = key.as_ref().map_or([0; 32], |key| key.secret);
        let same = bool::from(right.ct_eq(&secret));
        let key = key.filter(|key| same && key.valid && key.database == database)?;
        if !key.uses.take() {
            return None;
        }
        key.inside += 1;
        Some(Pass {
            window: shown.window.clone(),
            arrivals: key.arrivals.clone(),
            of: Arc::clone(self),
            arrived: false,
        })
    }

    /// How often a window's key was shown, and how many are inside.
    #[must_use]
    pub fn counts(&self, window: &str) -> (u32, usize) {
        let keys = self.keys();
        keys.get(window)
            .map_or((0, 0), |key| (key.uses.used, key.inside))
    }

    /// Waits until somebody leaves, whoever it is. Cancel safe.
    pub async fn somebody_left(&self) {
        self.left.notified().await;
    }

    fn keys(&self) -> MutexGuard<'_, BTreeMap<String, Key>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right of one connection to be in a window; given back when it is dropped.
#[derive(Debug)]
pub struct Pass {
    window: String,
    arrivals: mpsc::Sender<Arrived>,
    of: Arc<Passes>,
    arrived: bool,
}

impl Pass {
    /// The window.
    #[must_use]
    pub fn window(&self) -> &str {
        &self.window
    }

    /// Says that the server has let the connection in, with this backend; false when the window
    /// has ended meanwhile, or cannot note it.
    pub async fn arrive(&mut self, pid: Option<i32>) -> bool {
        let (answer, answered) = oneshot::channel();
        let told = self.arrivals.send(Arrived { pid, answer }).await;
        self.arrived = told.is_ok() && answered.await.unwrap_or(false);
        self.arrived
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if let Some(key) = self.of.keys().get_mut(&self.window) {
            key.inside = key.inside.saturating_sub(1);
            if !self.arrived {
                key.uses.give_back();
            }
        }
        self.of.left.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(window: &str, secret: &str) -> WindowKey {
        WindowKey {
            window: window.to_owned(),
            secret: secret.to_owned(),
        }
    }

    /// A window `w` of the database `shop` with the secret `s`, whose arrivals are all let on.
    fn passes(allowed: Option<u32>) -> (Arc<Passes>, mpsc::Receiver<Arrived>) {
        let (arrivals, arrived) = mpsc::channel(8);
        let passes = Arc::new(Passes::default());
        passes.issue("w", "shop", (hash("s"), allowed), arrivals);
        (passes, arrived)
    }

    #[test]
    fn only_the_right_key_of_the_right_database_passes() {
        let (passes, _arrived) = passes(None);
        for (window, secret, database) in [
            ("w", "t", "shop"),
            ("w", "", "shop"),
            ("v", "s", "shop"),
            ("w", "s", "other"),
        ] {
            let refused = passes.show(&shown(window, secret), database);
            assert!(refused.is_none(), "{window} {secret} {database}");
        }
        assert!(passes.show(&shown("w", "s"), "shop").is_some());
        passes.shut("w");
        assert!(passes.show(&shown("w", "s"), "shop").is_none());
        passes.forget("w");
        assert!(passes.show(&shown("w", "s"), "shop").is_none());
    }

    #[test]
    fn a_scope_comes_in_without_a_key_while_it_is_let_in() {
        let (passes, _arrived) = passes(None);
        let who = |name| Who {
            user: "app",
            application_name: name,
            address: None,
        };
        assert!(passes.of_scope("shop", who("canary")).is_none());
        let scope = Scope {
            application_name: Some("canary".to_owned()),
            ..Scope::default()
        };
        passes.admit("w", scope);
        let pass = passes.of_scope("shop", who("canary")).expect("let in");
        assert_eq!((pass.window(), passes.counts("w")), ("w", (1, 1)));
        for (database, name) in [("other", "canary"), ("shop", "web"), ("shop", "")] {
            assert!(
                passes.of_scope(database, who(name)).is_none(),
                "{database} {name}"
            );
        }
        passes.shut("w");
        assert!(passes.of_scope("shop", who("canary")).is_none());
    }

    #[tokio::test]
    async fn a_use_that_came_to_nothing_is_given_back() {
        let (passes, mut arrived) = passes(Some(1));
        let pass = passes.show(&shown("w", "s"), "shop").expect("one is left");
        assert!(passes.show(&shown("w", "s"), "shop").is_none());
        assert_eq!(passes.counts("w"), (1, 1));
        drop(pass);
        assert_eq!(passes.counts("w"), (0, 0));
        for (may, left) in [(false, (0, 0)), (true, (1, 0))] {
            let mut pass = passes.show(&shown("w", "s"), "shop").expect("one is left");
            let answering = async {
                let arrived = arrived.recv().await.expect("somebody has arrived");
                arrived.answer.send(may).expect("it waits");
            };
            let (went_on, ()) = tokio::join!(pass.arrive(Some(7)), answering);
            assert_eq!(went_on, may);
            drop(pass);
            assert_eq!(passes.counts("w"), left);
        }
        assert!(passes.show(&shown("w", "s"), "shop").is_none());
    }

    #[tokio::test]
    async fn nobody_goes_on_whose_window_is_over() {
        let (passes, arrived) = passes(None);
        let mut pass = passes.show(&shown("w", "s"), "shop").expect("any number");
        drop(arrived);
        assert!(!pass.arrive(Some(7)).await);
    }
}
