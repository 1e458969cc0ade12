//! A write that is tried before read-only mode is said to be entered: by a session of our own, through a
//! relay like any other, behind the gates of those for whom the mode is.
//!
//! The relay does with it what it does with a client, but for one thing: it takes the write for a read.
//! What refuses it is therefore the server, because the relay told it to.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::timeout;

use crate::auth::Proof;
use crate::auth::passthrough::Limit;
use crate::auth::prove::{self, ServerSide};
use crate::config::{Config, Role, Target};
use crate::gate::Gate;
use crate::server::connect::{Opened, open};
use crate::server::own::OwnBackends;
use crate::session::registry::{Login, Session};
use crate::session::relay::{Common, Relay};
use crate::tls::stream::{Peer, Stream};
use crate::wire::backend::{self, tag};
use crate::wire::frame::{HEADER_LEN, Header};
use crate::wire::frontend;
use crate::wire::startup::{First, Startup, parse};

/// How long it may take as a whole, the connection included.
const PROBE_TIME: Duration = Duration::from_secs(5);

/// How long the server may take to end the session after that.
const END_TIME: Duration = Duration::from_secs(1);

/// The write. A block of its own: whatever happens to us in the middle of it, nothing stays.
const WRITE: &str = "begin; create temporary table pgdrain_probe (); rollback";

/// Ends a block that has failed.
const ROLL_BACK: &str = "rollback";

/// What the server calls this session.
const NAME: &str = "pgdrain probe";

/// Between the ends of the pipe that takes the place of a client's connection.
const PIPE: usize = 16 * 1024;

/// The longest message that is read; what the server says to all this is far shorter.
const MESSAGE_MAX: usize = 64 * 1024;

/// The SQLSTATE of a write in a read-only transaction.
const READ_ONLY: &[u8] = b"25006";

/// The SQLSTATE of one that the role may not do, which the server looks at after that.
const DENIED: &[u8] = b"42501";

/// Why a write that was tried proves nothing.
#[derive(Debug)]
pub enum Wrong {
    /// It was carried out, and rolled back.
    CarriedOut,
    /// Only the rights of the control role were in its way.
    OnlyDenied,
    /// It was refused, by the server or by us, for a reason that says nothing of writes.
    Otherwise(String),
    /// It could not be tried, for this reason.
    NotTried(String),
}

impl Wrong {
    /// Whether the server would let writes through.
    #[must_use]
    pub fn was_carried_out(&self) -> bool {
        match self {
            Wrong::CarriedOut | Wrong::OnlyDenied => true,
            Wrong::Otherwise(_) | Wrong::NotTried(_) => false,
        }
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wrong::CarriedOut => f.write_str(
                "a write that was tried through the gate was carried out, and rolled back",
            ),
            Wrong::OnlyDenied => f.write_str(
                "a write that was tried through the gate was refused only because the control role may \
                 not make temporary tables",
            ),
            Wrong::Otherwise(said) => {
                write!(f, "a write that was tried was refused for another reason: {said}")
            }
            Wrong::NotTried(why) => write!(f, "no write could be tried: {why}"),
        }
    }
}

fn not_tried(error: &(dyn std::error::Error + 'static)) -> Wrong {
    Wrong::NotTried(super::with_causes(error))
}

/// Tries writes in the databases of one upstream.
#[derive(Debug, Clone)]
pub struct Prober {
    /// The server, and who we are there.
    pub target: Target,
    /// As relays have it.
    pub config: Arc<Config>,
    /// What relays have in common.
    pub common: Arc<Common>,
    /// Where the session is noted as ours, so that nobody takes it for a client's.
    pub own: OwnBackends,
}

impl Prober {
    /// Tries a write behind this gate; it is good when the server refuses it because the session only
    /// reads.
    ///
    /// # Errors
    /// What happened instead.
    pub async fn try_a_write(&self, gate: &Arc<Gate>) -> Result<(), Wrong> {
        let tried = timeout(PROBE_TIME, self.try_for_long(gate)).await;
        tried.unwrap_or_else(|_elapsed| {
            Err(Wrong::NotTried(format!(
                "it took longer than {PROBE_TIME:?}"
            )))
        })
    }

    async fn try_for_long(&self, gate: &Arc<Gate>) -> Result<(), Wrong> {
        let Some(role) = &self.target.control else {
            return Err(Wrong::NotTried(
                "no user is configured for the control connection".into(),
            ));
        };
        let (login, server) = self.log_in(role, gate.database()).await?;
        let _ours = login
            .server_key
            .as_ref()
            .map(|key| self.own.insert(key.pid));
        let session = Arc::new(Session::probe(login));
        let (client, ours) = duplex(PIPE);
        let gates = match gate.wide() {
            Some(wide) => (Arc::clone(wide), vec![Arc::clone(gate)]),
            None => (Arc::clone(gate), Vec::new()),
        };
        let (config, common) = (Arc::clone(&self.config), Arc::clone(&self.common));
        let relay = Relay::new(
            (ours, BytesMut::new()),
            server,
            session,
            gates,
            config,
            common,
        );
        let mut relay = std::pin::pin!(relay.run());
        let mut client = Conversation { client };
        let tried = tokio::select! {
            tried = client.try_a_write() => tried,
            _end = &mut relay => Err(Wrong::NotTried("the session ended early".into())),
        };
        client.leave().await;
        // With its end nothing of it is left; if that takes long, the server finds its connection closed.
        let _ended = timeout(END_TIME, relay).await;
        tried
    }

    /// A session at its first boundary, as a relay takes it over.
    async fn log_in(
        &self,
        role: &Role,
        database: &str,
    ) -> Result<(Login, (Stream, BytesMut)), Wrong> {
        let startup = startup(&role.user, database)?;
        let opened = open(&self.target.upstream, startup.packet()).await;
        let Opened {
            mut stream,
            route,
            host,
            answer,
        } = opened.map_err(|error| not_tried(&error))?;
        let proof = match role.password(host, database) {
            Some(password) => Proof::Password(password.clone()),
            None => Proof::Nothing,
        };
        let end_point = stream.server_end_point();
        let side = match &stream {
            Stream::Tls(_) => ServerSide::Encrypted(end_point.as_deref()),
            Stream::Tcp(_) | Stream::Unix(_) => ServerSide::Plain,
        };
        // What the server says to a client that it does not let in.
        let (mut to_client, mut said) = duplex(MESSAGE_MAX);
        let (client, server) = ((&mut to_client, BytesMut::new()), (&mut stream, answer));
        let login = prove::login(client, server, &startup, (&proof, side, Limit::Server)).await;
        let login = match login {
            Ok(login) => login,
            Err(failed) => {
                drop(to_client);
                let mut text = Vec::new();
                // A pipe of ours, whose other end is closed.
                let _ = said.read_to_end(&mut text).await;
                return Err(Wrong::NotTried(format!("{failed}: {}", error_of(&text))));
            }
        };
        let of_session = Login {
            database: database.into(),
            user: role.user.as_str().into(),
            application_name: NAME.into(),
            replication: None,
            held_by_holds: true,
            pass: None,
            client: Peer::Unix,
            route,
            server_key: login.server_key,
            client_key: login.client_key,
        };
        Ok((of_session, (stream, login.to_client)))
    }
}

/// The start-up packet of such a session.
fn startup(user: &str, database: &str) -> Result<Startup, Wrong> {
    let mut packet = vec![0, 0, 0, 0, 0, 3, 0, 0];
    for (name, value) in [
        ("user", user),
        ("database", database),
        ("application_name", NAME),
    ] {
        for text in [name, value] {
            packet.extend_from_slice(text.as_bytes());
            packet.push(0);
        }
    }
    packet.push(0);
    let length = u32::try_from(packet.len()).unwrap_or(u32::MAX);
    packet[..4].copy_from_slice(&length.to_be_bytes());
    match parse(&packet) {
        Ok(First::Startup(startup)) => Ok(startup),
        Ok(_) | Err(_) => Err(Wrong::NotTried(format!(
            "the names {user:?} and {database:?} make no start-up packet"
        ))),
    }
}

/// The text of the first error in what a server said.
fn error_of(said: &[u8]) -> String {
    let body = said.get(HEADER_LEN..).unwrap_or_default();
    let field = |code| backend::error_field(body, code).map(String::from_utf8_lossy);
    match (field(b'C'), field(b'M')) {
        (Some(code), Some(message)) => format!("{message} ({code})"),
        _ => "no reason".to_owned(),
    }
}

/// The client's side.
struct Conversation {
    client: DuplexStream,
}

/// What the server said to one query.
#[derive(Debug, Default)]
struct Answers {
    /// The body of its first error.
    error: Option<Vec<u8>>,
    /// The status of its last `ReadyForQuery`.
    status: u8,
}

impl Conversation {
    async fn try_a_write(&mut self) -> Result<(), Wrong> {
        self.answers().await?;
        let answers = self.ask(WRITE).await?;
        let Some(error) = answers.error else {
            return Err(Wrong::CarriedOut);
        };
        if answers.status != b'I' {
            self.ask(ROLL_BACK).await?;
        }
        // The server's errors say where in it they were raised; those of ours do not.
        let by_server = backend::error_field(&error, b'R').is_some();
        match backend::error_field(&error, b'C') {
            Some(READ_ONLY) if by_server => Ok(()),
            Some(DENIED) if by_server => Err(Wrong::OnlyDenied),
            Some(_) | None => {
                let message = [&[0; HEADER_LEN][..], &error].concat();
                Err(Wrong::Otherwise(error_of(&message)))
            }
        }
    }

    async fn ask(&mut self, sql: &str) -> Result<Answers, Wrong> {
        self.send(&frontend::query(sql)).await?;
        self.answers().await
    }

    async fn send(&mut self, message: &[u8]) -> Result<(), Wrong> {
        let sent = self.client.write_all(message).await;
        sent.map_err(|error| not_tried(&error))
    }

    /// Everything up to the next `ReadyForQuery`.
    async fn answers(&mut self) -> Result<Answers, Wrong> {
        let mut answers = Answers::default();
        loop {
            let (tag, body) = self.message().await?;
            match tag {
                tag::ERROR => drop(answers.error.get_or_insert(body)),
                tag::READY_FOR_QUERY => {
                    answers.status = body.first().copied().unwrap_or_default();
                    return Ok(answers);
                }
                _ => {}
            }
        }
    }

    async fn message(&mut self) -> Result<(u8, Vec<u8>), Wrong> {
        let mut header = [0; HEADER_LEN];
        let read = self.client.read_exact(&mut header).await;
        read.map_err(|error| not_tried(&error))?;
        let header = Header::parse(&header).map_err(|error| not_tried(&error))?;
        let length = header.body as usize;
        if length > MESSAGE_MAX {
            return Err(Wrong::NotTried(
                "the server says more than is to be said".into(),
            ));
        }
        let mut body = vec![0; length];
        let read = self.client.read_exact(&mut body).await;
        read.map_err(|error| not_tried(&error))?;
        Ok((header.tag, body))
    }

    /// Says farewell; whoever is gone needs none.
    async fn leave(&mut self) {
        let _ = self.send(&frontend::TERMINATE).await;
        let _ = self.client.shutdown().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(tag: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).expect("short");
        [&[tag][..], &length.to_be_bytes(), body].concat()
    }

    fn error(fields: &[&str]) -> Vec<u8> {
        let fields: Vec<u8> = fields
            .iter()
            .flat_map(|it| [it.as_bytes(), &[0]].concat())
            .collect();
        message(tag::ERROR, &[&fields[..], &[0]].concat())
    }

    fn ready(status: u8) -> Vec<u8> {
        message(tag::READY_FOR_QUERY, &[status])
    }

    /// What comes of a write that a server answers so, and what the server was sent in all.
    async fn tried(answers: &[Vec<u8>]) -> (Result<(), Wrong>, Vec<u8>) {
        let (client, mut server) = duplex(PIPE);
        let all = [&[ready(b'I')], answers].concat().concat();
        server.write_all(&all).await.expect("a pipe");
        let mut client = Conversation { client };
        let tried = client.try_a_write().await;
        drop(client);
        let mut sent = Vec::new();
        server.read_to_end(&mut sent).await.expect("a pipe");
        (tried, sent)
    }

    #[tokio::test]
    async fn only_the_servers_own_refusal_of_writes_is_good() {
        let refused = error(&["SERROR", "C25006", "Mcannot", "RPreventCommandIfReadOnly"]);
        let (tried_so, sent) = tried(&[refused, ready(b'E'), ready(b'I')]).await;
        assert!(tried_so.is_ok(), "{tried_so:?}");
        let both = [frontend::query(WRITE), frontend::query(ROLL_BACK)].concat();
        assert_eq!(sent, both);

        let done = message(tag::COMMAND_COMPLETE, b"CREATE TABLE\0");
        let by_us = error(&["SERROR", "C25006", "Mread-only"]);
        let denied = error(&["SERROR", "C42501", "Mpermission denied", "Raclcheck_error"]);
        let ended = error(&["SFATAL", "C57P01", "Mterminating", "RProcessInterrupts"]);
        for (answers, through, says) in [
            (vec![done, ready(b'I')], true, "was carried out"),
            (vec![by_us, ready(b'I')], false, "read-only (25006)"),
            (
                vec![denied, ready(b'E'), ready(b'I')],
                true,
                "temporary tables",
            ),
            (vec![ended, ready(b'I')], false, "57P01"),
            (vec![], false, "no write could be tried"),
        ] {
            let silent = answers.is_empty();
            let tried = timeout(Duration::from_millis(50), tried(&answers)).await;
            let Ok((tried, _)) = tried else {
                assert!(silent, "{says}");
                continue;
            };
            let wrong = tried.expect_err(says);
            assert_eq!(wrong.was_carried_out(), through, "{says}");
            assert!(wrong.to_string().contains(says), "{wrong}");
        }
    }

    #[test]
    fn the_start_up_packet_names_who_and_where() {
        let startup = startup("anna", "shop").expect("a packet");
        assert_eq!((startup.user(), startup.database()), ("anna", "shop"));
        assert_eq!(startup.parameter("application_name"), Some(NAME));
        assert!(startup.packet().ends_with(b"probe\0\0"));
    }
}
