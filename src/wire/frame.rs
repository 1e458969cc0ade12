//! Finds where messages begin and end in a stream, in place and without buffering them.
//!
//! After start-up every message is one type byte, a four-byte length that counts itself, and a
//! body ("Message Formats", Postgres documentation section 55.7). A scanner remembers where in a
//! message the last chunk ended, so a message may be of any size and cut anywhere.

/// Type byte and length word.
pub const HEADER_LEN: usize = 5;

/// The largest length that a server accepts (`PQ_LARGE_MESSAGE_LIMIT`, `MaxAllocSize - 1`).
const FROM_CLIENT_MAX: u32 = 0x3fff_fffe;

/// The largest length that a server sends: a buffer of `MaxAllocSize` with a zero behind it, and the
/// length itself.
const FROM_SERVER_MAX: u32 = 0x3fff_fffe + 4;

/// The header of one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The message type byte.
    pub tag: u8,
    /// Bytes of body that follow the header.
    pub body: u32,
}

impl Header {
    /// Reads a header; `Err` when the length word cannot be one, not even of a client's message.
    #[inline]
    pub fn parse(bytes: &[u8; HEADER_LEN]) -> Result<Header, BadLength> {
        Header::parse_up_to(FROM_CLIENT_MAX, bytes)
    }

    #[inline]
    fn parse_up_to(max: u32, bytes: &[u8; HEADER_LEN]) -> Result<Header, BadLength> {
        let length = u32::from_be_bytes([bytes[1], bytes[2], bytes[3], bytes[4]]);
        if !(4..=max).contains(&length) {
            return Err(BadLength {
                tag: bytes[0],
                length,
            });
        }
        Ok(Header {
            tag: bytes[0],
            body: length - 4,
        })
    }
}

/// A length word below four, or above what any message may have.
///
/// Whoever forwards such a message disagrees with its peer about where the next one begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("message of type {tag:#04x} has the impossible length {length}")]
pub struct BadLength {
    /// The type byte in front of the length.
    pub tag: u8,
    /// The length as it was sent.
    pub length: u32,
}

/// Where in a stream of messages one direction stands.
#[derive(Debug, Clone, Copy)]
pub struct Scanner {
    header: [u8; HEADER_LEN],
    have: u8,
    left: u32,
    max: u32,
}

impl Default for Scanner {
    /// Of what a client sends.
    fn default() -> Scanner {
        Scanner::up_to(FROM_CLIENT_MAX)
    }
}

impl Scanner {
    /// Of what a server sends.
    #[must_use]
    pub fn of_server() -> Scanner {
        Scanner::up_to(FROM_SERVER_MAX)
    }

    /// One for the same direction, in front of a message.
    #[must_use]
    pub fn anew(&self) -> Scanner {
        Scanner::up_to(self.max)
    }

    fn up_to(max: u32) -> Scanner {
        Scanner {
            header: [0; HEADER_LEN],
            have: 0,
            left: 0,
            max,
        }
    }

    /// Whether the next byte is a type byte.
    #[inline]
    #[must_use]
    pub fn at_frame_start(&self) -> bool {
        self.have == 0 && self.left == 0
    }

    /// Whether a header was read and bytes of its body are still to come.
    #[inline]
    #[must_use]
    pub fn in_body(&self) -> bool {
        self.left > 0
    }

    /// The type byte of the message under way, once its first byte was seen.
    #[must_use]
    pub fn tag(&self) -> Option<u8> {
        (!self.at_frame_start()).then_some(self.header[0])
    }

    /// The message at the front of `bytes`, if all of it is there: its type, and how long it is with its
    /// header. Whoever takes it steps over it; to the scanner it is as if it had not been.
    ///
    /// `None` in the middle of a message, and for one that is cut or whose length cannot be one: these are
    /// for [`Scanner::header`] and [`Scanner::body`].
    #[inline]
    #[must_use]
    pub fn whole(&self, bytes: &[u8]) -> Option<(u8, usize)> {
        let [tag, length @ ..] = *bytes.first_chunk::<HEADER_LEN>()?;
        let length = u32::from_be_bytes(length);
        let end = usize::try_from(length).ok()?.checked_add(1)?;
        let good = self.at_frame_start() && (4..=self.max).contains(&length) && end <= bytes.len();
        good.then_some((tag, end))
    }

    /// Reads on in a header from `bytes[*at..]`; `None` when the bytes end before it does.
    ///
    /// Must not be called inside a body. Behind a length that cannot be one nothing can be read; of
    /// a header that came in pieces it remains known that it was begun.
    #[inline]
    pub fn header(&mut self, bytes: &[u8], at: &mut usize) -> Result<Option<Header>, BadLength> {
        debug_assert!(
            !self.in_body(),
            "a body is skipped before the next header is read"
        );
        let rest = &bytes[*at..];
        if self.have == 0
            && let Some(header) = rest.first_chunk::<HEADER_LEN>()
        {
            // The tag is kept so that `tag` can name the message while its body passes.
            self.header[0] = header[0];
            *at += HEADER_LEN;
            return self.begin_body(Header::parse_up_to(self.max, header)?);
        }
        for byte in rest {
            self.header[usize::from(self.have)] = *byte;
            *at += 1;
            if usize::from(self.have) + 1 == HEADER_LEN {
                let header = Header::parse_up_to(self.max, &self.header)?;
                self.have = 0;
                return self.begin_body(header);
            }
            self.have += 1;
        }
        Ok(None)
    }

    /// Skips what `bytes[*at..]` holds of the body; true once the message has ended.
    #[inline]
    pub fn body(&mut self, bytes: &[u8], at: &mut usize) -> bool {
        let there = bytes.len() - *at;
        let left = usize::try_from(self.left).unwrap_or(usize::MAX);
        let step = there.min(left);
        *at += step;
        // `step` is at most `left`, which is a u32.
        self.left -= u32::try_from(step).unwrap_or(self.left);
        self.left == 0
    }

    /// How many bytes at the front of `bytes` belong to a message that began before them, and whether it
    /// ends with them; of one whose length cannot be one, what there is of its header.
    #[must_use]
    pub fn rest(&self, bytes: &[u8]) -> (usize, bool) {
        let (mut probe, mut at) = (*self, 0);
        if probe.at_frame_start() {
            return (0, false);
        }
        let in_body = probe.in_body() || matches!(probe.header(bytes, &mut at), Ok(Some(_)));
        let ends = in_body && probe.body(bytes, &mut at);
        (at, ends)
    }

    /// The type byte of the message whose header was read last.
    #[inline]
    #[must_use]
    pub fn last_tag(&self) -> u8 {
        self.header[0]
    }

    /// Always `Ok(Some(header))`: the shape lets `header` end in a tail call.
    #[inline]
    fn begin_body(&mut self, header: Header) -> Result<Option<Header>, BadLength> {
        self.left = header.body;
        Ok(Some(header))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Every message as (tag, body length), read in chunks that end where `cuts` say.
    fn scan(stream: &[u8], cuts: &[usize]) -> Result<Vec<(u8, u32)>, BadLength> {
        let mut scanner = Scanner::default();
        let mut found = Vec::new();
        let mut from = 0;
        for to in cuts.iter().copied().chain([stream.len()]) {
            let chunk = &stream[from..to];
            let mut at = 0;
            while at < chunk.len() {
                if scanner.in_body() {
                    scanner.body(chunk, &mut at);
                } else if let Some(header) = scanner.header(chunk, &mut at)? {
                    found.push((header.tag, header.body));
                }
            }
            from = to;
        }
        Ok(found)
    }

    #[test]
    fn a_length_below_its_own_size_is_refused() {
        assert_eq!(
            scan(b"Q\0\0\0\x03", &[]),
            Err(BadLength {
                tag: b'Q',
                length: 3
            })
        );
    }

    #[test]
    fn a_length_above_what_postgres_takes_is_refused() {
        assert!(scan(b"Q\x7f\xff\xff\xff", &[2]).is_err());
    }

    #[test]
    fn a_server_may_send_four_bytes_more_than_it_takes() {
        for (length, client, server) in [
            (0x3fff_fffe_u32, true, true),
            (0x3fff_ffff, false, true),
            (0x4000_0002, false, true),
            (0x4000_0003, false, false),
        ] {
            let header = [b"D".as_slice(), &length.to_be_bytes()].concat();
            for (mut scanner, good) in
                [(Scanner::default(), client), (Scanner::of_server(), server)]
            {
                let read = scanner.header(&header, &mut 0);
                assert_eq!(read.is_ok(), good, "{length:#x}");
            }
        }
    }

    #[test]
    fn a_bad_header_that_was_begun_stays_begun() {
        let mut scanner = Scanner::default();
        assert_eq!(scanner.header(b"Q\0", &mut 0), Ok(None));
        assert!(scanner.header(b"\0\0\x03", &mut 0).is_err());
        assert!(!scanner.at_frame_start());
    }

    proptest! {
        #[test]
        fn messages_are_found_wherever_the_stream_is_cut(
            messages in prop::collection::vec((any::<u8>(), 0_u32..40), 0..12),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        ) {
            let mut stream = Vec::new();
            for (tag, body) in &messages {
                stream.push(*tag);
                stream.extend_from_slice(&(body + 4).to_be_bytes());
                stream.resize(stream.len() + *body as usize, 0xAA);
            }
            let mut cuts: Vec<usize> = cuts.iter().map(|c| c.index(stream.len() + 1)).collect();
            cuts.sort_unstable();
            prop_assert_eq!(scan(&stream, &cuts), Ok(messages));
        }

        #[test]
        fn a_whole_message_is_what_header_and_body_find(
            tag in any::<u8>(),
            length in prop_oneof![0_u32..12, any::<u32>()],
            there in 0_usize..12,
        ) {
            let stream = [&[tag][..], &length.to_be_bytes(), &[0xAA; 12]].concat();
            let bytes = &stream[..there];
            let (mut scanner, mut at) = (Scanner::default(), 0);
            let header = scanner.header(bytes, &mut at);
            let found = match header {
                Ok(Some(header)) => scanner.body(bytes, &mut at).then_some((header.tag, at)),
                Ok(None) | Err(_) => None,
            };
            prop_assert_eq!(Scanner::default().whole(bytes), found);
            if !scanner.at_frame_start() {
                prop_assert_eq!(scanner.whole(&stream), None);
            }
        }
    }
}
