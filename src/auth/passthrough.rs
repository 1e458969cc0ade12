//! Authentication between client and server, passed through untouched.
//!
//! No password list is needed: the client proves itself to the server, and we only watch for the
//! end (Postgres documentation section 55.2.1). One message is changed: the secret of
//! `BackendKeyData` is replaced by one of ours, so that a cancel request can only reach the server
//! through us.

use std::io;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::messages::{MESSAGE_MAX, ROOM, TooLong, any_header, message_length, next_header};
use super::scram::SCRAM_SHA_256_PLUS;
use crate::wire::backend::{self, Authentication, request, tag};
use crate::wire::frame::{HEADER_LEN, Header};
use crate::wire::frontend;
use crate::wire::refusal::{NotPassedOn, Refusal, says_full};
use crate::wire::startup::CancelKey;

/// What the login left behind.
#[derive(Debug)]
pub struct Authenticated {
    /// The key of the server's session; `None` when it sent none.
    pub server_key: Option<CancelKey>,
    /// The key that the client was given in its place.
    pub client_key: Option<CancelKey>,
    /// What the client sent ahead of the first `ReadyForQuery`.
    pub from_client: BytesMut,
    /// What the client is still to be sent: the end of the login, which makes it begin, and what the
    /// server sent behind it. By then others must know the session, for a cancel may follow at once.
    pub to_client: BytesMut,
}

/// Why a login did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// The server said no, in its own words, which the client has.
    #[error("the server refused the login")]
    ByServer,
    /// We refuse; the client is still to be told.
    #[error("refused")]
    Refused(Refusal),
    /// The client closed its connection.
    #[error("the client left during login")]
    ClientLeft,
    /// The connection to the client broke.
    #[error("connection to the client")]
    Client(#[source] io::Error),
    /// The connection to the server broke.
    #[error("connection to the server")]
    Server(#[source] io::Error),
}

/// Whether a server may let a client in without asking it for proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unchallenged {
    /// It may: the client is on this machine, or the configuration allows it.
    Allowed,
    /// It may not: the server trusts our address, and the client has another.
    Refused,
}

/// Which of the two connections are encrypted, which decides about channel binding: it ties the
/// password to one connection, and there are two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Encrypted {
    /// The client's to us.
    pub client: bool,
    /// Ours to the server.
    pub server: bool,
}

/// Whose doing it is when the server lets nobody more in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// The server's own.
    Server,
    /// Ours: a fence is up, and this connection was let through to it.
    Fence,
}

/// Passes messages between a client and a server that was sent its start-up packet, until the
/// server is ready for queries. With each connection comes what was read of it already.
///
/// Not cancel safe: a login that is given up leaves both connections unusable.
pub async fn login<C, S>(
    (client, from_client): (&mut C, BytesMut),
    (server, from_server): (&mut S, BytesMut),
    (unchallenged, encrypted, limit): (Unchallenged, Encrypted, Limit),
) -> Result<Authenticated, Failed>
where
    C: AsyncRead + AsyncWrite + Unpin,
    S: AsyncRead + AsyncWrite + Unpin,
{
    if from_server.is_empty() {
        return Err(Failed::ByServer);
    }
    let mut login = Login {
        from_client,
        from_server,
        to_client: BytesMut::new(),
        proof: Proof::NotAsked(unchallenged),
        encrypted,
        limit,
        sasl_begins: false,
        passing: 0,
        server_key: None,
        client_key: None,
    };
    let mut client_sends = true;
    loop {
        let step = login.server_messages()?;
        if let Step::Ready = step {
            return Ok(login.finish());
        }
        client
            .write_all(&login.to_client)
            .await
            .map_err(Failed::Client)?;
        client.flush().await.map_err(Failed::Client)?;
        login.to_client.clear();
        match step {
            Step::More | Step::Ready => {}
            Step::ServerRefused => return Err(Failed::ByServer),
        }
        if let Some(answer) = login.client_answer()? {
            server.write_all(&answer).await.map_err(Failed::Server)?;
            server.flush().await.map_err(Failed::Server)?;
        }
        if login.proof == Proof::Asked && !client_sends {
            return Err(Failed::ClientLeft);
        }
        // What a client sends behind its answers waits for the relay.
        let client_may_send = client_sends && login.from_client.len() < MESSAGE_MAX;
        login.from_server.reserve(ROOM);
        login.from_client.reserve(ROOM);
        tokio::select! {
            read = server.read_buf(&mut login.from_server) => {
                if read.map_err(Failed::Server)? == 0 {
                    return Err(Failed::ByServer);
                }
            }
            read = client.read_buf(&mut login.from_client), if client_may_send => {
                if read.map_err(Failed::Client)? == 0 {
                    // It may still read; the relay will see the end behind what it sent.
                    client_sends = false;
                }
            }
        }
    }
}

/// Whether the client has been asked to prove who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Proof {
    NotAsked(Unchallenged),
    /// It owes an answer.
    Asked,
    Answered,
    Accepted,
}

enum Step {
    More,
    Ready,
    ServerRefused,
}

struct Login {
    from_client: BytesMut,
    from_server: BytesMut,
    to_client: BytesMut,
    proof: Proof,
    encrypted: Encrypted,
    limit: Limit,
    /// Whether the client's next answer begins a SASL exchange.
    sasl_begins: bool,
    /// Bytes that are left of a message of the server that is not kept whole.
    passing: usize,
    server_key: Option<CancelKey>,
    client_key: Option<CancelKey>,
}

impl Login {
    /// Passes every whole message of the server on, and of long ones what is there.
    fn server_messages(&mut self) -> Result<Step, Failed> {
        loop {
            self.pass();
            let header = any_header(&self.from_server);
            let Some(header) =
                header.map_err(|TooLong| Failed::Refused(Refusal::ServerProtocol))?
            else {
                break;
            };
            let length = message_length(header);
            if length > MESSAGE_MAX {
                self.passing = self.long_message(header)?;
                continue;
            }
            if self.from_server.len() < length {
                break;
            }
            let message = self.from_server.split_to(length);
            match self.server_message(header.tag, &message)? {
                Step::More => {}
                end @ (Step::Ready | Step::ServerRefused) => return Ok(end),
            }
        }
        Ok(Step::More)
    }

    /// Passes on what is there of a long message.
    fn pass(&mut self) {
        let there = self
            .from_server
            .split_to(self.passing.min(self.from_server.len()));
        self.passing -= there.len();
        self.to_client.extend_from_slice(&there);
    }

    /// The length of a message that is too long to be one that we read.
    fn long_message(&self, header: Header) -> Result<usize, Failed> {
        let read = [
            tag::AUTHENTICATION,
            tag::BACKEND_KEY_DATA,
            tag::READY_FOR_QUERY,
        ];
        if self.proof == Proof::Accepted && !read.contains(&header.tag) {
            Ok(message_length(header))
        } else {
            Err(Failed::Refused(Refusal::ServerProtocol))
        }
    }

    fn server_message(&mut self, tag: u8, message: &BytesMut) -> Result<Step, Failed> {
        let body = &message[HEADER_LEN..];
        match tag {
            tag::AUTHENTICATION => {
                let asked = backend::authentication(body)
                    .ok_or(Failed::Refused(Refusal::ServerProtocol))?;
                self.authentication(asked)?;
                if let Some(list) = self.without_plus(body)? {
                    self.to_client.extend_from_slice(&list);
                    return Ok(Step::More);
                }
            }
            tag::BACKEND_KEY_DATA => {
                let key =
                    backend::key_data(body).ok_or(Failed::Refused(Refusal::ServerProtocol))?;
                let ours = CancelKey {
                    pid: key.pid,
                    secret: secret_like(&key.secret),
                };
                self.to_client
                    .extend_from_slice(&backend::backend_key_data(&ours));
                self.server_key = Some(key);
                self.client_key = Some(ours);
                return Ok(Step::More);
            }
            tag::ERROR if self.limit == Limit::Fence && says_full(body) => {
                return Err(Failed::Refused(Refusal::FencedOut));
            }
            _ => {}
        }
        self.to_client.extend_from_slice(message);
        Ok(match tag {
            tag::ERROR => Step::ServerRefused,
            tag::READY_FOR_QUERY if self.proof == Proof::Accepted => Step::Ready,
            _ => Step::More,
        })
    }

    fn authentication(&mut self, asked: Authentication) -> Result<(), Failed> {
        self.proof = match (asked, self.proof) {
            (Authentication::Challenge, _) => Proof::Asked,
            (Authentication::Final, _) => Proof::Answered,
            (Authentication::Ok, Proof::NotAsked(Unchallenged::Refused)) => {
                return Err(Failed::Refused(Refusal::Unauthenticated));
            }
            (Authentication::Ok, _) => Proof::Accepted,
        };
        Ok(())
    }

    /// A list of mechanisms without SCRAM-SHA-256-PLUS, where this message is one that has it: the
    /// channel that a client could bind ends here and not in the server.
    fn without_plus(&mut self, body: &[u8]) -> Result<Option<BytesMut>, Failed> {
        let Some((code, list)) = body.split_first_chunk::<4>() else {
            return Ok(None);
        };
        self.sasl_begins = i32::from_be_bytes(*code) == request::SASL;
        let Encrypted { client, server } = self.encrypted;
        if !self.sasl_begins || !(client || server) {
            return Ok(None);
        }
        let names = backend::mechanisms(list).ok_or(Failed::Refused(Refusal::ServerProtocol))?;
        let plain = names
            .into_iter()
            .filter(|name| *name != SCRAM_SHA_256_PLUS.as_bytes());
        Ok(Some(backend::sasl_request(&plain.collect::<Vec<_>>())))
    }

    /// A client that says `y` could have bound the channel and saw no offer; a server that offered
    /// it would take that for an attack, and call the client's password wrong.
    fn judge_binding(&self, answer: &[u8]) -> Result<(), Failed> {
        let says_y = || {
            let initial = frontend::sasl_initial(&answer[HEADER_LEN..]);
            let data = initial.and_then(|initial| initial.data);
            data.is_some_and(|data| data.starts_with(b"y"))
        };
        let Encrypted { client, server } = self.encrypted;
        if self.sasl_begins && client && server && says_y() {
            return Err(Failed::Refused(NotPassedOn::Binding.into()));
        }
        Ok(())
    }

    /// The client's answer to a challenge, once it is all there: one message, of whatever type, for
    /// the server to judge. What comes behind it is for the relay.
    fn client_answer(&mut self) -> Result<Option<BytesMut>, Failed> {
        if self.proof != Proof::Asked {
            return Ok(None);
        }
        let header = next_header(&self.from_client).map_err(|TooLong| {
            Failed::Refused(Refusal::Protocol("invalid message length".into()))
        })?;
        let length = header.map_or(usize::MAX, message_length);
        if self.from_client.len() < length {
            return Ok(None);
        }
        self.proof = Proof::Answered;
        let answer = self.from_client.split_to(length);
        self.judge_binding(&answer)?;
        Ok(Some(answer))
    }

    fn finish(mut self) -> Authenticated {
        self.to_client.unsplit(self.from_server);
        Authenticated {
            server_key: self.server_key,
            client_key: self.client_key,
            from_client: self.from_client,
            to_client: self.to_client,
        }
    }
}

/// A random secret as long as the server's: clients of protocol 3.0 take exactly four bytes.
fn secret_like(theirs: &[u8]) -> Box<[u8]> {
    let mut secret = vec![0; theirs.len()];
    rand::fill(&mut secret[..]);
    secret.into()
}
