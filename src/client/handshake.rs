//! Reads a client's packets up to the one that says what it wants.

use std::io;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::wire::refusal::Refusal;
use crate::wire::startup::{self, BadPacket, CancelKey, First, PACKET_MAX, Startup};

/// What a client wants, and what it sent behind that.
#[derive(Debug)]
pub enum Wish {
    /// A session.
    Session(Startup, BytesMut),
    /// Another session's statement cancelled.
    Cancel(CancelKey),
    /// An encrypted connection first. It was told yes; the handshake comes next.
    Encryption,
}

/// Why there is no wish.
#[derive(Debug, thiserror::Error)]
pub enum NoWish {
    /// The client closed before it said anything, as port checks do.
    #[error("closed before the first packet was complete")]
    Closed,
    /// The connection broke.
    #[error("connection to the client")]
    Io(#[from] io::Error),
    /// The client is still to be told what was wrong with its packet.
    #[error("refused")]
    Refused(Refusal),
}

/// Requests for encryption that were answered; each may come once, as in the server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Asked {
    ssl: bool,
    gss: bool,
}

impl Asked {
    /// On a connection that is encrypted: nobody may ask again.
    pub const ENCRYPTED: Asked = Asked {
        ssl: true,
        gss: true,
    };
}

/// Whether a request for TLS is granted. GSSAPI is always declined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offer {
    /// It is.
    Tls,
    /// It is declined with `N`, and the client goes on as it likes.
    Nothing,
}

/// Reads up to a start-up packet, a cancel request, or a request for encryption that is granted.
///
/// Bytes behind a request for encryption are refused, as the server does: nobody can say whether
/// they were meant to be encrypted (CVE-2021-23214).
pub async fn read_wish<C>(client: &mut C, asked: Asked, offer: Offer) -> Result<Wish, NoWish>
where
    C: AsyncRead + AsyncWrite + Unpin,
{
    let mut bytes = BytesMut::new();
    let mut asked = asked;
    loop {
        let packet = read_packet(client, &mut bytes).await?;
        match startup::parse(&packet).map_err(refused)? {
            First::Startup(startup) => return Ok(Wish::Session(startup, bytes)),
            First::Cancel(key) => return Ok(Wish::Cancel(key)),
            First::Ssl => {
                once(&bytes, &mut asked.ssl, "SSL", 5679)?;
                if offer == Offer::Tls {
                    client.write_all(b"S").await?;
                    return Ok(Wish::Encryption);
                }
            }
            First::GssEncryption => once(&bytes, &mut asked.gss, "GSSAPI", 5680)?,
        }
        client.write_all(b"N").await?;
    }
}

/// Refuses a second request, and bytes behind one.
fn once(behind: &[u8], asked: &mut bool, what: &str, code: u16) -> Result<(), NoWish> {
    if !behind.is_empty() {
        let text = format!("received unencrypted data after {what} encryption request");
        return Err(NoWish::Refused(Refusal::Protocol(text)));
    }
    if std::mem::replace(asked, true) {
        return Err(refused(BadPacket::Version(1234, code)));
    }
    Ok(())
}

/// Reads one packet; what came behind it stays in `bytes`.
async fn read_packet(
    client: &mut (impl AsyncRead + Unpin),
    bytes: &mut BytesMut,
) -> Result<BytesMut, NoWish> {
    loop {
        if let Some(word) = bytes.first_chunk::<4>() {
            // The server too says this to its log alone, for it may not be spoken to in its own
            // protocol; a driver that gives up at once sends Terminate first and wants no answer.
            let length = startup::packet_length(*word).map_err(|bad| {
                tracing::debug!("{bad}");
                io::Error::new(io::ErrorKind::InvalidData, bad)
            })?;
            if bytes.len() >= length {
                return Ok(bytes.split_to(length));
            }
        }
        bytes.reserve(256);
        let mut limited = client.take((PACKET_MAX - bytes.len().min(PACKET_MAX)) as u64 + 1);
        if limited.read_buf(bytes).await? == 0 {
            return Err(NoWish::Closed);
        }
    }
}

fn refused(bad: BadPacket) -> NoWish {
    NoWish::Refused(Refusal::BadPacket(bad))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SSL: &[u8] = &[0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
    const GSS: &[u8] = &[0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x30];

    fn startup_packet() -> Vec<u8> {
        let body = b"\0\x03\0\0user\0anna\0\0";
        let length = u32::try_from(body.len() + 4).expect("short");
        [&length.to_be_bytes()[..], body].concat()
    }

    /// Sends `turns`, reading one byte between them, and returns the outcome and those bytes.
    async fn converse(turns: &[&[u8]]) -> (Result<Wish, NoWish>, Vec<u8>) {
        converse_offered(turns, Asked::default(), Offer::Nothing).await
    }

    async fn converse_offered(
        turns: &[&[u8]],
        asked: Asked,
        offer: Offer,
    ) -> (Result<Wish, NoWish>, Vec<u8>) {
        let (mut client, mut proxy) = tokio::io::duplex(1 << 16);
        let reading = async move { read_wish(&mut proxy, asked, offer).await };
        let wish = crate::tasks::Tasks::new().spawn("test", reading);
        let mut answers = Vec::new();
        for (turn, more) in turns.iter().zip((0..turns.len()).rev()) {
            client.write_all(turn).await.expect("room");
            if more > 0 {
                answers.push(client.read_u8().await.expect("an answer"));
            }
        }
        client.shutdown().await.expect("open until now");
        (wish.await.expect("no panic"), answers)
    }

    #[tokio::test]
    async fn encryption_is_declined_and_the_session_goes_on() {
        let (wish, answers) = converse(&[GSS, SSL, &startup_packet()]).await;
        assert!(matches!(wish, Ok(Wish::Session(startup, _)) if startup.user() == "anna"));
        assert_eq!(answers, b"NN");
    }

    #[tokio::test]
    async fn encryption_is_granted_where_it_is_offered() {
        let (wish, answers) = converse_offered(&[GSS, SSL], Asked::default(), Offer::Tls).await;
        assert!(matches!(wish, Ok(Wish::Encryption)));
        assert_eq!(answers, b"N");
    }

    #[tokio::test]
    async fn plaintext_behind_an_encryption_request_ends_the_connection() {
        for offer in [Offer::Nothing, Offer::Tls] {
            let turn = [SSL, &startup_packet()].concat();
            let (wish, answers) = converse_offered(&[&turn], Asked::default(), offer).await;
            assert!(matches!(wish, Err(NoWish::Refused(Refusal::Protocol(_)))));
            assert!(answers.is_empty());
        }
    }

    #[tokio::test]
    async fn encryption_is_not_asked_for_inside_of_itself() {
        for request in [SSL, GSS] {
            let (wish, _) = converse_offered(&[request], Asked::ENCRYPTED, Offer::Nothing).await;
            assert!(matches!(wish, Err(NoWish::Refused(Refusal::BadPacket(_)))));
        }
    }

    #[tokio::test]
    async fn each_request_may_come_once() {
        let (wish, _) = converse(&[SSL, SSL]).await;
        assert!(matches!(wish, Err(NoWish::Refused(Refusal::BadPacket(_)))));
    }

    #[tokio::test]
    async fn half_a_packet_and_an_end_is_nothing() {
        let (wish, _) = converse(&[&startup_packet()[..9]]).await;
        assert!(matches!(wish, Err(NoWish::Closed)));
    }

    #[tokio::test]
    async fn an_impossible_length_is_answered_by_nothing() {
        let terminate: &[u8] = &[b'X', 0, 0, 0, 4];
        let (wish, answers) = converse(&[SSL, terminate]).await;
        assert!(matches!(wish, Err(NoWish::Io(_))));
        assert_eq!(answers, b"N");
    }

    #[tokio::test]
    async fn what_comes_behind_the_startup_packet_is_kept() {
        let (wish, _) = converse(&[&[&startup_packet()[..], b"behind"].concat()]).await;
        assert!(matches!(wish, Ok(Wish::Session(_, behind)) if &behind[..] == b"behind"));
    }
}
