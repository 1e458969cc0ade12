//! Messages of a login, one at a time and bounded.

use std::io;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::wire::frame::{HEADER_LEN, Header};

/// The largest message of an authentication, as `PG_MAX_AUTH_TOKEN_LENGTH` in the server. Behind it
/// the server may say more: a trigger on login its notices, for instance.
pub(super) const MESSAGE_MAX: usize = 65_535;

/// Room for what is read next. A server that lets somebody in says some 500 bytes at once, and without room
/// tokio would take 64 at a time.
pub(super) const ROOM: usize = 1024;

/// A message that no login has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooLong;

/// The header at the front, if it is all there, of a message of any length that there is.
pub(super) fn any_header(bytes: &BytesMut) -> Result<Option<Header>, TooLong> {
    let first = bytes.chunk().first_chunk::<HEADER_LEN>();
    let header = first.map(Header::parse).transpose();
    header.map_err(|_bad| TooLong)
}

/// The header at the front, if it is all there, of a message that a login may have.
pub(super) fn next_header(bytes: &BytesMut) -> Result<Option<Header>, TooLong> {
    let header = any_header(bytes)?;
    if header.is_some_and(|header| message_length(header) > MESSAGE_MAX) {
        Err(TooLong)
    } else {
        Ok(header)
    }
}

/// The length of a whole message.
pub(super) fn message_length(header: Header) -> usize {
    usize::try_from(header.body).map_or(usize::MAX, |body| body.saturating_add(HEADER_LEN))
}

/// Takes the message at the front, if it is all there: its type, and the whole of it.
pub(super) fn next_message(bytes: &mut BytesMut) -> Result<Option<(u8, BytesMut)>, TooLong> {
    let Some(header) = next_header(bytes)? else {
        return Ok(None);
    };
    let length = message_length(header);
    if bytes.len() < length {
        return Ok(None);
    }
    Ok(Some((header.tag, bytes.split_to(length))))
}

/// Why there is no next message.
#[derive(Debug)]
pub(super) enum NoMessage {
    /// The peer has closed.
    Closed,
    /// The connection broke.
    Io(io::Error),
    /// It is one that no login has.
    TooLong,
}

/// Reads the next message; what came behind it stays in `bytes`.
///
/// Cancel safe: what was read is in `bytes`.
pub(super) async fn read_message<S>(
    stream: &mut S,
    bytes: &mut BytesMut,
) -> Result<(u8, BytesMut), NoMessage>
where
    S: AsyncRead + Unpin,
{
    loop {
        if let Some(message) = next_message(bytes).map_err(|TooLong| NoMessage::TooLong)? {
            return Ok(message);
        }
        bytes.reserve(ROOM);
        if stream.read_buf(bytes).await.map_err(NoMessage::Io)? == 0 {
            return Err(NoMessage::Closed);
        }
    }
}
