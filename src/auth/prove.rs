//! We prove to the server who the client is, with what the client showed us.

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::messages::{MESSAGE_MAX, ROOM, TooLong, next_message};
use super::passthrough::{Authenticated, Failed, Limit};
use super::scram::client::{Answered, Begun, Binding};
use super::scram::{self, SCRAM_SHA_256, SCRAM_SHA_256_PLUS};
use super::users::derive;
use super::{Proof, md5};
use crate::wire::backend::{self, request, tag};
use crate::wire::frame::HEADER_LEN;
use crate::wire::frontend;
use crate::wire::refusal::{NotPassedOn, Refusal, says_full};
use crate::wire::startup::{CancelKey, Startup};

/// The most that a server may say between letting somebody in and being ready.
const GREETING_MAX: usize = 1 << 20;

/// The secret of a cancel key: as in the server from protocol 3.2 on, and before it.
const SECRET_LENGTH: usize = 32;
const SECRET_LENGTH_OLD: usize = 4;

const UNKNOWN: &str = "The server asks for an authentication that the proxy does not have.";

/// What is known of the connection to the server.
#[derive(Debug, Clone, Copy)]
pub enum ServerSide<'a> {
    /// It is not encrypted.
    Plain,
    /// It is, and the server's certificate has this `tls-server-end-point`, if it can have one.
    Encrypted(Option<&'a [u8]>),
}

/// Logs in at a server that was sent the start-up packet, answering whatever it asks as libpq does:
/// also with the password as it is, if the server asks for that. Whether anybody can listen is up to
/// the encryption of the connection. With each connection comes what was read of it already.
///
/// The client is told nothing before the server has let it in, but what the server says instead.
///
/// Not cancel safe: a login that is given up leaves both connections unusable.
pub async fn login<C, S>(
    (client, from_client): (&mut C, BytesMut),
    (server, from_server): (&mut S, BytesMut),
    startup: &Startup,
    (proof, side, limit): (&Proof, ServerSide<'_>, Limit),
) -> Result<Authenticated, Failed>
where
    C: AsyncRead + AsyncWrite + Unpin,
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut login = Login {
        client,
        server,
        startup,
        from_client,
        from_server,
        side,
        limit,
    };
    login.prove(proof).await?;
    login.greeting().await
}

struct Login<'a, C, S> {
    client: &'a mut C,
    server: &'a mut S,
    startup: &'a Startup,
    from_client: BytesMut,
    from_server: BytesMut,
    side: ServerSide<'a>,
    limit: Limit,
}

impl<C, S> Login<'_, C, S>
where
    C: AsyncRead + AsyncWrite + Unpin,
    S: AsyncRead + AsyncWrite + Unpin,
{
    /// Answers what the server asks; it asks one thing.
    async fn prove(&mut self, proof: &Proof) -> Result<(), Failed> {
        let (code, data) = self.request().await?;
        match code {
            request::OK => return Ok(()),
            request::CLEARTEXT => {
                let Proof::Password(password) = proof else {
                    return Err(no_credential("The server asks for the password itself."));
                };
                self.answer_text(password.expose()).await?;
            }
            request::MD5 => self.md5(proof, &data).await?,
            request::SASL => {
                let names = backend::mechanisms(&data);
                let names = names.ok_or(Failed::Refused(Refusal::ServerProtocol))?;
                let offers = |name: &str| names.contains(&name.as_bytes());
                let (plain, plus) = (offers(SCRAM_SHA_256), offers(SCRAM_SHA_256_PLUS));
                self.scram(proof, plain, plus).await?;
            }
            _ => return Err(no_credential(UNKNOWN)),
        }
        self.expect(request::OK).await.map(|_| ())
    }

    async fn md5(&mut self, proof: &Proof, salt: &[u8]) -> Result<(), Failed> {
        let salt: Result<[u8; 4], _> = salt.try_into();
        let salt = salt.map_err(|_length| Failed::Refused(Refusal::ServerProtocol))?;
        let hash = match proof {
            Proof::Md5Hash(hash) => hash.clone(),
            Proof::Password(password) => {
                md5::hash(password.expose().as_bytes(), self.startup.user())
            }
            Proof::Keys(_) | Proof::Nothing => {
                return Err(no_credential("The server asks for an MD5 hash."));
            }
        };
        self.answer_text(&md5::answer(&hash, salt)).await
    }

    /// Speaks SCRAM, up to the server's proof.
    async fn scram(&mut self, proof: &Proof, plain: bool, plus: bool) -> Result<(), Failed> {
        let (mechanism, binding) = match self.side {
            ServerSide::Encrypted(Some(end_point)) if plus => {
                (SCRAM_SHA_256_PLUS, Binding::EndPoint(end_point))
            }
            ServerSide::Encrypted(Some(_)) if plain => (SCRAM_SHA_256, Binding::NotOffered),
            ServerSide::Encrypted(_) | ServerSide::Plain if plain => {
                (SCRAM_SHA_256, Binding::Impossible)
            }
            ServerSide::Encrypted(_) | ServerSide::Plain => {
                return Err(no_credential(UNKNOWN));
            }
        };
        // Before the exchange begins, so that it is not the server that calls the password wrong.
        if matches!(proof, Proof::Md5Hash(_) | Proof::Nothing) {
            return Err(no_credential(
                "The server asks for SCRAM, and the client showed no SCRAM key.",
            ));
        }
        let begun = Begun::new(scram::nonce(rand::random()), binding);
        let first = frontend::sasl_initial_answer(mechanism, &begun.message());
        self.send(&first).await?;
        let challenge = self.expect(request::SASL_CONTINUE).await?;
        let challenged = begun.challenged(&challenge).map_err(Failed::Refused)?;
        let keys = match proof {
            Proof::Keys(keys) if challenged.fits(keys) => keys.clone(),
            Proof::Keys(_) => {
                return Err(Failed::Refused(NotPassedOn::VerifierDiffers.into()));
            }
            Proof::Password(password) => {
                let (salt, iterations) = (&challenged.salt, challenged.iterations);
                derive(password.expose().as_bytes(), salt, iterations).await
            }
            Proof::Md5Hash(_) | Proof::Nothing => {
                return Err(Failed::Refused(Refusal::ServerProtocol));
            }
        };
        let (answered, last): (Answered, _) = challenged.answer(&keys);
        self.send(&frontend::answer(&last)).await?;
        let theirs = self.expect(request::SASL_FINAL).await?;
        answered.finish(&theirs).map_err(Failed::Refused)
    }

    /// What the server says once it has let us in.
    async fn greeting(mut self) -> Result<Authenticated, Failed> {
        let mut to_client = backend::authentication_request(request::OK, &[]);
        let (mut server_key, mut client_key) = (None, None);
        loop {
            let (tag, message) = self.message().await?;
            match tag {
                tag::BACKEND_KEY_DATA => {
                    let key = backend::key_data(&message[HEADER_LEN..])
                        .ok_or(Failed::Refused(Refusal::ServerProtocol))?;
                    let ours = self.own_key(&key);
                    to_client.extend_from_slice(&backend::backend_key_data(&ours));
                    (server_key, client_key) = (Some(key), Some(ours));
                }
                tag::AUTHENTICATION => return Err(Failed::Refused(Refusal::ServerProtocol)),
                _ => to_client.extend_from_slice(&message),
            }
            if tag == tag::READY_FOR_QUERY {
                break;
            }
            if to_client.len() > GREETING_MAX {
                return Err(Failed::Refused(Refusal::ServerProtocol));
            }
        }
        to_client.unsplit(self.from_server);
        Ok(Authenticated {
            server_key,
            client_key,
            from_client: self.from_client,
            to_client,
        })
    }

    /// The key that the client is given, as long as its protocol has them.
    fn own_key(&self, theirs: &CancelKey) -> CancelKey {
        let length = match self.startup.spoken_minor() {
            0 | 1 => SECRET_LENGTH_OLD,
            _ => SECRET_LENGTH,
        };
        let mut secret = vec![0; length];
        rand::fill(&mut secret[..]);
        CancelKey {
            pid: theirs.pid,
            secret: secret.into(),
        }
    }

    /// The server's next request of this kind: its data.
    async fn expect(&mut self, expected: i32) -> Result<BytesMut, Failed> {
        match self.request().await? {
            (code, data) if code == expected => Ok(data),
            _ => Err(Failed::Refused(Refusal::ServerProtocol)),
        }
    }

    /// The server's next `Authentication*`: its code and data. Notices, and its word on the
    /// protocol, which we have settled with the client ourselves, are passed over.
    async fn request(&mut self) -> Result<(i32, BytesMut), Failed> {
        loop {
            let (tag, mut message) = self.message().await?;
            match tag {
                tag::AUTHENTICATION => {
                    let mut body = message.split_off(HEADER_LEN);
                    let code = body.first_chunk().map(|code| i32::from_be_bytes(*code));
                    let code = code.ok_or(Failed::Refused(Refusal::ServerProtocol))?;
                    return Ok((code, body.split_off(4)));
                }
                tag::NEGOTIATE_PROTOCOL_VERSION | tag::NOTICE => {}
                _ => return Err(Failed::Refused(Refusal::ServerProtocol)),
            }
        }
    }

    /// The server's next message. If it is an error, the client has it.
    async fn message(&mut self) -> Result<(u8, BytesMut), Failed> {
        loop {
            let message = next_message(&mut self.from_server)
                .map_err(|TooLong| Failed::Refused(Refusal::ServerProtocol))?;
            match message {
                Some((tag::ERROR, message))
                    if self.limit == Limit::Fence && says_full(&message[HEADER_LEN..]) =>
                {
                    return Err(Failed::Refused(Refusal::FencedOut));
                }
                Some((tag::ERROR, message)) => {
                    self.client
                        .write_all(&message)
                        .await
                        .map_err(Failed::Client)?;
                    self.client.flush().await.map_err(Failed::Client)?;
                    return Err(Failed::ByServer);
                }
                Some(message) => return Ok(message),
                None => self.read().await?,
            }
        }
    }

    /// Reads more from the server, and sees a client that leaves.
    async fn read(&mut self) -> Result<(), Failed> {
        loop {
            // What a client sends ahead waits for the relay.
            let client_may_send = self.from_client.len() < MESSAGE_MAX;
            self.from_server.reserve(ROOM);
            self.from_client.reserve(ROOM);
            tokio::select! {
                read = self.server.read_buf(&mut self.from_server) => {
                    return match read.map_err(Failed::Server)? {
                        0 => Err(Failed::Server(std::io::ErrorKind::UnexpectedEof.into())),
                        _ => Ok(()),
                    };
                }
                read = self.client.read_buf(&mut self.from_client), if client_may_send => {
                    if read.map_err(Failed::Client)? == 0 {
                        return Err(Failed::ClientLeft);
                    }
                }
            }
        }
    }

    async fn answer_text(&mut self, text: &str) -> Result<(), Failed> {
        self.send(&frontend::answer(&[text.as_bytes(), &[0]].concat()))
            .await
    }

    async fn send(&mut self, message: &[u8]) -> Result<(), Failed> {
        self.server
            .write_all(message)
            .await
            .map_err(Failed::Server)?;
        self.server.flush().await.map_err(Failed::Server)
    }
}

fn no_credential(detail: &'static str) -> Failed {
    Failed::Refused(NotPassedOn::NoCredential(detail).into())
}
