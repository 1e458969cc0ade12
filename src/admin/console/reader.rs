//! Reads a visitor's messages, one at a time and bounded.

use std::io;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::wire::frame::{HEADER_LEN, Header};

/// The longest message that is taken: commands are short.
const MESSAGE_MAX: usize = 16 << 10;

/// How much is read ahead of what is worked on.
const AHEAD_MAX: usize = 2 * MESSAGE_MAX;

/// A message that is none, or too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Broken {
    /// Its length cannot be one.
    Length,
    /// It is longer than anything the console takes.
    TooLong,
}

/// What was read and not worked on yet.
#[derive(Debug, Default)]
pub(super) struct Reader {
    bytes: BytesMut,
}

impl Reader {
    pub(super) fn new(behind: BytesMut) -> Reader {
        Reader { bytes: behind }
    }

    /// The next message, if it is all there: its type and its body.
    pub(super) fn next(&mut self) -> Result<Option<(u8, BytesMut)>, Broken> {
        let Some(head) = self.bytes.chunk().first_chunk::<HEADER_LEN>() else {
            return Ok(None);
        };
        let header = Header::parse(head).map_err(|_bad| Broken::Length)?;
        let body = usize::try_from(header.body).unwrap_or(usize::MAX);
        if body > MESSAGE_MAX {
            return Err(Broken::TooLong);
        }
        if self.bytes.len() < HEADER_LEN + body {
            return Ok(None);
        }
        self.bytes.advance(HEADER_LEN);
        Ok(Some((header.tag, self.bytes.split_to(body))))
    }

    /// Whether more may be read ahead.
    pub(super) fn has_room(&self) -> bool {
        self.bytes.len() < AHEAD_MAX
    }

    /// Reads what there is; false when the client has closed. Cancel safe.
    pub(super) async fn fill(&mut self, stream: &mut (impl AsyncRead + Unpin)) -> io::Result<bool> {
        self.bytes.reserve(1024);
        Ok(stream.read_buf(&mut self.bytes).await? > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::frontend;

    #[test]
    fn messages_come_one_by_one_and_whole() {
        let both = [frontend::query("a"), frontend::SYNC.to_vec()].concat();
        for cut in 0..both.len() {
            let mut reader = Reader::new(BytesMut::from(&both[..cut]));
            let mut tags = Vec::new();
            while let Some((tag, _)) = reader.next().expect("well formed") {
                tags.push(tag);
            }
            reader.bytes.extend_from_slice(&both[cut..]);
            while let Some((tag, _)) = reader.next().expect("well formed") {
                tags.push(tag);
            }
            assert_eq!(tags, b"QS", "cut at {cut}");
        }
    }

    #[test]
    fn what_is_no_message_or_too_long_is_told_before_it_is_read() {
        for (head, broken) in [
            (b"Q\0\0\0\x03", Broken::Length),
            (b"Q\xff\xff\xff\xff", Broken::Length),
            (b"Q\0\x01\0\0", Broken::TooLong),
        ] {
            let mut reader = Reader::new(BytesMut::from(&head[..]));
            assert_eq!(reader.next(), Err(broken));
        }
    }
}
