//! How a session logs in at the standby of its database: as its client, with what the client showed us.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::BytesMut;
use tokio::io::duplex;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::forwarded::forwarded;
use crate::auth::Proof;
use crate::auth::passthrough::{Failed, Limit};
use crate::auth::prove::{self, ServerSide};
use crate::config::{Config, Stateful};
use crate::server::connect::{Opened, Route, open};
use crate::tasks::Tasks;
use crate::tls::stream::{Peer, Stream};
use crate::wire::refusal::Refusal;
use crate::wire::startup::{CancelKey, Startup};

/// What a server says at the end of a login.
const READY: [u8; 6] = *b"Z\0\0\0\x05I";

/// What a standby says of itself in every login.
const STANDBY: &[u8] = b"in_hot_standby\0on\0";

/// How much a server may say to a client that is refused.
const LAST_WORDS: usize = 64 * 1024;

/// A connection to a standby, at its first boundary.
#[derive(Debug)]
pub(super) struct AtStandby<S> {
    pub(super) stream: S,
    pub(super) route: Route,
    pub(super) key: Option<CancelKey>,
}

/// The way of one session to the standby.
pub(super) trait Way<S>: fmt::Debug + Send + Sync {
    /// Whether the standby can be used now.
    fn is_usable(&self) -> bool;
    /// What becomes of the session's reads when it cannot go.
    fn stateful(&self) -> Stateful;
    /// Who the session is.
    fn user(&self) -> &str;
    /// Lets a task log in; nothing comes of it, and a word in the log, when the standby refuses.
    fn log_in(self: Arc<Self>, tasks: &Tasks) -> oneshot::Receiver<AtStandby<S>>;
}

/// Of a session that proved itself to us.
pub(super) struct Reader {
    pub(super) usable: Arc<AtomicBool>,
    pub(super) config: Arc<Config>,
    pub(super) startup: Startup,
    pub(super) peer: Peer,
    /// What its client showed us, or nothing where the files say what is shown.
    pub(super) proof: Proof,
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = (self.startup.database(), self.startup.user());
        f.debug_tuple("Reader").field(&names).finish()
    }
}

impl Way<Stream> for Reader {
    fn is_usable(&self) -> bool {
        self.usable.load(Ordering::Acquire)
    }

    fn stateful(&self) -> Stateful {
        let read = self.config.read_target(self.startup.database());
        read.map_or(Stateful::Stay, |(_, read)| read.stateful)
    }

    fn user(&self) -> &str {
        self.startup.user()
    }

    fn log_in(self: Arc<Self>, tasks: &Tasks) -> oneshot::Receiver<AtStandby<Stream>> {
        let (tell, coming) = oneshot::channel();
        // The connection is for a session of this thread.
        tasks.spawn_here("login at a standby", async move {
            match timeout(self.config.limits.login_time, self.at_standby()).await {
                // The session may be gone.
                Ok(Ok(there)) => drop(tell.send(there)),
                Ok(Err(failed)) => {
                    tracing::warn!(reader = ?self, %failed, "no login at the standby");
                }
                Err(_elapsed) => {
                    tracing::warn!(reader = ?self, "no login at the standby in time");
                }
            }
        });
        coming
    }
}

impl Reader {
    async fn at_standby(&self) -> Result<AtStandby<Stream>, Failed> {
        let unreachable = || Failed::Refused(Refusal::ServerUnreachable);
        let (database, user) = (self.startup.database(), self.startup.user());
        let (target, _) = self.config.read_target(database).ok_or_else(unreachable)?;
        // A standby that becomes a server of its own must not take writes from here either.
        let startup = self
            .startup
            .with_parameter("default_transaction_read_only", b"on");
        let startup = startup.ok_or_else(unreachable)?;
        let packet = forwarded(&self.config, &startup, self.peer).settled_packet();
        let Opened {
            mut stream,
            route,
            host,
            answer,
        } = open(&target.upstream, &packet)
            .await
            .map_err(|_not_opened| unreachable())?;
        let configured = self.config.auth.server_password(host, database, user);
        let proof = configured.map_or_else(|| self.proof.clone(), |it| Proof::Password(it.clone()));
        let end_point = stream.server_end_point();
        let side = match &stream {
            Stream::Tls(_) => ServerSide::Encrypted(end_point.as_deref()),
            Stream::Tcp(_) | Stream::Unix(_) => ServerSide::Plain,
        };
        // The client hears nothing of it.
        let (mut nobody, _client) = duplex(LAST_WORDS);
        let (client, server) = ((&mut nobody, BytesMut::new()), (&mut stream, answer));
        let login = prove::login(client, server, &startup, (&proof, side, Limit::Server)).await?;
        let said = &login.to_client[..];
        let standby = said.windows(STANDBY.len()).any(|part| part == STANDBY);
        if !standby || !said.ends_with(&READY) {
            return Err(Failed::Refused(Refusal::ServerProtocol));
        }
        Ok(AtStandby {
            stream,
            route,
            key: login.server_key,
        })
    }
}
