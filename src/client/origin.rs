//! Reads what the proxy in front of us tells of a client, ahead of the client's own first byte.

use std::io;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::wire::proxy_header::{BadHeader, Front, Origin, parse};

/// Why nobody knows where a connection comes from.
#[derive(Debug, thiserror::Error)]
pub enum NoOrigin {
    /// It does not begin with a PROXY header.
    #[error(transparent)]
    Bad(#[from] BadHeader),
    /// It ended before the header did.
    #[error("closed before the PROXY header was complete")]
    Closed,
    /// The connection broke.
    #[error("connection to the client")]
    Io(#[from] io::Error),
}

/// Reads a PROXY header, and not one byte behind it: there encryption may begin.
///
/// Not cancel safe.
pub async fn read_origin(client: &mut (impl AsyncRead + Unpin)) -> Result<Origin, NoOrigin> {
    let mut header = BytesMut::new();
    loop {
        let missing = match parse(&header)? {
            Front::Header { origin, .. } => return Ok(origin),
            Front::Part(missing) => missing,
        };
        // Grows by what came, never by what was declared.
        header.reserve(64);
        let mut limited = client.take(missing as u64);
        if limited.read_buf(&mut header).await? == 0 {
            return Err(NoOrigin::Closed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;

    #[tokio::test]
    async fn not_a_byte_behind_the_header_is_taken() {
        let (mut peer, mut ours) = tokio::io::duplex(256);
        peer.write_all(b"PROXY TCP4 10.0.0.7 10.0.0.1 5 6\r\n\x16\x03\x01")
            .await
            .expect("room");
        let origin = read_origin(&mut ours).await.expect("a header");
        assert_eq!(
            origin,
            Origin::Client("10.0.0.7:5".parse().expect("an address"))
        );
        let mut behind = [0; 3];
        ours.read_exact(&mut behind).await.expect("kept");
        assert_eq!(&behind, b"\x16\x03\x01");
    }

    #[tokio::test]
    async fn half_a_header_and_an_end_is_none() {
        let (mut peer, mut ours) = tokio::io::duplex(256);
        peer.write_all(b"PROXY TCP4 10.0").await.expect("room");
        drop(peer);
        assert!(matches!(
            read_origin(&mut ours).await,
            Err(NoOrigin::Closed)
        ));
    }
}
