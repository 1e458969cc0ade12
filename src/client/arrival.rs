//! A client from the accepted socket to its wish.

use std::io;
use std::sync::Arc;

use super::handshake::{Asked, NoWish, Offer, Wish, read_wish};
use super::origin::{NoOrigin, read_origin};
use crate::config::{ClientTls, Listen};
use crate::tls::Encryption;
use crate::tls::acceptor::Acceptor;
use crate::tls::stream::{Fresh, Peer, Stream};
use crate::wire::proxy_header::Origin;
use crate::wire::refusal::Refusal;

/// The first byte of a TLS handshake; no start-up packet is long enough to begin so.
const HANDSHAKE: u8 = 0x16;

/// A client that has just been accepted.
#[derive(Debug)]
pub struct Arrival {
    /// Its connection; `None` once a handshake of TLS has failed or was given up, after which
    /// nothing can be said on it.
    pub stream: Option<Stream>,
    /// Where it is.
    pub peer: Peer,
    /// Where it came in, and what is asked of clients there.
    pub listen: Arc<Listen>,
    /// What its encryption tells; `None` on a plain connection.
    pub encryption: Option<Encryption>,
}

/// A client on its way to the thread that will serve it.
#[derive(Debug)]
pub struct Newcomer {
    /// Its connection.
    pub socket: Fresh,
    /// Where it is.
    pub peer: Peer,
    /// Where it came in.
    pub listen: Arc<Listen>,
}

impl Newcomer {
    /// It is where it stays: on the current runtime.
    ///
    /// # Errors
    /// Those of [`Fresh::settle`].
    pub fn arrive(self) -> io::Result<Arrival> {
        Ok(Arrival {
            stream: Some(self.socket.settle()?),
            peer: self.peer,
            listen: self.listen,
            encryption: None,
        })
    }
}

impl Arrival {
    /// Learns where the client is: from a listed address it comes by way of a proxy, which tells.
    /// To be called before [`Arrival::wish`]; not cancel safe, as that.
    ///
    /// # Errors
    /// When a listed address sends no header: taking it for a client would make the proxy's address
    /// the client's.
    pub async fn learn_origin(&mut self) -> Result<(), NoWish> {
        let (Peer::Tcp(proxy), Some(from)) = (self.peer, self.peer.ip()) else {
            return Ok(());
        };
        if !self.listen.proxy_from.iter().any(|net| net.contains(&from)) {
            return Ok(());
        }
        let stream = self.stream.as_mut().ok_or(NoWish::Closed)?;
        self.peer = match read_origin(stream).await {
            Ok(Origin::Client(client)) => Peer::Told(client),
            Ok(Origin::Untold) => Peer::Told(proxy),
            Ok(Origin::Proxy) => Peer::Tcp(proxy),
            Err(NoOrigin::Bad(bad)) => {
                return Err(NoWish::Refused(Refusal::Protocol(bad.to_string())));
            }
            Err(NoOrigin::Closed) => return Err(NoWish::Closed),
            Err(NoOrigin::Io(error)) => return Err(NoWish::Io(error)),
        };
        Ok(())
    }

    /// Reads up to the client's wish, which is for a session or a cancel, and encrypts the
    /// connection before that if both sides want it. Not cancel safe, but that the client can
    /// still be told why it was given up.
    ///
    /// # Errors
    /// When the client broke off, or does not do what is asked of clients here.
    pub async fn wish(&mut self, acceptor: Option<&Acceptor>) -> Result<Wish, NoWish> {
        let acceptor = acceptor.filter(|_| self.listen.tls != ClientTls::Disable);
        if let Some(acceptor) = acceptor
            && self.begins_with_handshake().await?
            && !self.encrypt(acceptor).await?
        {
            // As the server: without its name a handshake may be one that another protocol's
            // client was tricked into (ALPACA).
            return Err(NoWish::Io(io::ErrorKind::InvalidData.into()));
        }
        loop {
            let (asked, offer) = match (&self.encryption, acceptor, &self.stream) {
                (Some(_), _, _) => (Asked::ENCRYPTED, Offer::Nothing),
                (None, Some(_), Some(Stream::Tcp(_))) => (Asked::default(), Offer::Tls),
                _ => (Asked::default(), Offer::Nothing),
            };
            let stream = self.stream.as_mut().ok_or(NoWish::Closed)?;
            match (read_wish(stream, asked, offer).await?, acceptor) {
                (Wish::Encryption, Some(acceptor)) => {
                    self.encrypt(acceptor).await?;
                }
                (Wish::Session(startup, behind), _) => {
                    self.check()?;
                    return Ok(Wish::Session(startup, behind));
                }
                // Whether it is encrypted is not asked: libpq's were never, up to version 16.
                (wish, _) => return Ok(wish),
            }
        }
    }

    /// Whether the client begins with TLS itself instead of asking for it.
    async fn begins_with_handshake(&self) -> io::Result<bool> {
        let Some(Stream::Tcp(tcp)) = &self.stream else {
            return Ok(false);
        };
        let mut first = [0];
        Ok(tcp.peek(&mut first).await? == 1 && first[0] == HANDSHAKE)
    }

    /// Whether the two sides agreed on the protocol's name.
    async fn encrypt(&mut self, acceptor: &Acceptor) -> Result<bool, NoWish> {
        let stream = self.stream.take().ok_or(NoWish::Closed)?;
        let accepted = Box::pin(acceptor.accept(stream)).await.map_err(|error| {
            tracing::info!(peer = %self.peer, %error, "no encryption with a client");
            error
        })?;
        self.stream = Some(accepted.stream);
        self.encryption = Some(accepted.encryption);
        Ok(accepted.named)
    }

    /// Whether the connection is what a session needs here.
    fn check(&self) -> Result<(), NoWish> {
        let certificate = self.encryption.as_ref().map(|found| found.client.is_some());
        let refusal = match (self.listen.tls, certificate, &self.stream) {
            // Nobody can listen in on a Unix socket; the server does not encrypt there either.
            (_, _, Some(Stream::Unix(_))) => return Ok(()),
            (ClientTls::Disable | ClientTls::Allow, _, _)
            | (ClientTls::Require, Some(_), _)
            | (ClientTls::VerifyCa | ClientTls::VerifyFull, Some(true), _) => return Ok(()),
            (ClientTls::VerifyCa | ClientTls::VerifyFull, Some(false), _) => {
                Refusal::CertificateNeeded
            }
            (ClientTls::Require | ClientTls::VerifyCa | ClientTls::VerifyFull, None, _) => {
                Refusal::EncryptionNeeded
            }
        };
        Err(NoWish::Refused(refusal))
    }
}
