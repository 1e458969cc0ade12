//! A client from the accepted socket to its wish.

use std::sync::Arc;

use super::handshake::{NoWish, Wish, read_wish};
use super::origin::{NoOrigin, read_origin};
use crate::config::Listen;
use crate::tls::stream::{Peer, Stream};
use crate::wire::proxy_header::Origin;
use crate::wire::refusal::Refusal;

/// A client that has just been accepted.
#[derive(Debug)]
pub struct Arrival {
    /// Its connection.
    pub stream: Stream,
    /// Where it is.
    pub peer: Peer,
    /// Where it came in, and what is asked of clients there.
    pub listen: Arc<Listen>,
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
        self.peer = match read_origin(&mut self.stream).await {
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

    /// Reads up to the client's wish. Not cancel safe, but that the client can still be told why it
    /// was given up.
    pub async fn wish(&mut self) -> Result<Wish, NoWish> {
        read_wish(&mut self.stream).await
    }
}
