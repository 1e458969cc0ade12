//! A client from the accepted socket to its wish.

use std::sync::Arc;

use super::handshake::{NoWish, Wish, read_wish};
use crate::config::Listen;
use crate::tls::stream::{Peer, Stream};

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
    /// Reads up to the client's wish. Not cancel safe, but that the client can still be told why it
    /// was given up.
    pub async fn wish(&mut self) -> Result<Wish, NoWish> {
        read_wish(&mut self.stream).await
    }
}
