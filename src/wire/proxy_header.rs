//! The PROXY protocol's header, versions 1 and 2: where a connection comes from, told by the proxy
//! in front of us.
//!
//! The addresses are read by the crate `proxy-header`; here is where a header ends, and what it
//! means. A stranger's length is looked at and never allocated.

use std::net::SocketAddr;

use proxy_header::{Error, ParseConfig, Protocol, ProxyHeader};

/// The longest header that is read. One of version 1 has at most 107 bytes; one of version 2 could
/// have 65 551, of which 36 are addresses and the rest notes to a backend, which we skip. What
/// proxies send there (unique ids, the name and state of a TLS connection) is well below this.
pub const HEADER_MAX: usize = 4096;

/// `PROXY TCP6` with two whole addresses and ports, or `UNKNOWN` with as much behind it.
const TEXT_MAX: usize = 107;

/// `PROXY UNKNOWN` and the end of the line.
const TEXT_MIN: usize = 15;

const TEXT: &[u8] = b"PROXY ";
const BINARY: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Signature, version and command, family, length.
const BINARY_MIN: usize = 16;

/// Version 2, command LOCAL.
const LOCAL: u8 = 0x20;

/// Whom a header names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The client has this address.
    Client(SocketAddr),
    /// There is a client, and its address is not told (`UNKNOWN`, `AF_UNSPEC`) or is not of the
    /// internet (`AF_UNIX`).
    Untold,
    /// There is no client: the proxy itself connects, to see whether we are there.
    Proxy,
}

/// What the front of a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Front {
    /// The beginning of a header, of which at least so many bytes are missing. Whoever reads no more
    /// than these never reads past the header.
    Part(usize),
    /// A header.
    Header {
        /// Its bytes.
        length: usize,
        /// Whom it names.
        origin: Origin,
    },
}

/// Why bytes are no header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadHeader {
    /// Something else comes, or a header that says nothing.
    #[error("invalid PROXY header")]
    Invalid,
    /// More than [`HEADER_MAX`].
    #[error("PROXY header of {0} bytes, which is too long")]
    TooLong(usize),
}

/// Reads the header at the front of `bytes`.
///
/// # Errors
/// As soon as no header can become of it.
pub fn parse(bytes: &[u8]) -> Result<Front, BadHeader> {
    let length = if begins(bytes, TEXT) {
        text_length(bytes)?
    } else if begins(bytes, BINARY) {
        binary_length(bytes)?
    } else {
        return Err(BadHeader::Invalid);
    };
    let Some(header) = bytes.get(..length) else {
        return Ok(Front::Part(length - bytes.len()));
    };
    // "The receiver must accept this connection and discard the protocol block including the
    // family": the crate would read it.
    if header.starts_with(BINARY) && header[BINARY.len()] == LOCAL {
        let origin = Origin::Proxy;
        return Ok(Front::Header { length, origin });
    }
    let config = ParseConfig {
        include_tlvs: false,
        ..ParseConfig::default()
    };
    match ProxyHeader::parse(header, config) {
        Ok((read, used)) if used == length => {
            let origin = match read.proxied_address() {
                Some(address) if address.protocol == Protocol::Stream => {
                    Origin::Client(address.source)
                }
                Some(_datagrams) => return Err(BadHeader::Invalid),
                None => Origin::Untold,
            };
            Ok(Front::Header { length, origin })
        }
        Ok(_) => Err(BadHeader::Invalid),
        Err(
            Error::BufferTooShort
            | Error::Invalid
            | Error::AddressFamilyMismatch
            | Error::HeaderTooBig
            | Error::V1UnsupportedTlv
            | Error::V1UnsupportedProtocol,
        ) => Err(BadHeader::Invalid),
    }
}

/// Whether `bytes` are the beginning of what begins with `signature`.
fn begins(bytes: &[u8], signature: &[u8]) -> bool {
    let both = bytes.len().min(signature.len());
    bytes[..both] == signature[..both]
}

/// Up to the end of the line; if that is not there, no more than there must be.
fn text_length(bytes: &[u8]) -> Result<usize, BadHeader> {
    let line = &bytes[..bytes.len().min(TEXT_MAX)];
    match line.windows(2).position(|two| two == b"\r\n") {
        Some(at) => Ok(at + 2),
        None if line.len() == TEXT_MAX => Err(BadHeader::Invalid),
        None if line.ends_with(b"\r") => Ok((line.len() + 1).max(TEXT_MIN)),
        None => Ok((line.len() + 2).max(TEXT_MIN)),
    }
}

/// As it says; if that is not there, no more than there must be.
fn binary_length(bytes: &[u8]) -> Result<usize, BadHeader> {
    let Some(word) = bytes.get(BINARY_MIN - 2..BINARY_MIN) else {
        return Ok(BINARY_MIN);
    };
    let length = BINARY_MIN + usize::from(u16::from_be_bytes([word[0], word[1]]));
    if length > HEADER_MAX {
        return Err(BadHeader::TooLong(length));
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A header of version 2 with this command, family and block.
    fn binary(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
        let length = u16::try_from(block.len()).expect("a short block");
        let word = length.to_be_bytes();
        [BINARY, &[command, family], &word, block].concat()
    }

    const V4: &[u8] = &[10, 0, 0, 7, 192, 168, 0, 1, 0x30, 0x39, 0x19, 0x20];

    fn v6() -> Vec<u8> {
        let mut block = [0; 36];
        (block[0], block[15], block[31]) = (0xfd, 7, 1);
        block[32..34].copy_from_slice(&12345_u16.to_be_bytes());
        block.to_vec()
    }

    #[test]
    fn headers_say_who_connects() {
        let client = |text: &str| Origin::Client(text.parse().expect("an address"));
        let notes = [V4, &[0x04, 0, 200], &[0; 200]].concat();
        let cases = [
            (
                b"PROXY TCP4 10.0.0.7 192.168.0.1 12345 6432\r\n".to_vec(),
                client("10.0.0.7:12345"),
            ),
            (
                b"PROXY TCP6 fd00::7 ::1 12345 6432\r\n".to_vec(),
                client("[fd00::7]:12345"),
            ),
            (b"PROXY UNKNOWN\r\n".to_vec(), Origin::Untold),
            (
                b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n".to_vec(),
                Origin::Untold,
            ),
            (binary(0x21, 0x11, V4), client("10.0.0.7:12345")),
            (binary(0x21, 0x11, &notes), client("10.0.0.7:12345")),
            (binary(0x21, 0x21, &v6()), client("[fd00::7]:12345")),
            (binary(0x21, 0x31, &[b'x'; 216]), Origin::Untold),
            (binary(0x21, 0x00, b""), Origin::Untold),
            (binary(0x20, 0x00, b""), Origin::Proxy),
            // Whatever block a LOCAL header carries, nobody reads it.
            (binary(0x20, 0x11, b""), Origin::Proxy),
            (binary(0x20, 0xee, b"xyz"), Origin::Proxy),
        ];
        for (header, origin) in cases {
            let name = header.escape_ascii().to_string();
            for length in 0..header.len() {
                // Reading what is missing never reads past the header.
                match parse(&header[..length]) {
                    Ok(Front::Part(missing)) if missing > 0 => {
                        assert!(length + missing <= header.len(), "{length} bytes of {name}");
                    }
                    other => panic!("{length} bytes of {name}: {other:?}"),
                }
            }
            let length = header.len();
            let whole = Ok(Front::Header { length, origin });
            assert_eq!(parse(&header), whole, "{name}");
            // What comes behind it is not touched.
            let more = [&header[..], b"\x00\x00\x00\x08\r\n"].concat();
            assert_eq!(parse(&more), whole, "{name}");
        }
    }

    #[test]
    fn what_is_no_header_is_refused_at_once() {
        let long = [b"PROXY UNKNOWN ".as_slice(), &[b'x'; 100]].concat();
        let cases: &[&[u8]] = &[
            b"\x00\x00\x00\x08\x04\xd2\x16\x2f",
            b"\x16\x03\x01",
            b"GET / HTTP/1.1\r\n",
            b"PROXY\tTCP4 1.1.1.1 2.2.2.2 1 2\r\n",
            b"PROXY TCP4 1.1.1.1 2.2.2.2 1\r\n",
            b"PROXY TCP4 1.1.1.1 2.2.2.2 1 65536\r\n",
            b"PROXY TCP4 fd00::1 2.2.2.2 1 2\r\n",
            b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2 3\r\n",
            b"PROXY UDP4 1.1.1.1 2.2.2.2 1 2\r\n",
            &long,
            &binary(0x21, 0x12, V4),
            &binary(0x21, 0x11, &V4[..11]),
            &binary(0x21, 0x21, V4),
            &binary(0x21, 0x31, &[0; 215]),
            &binary(0x21, 0x41, V4),
            &binary(0x11, 0x11, V4),
            &binary(0x22, 0x11, V4),
        ];
        for bytes in cases {
            assert_eq!(
                parse(bytes),
                Err(BadHeader::Invalid),
                "{}",
                bytes.escape_ascii()
            );
        }
    }

    #[test]
    fn a_long_header_is_refused_before_it_comes() {
        let all = binary(0x21, 0x11, &[0; HEADER_MAX]);
        let expected = Err(BadHeader::TooLong(HEADER_MAX + BINARY_MIN));
        assert_eq!(parse(&all[..BINARY_MIN]), expected);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(
            which in 0..3_usize,
            bytes in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let begin = [b"".as_slice(), b"PROXY TCP", BINARY][which];
            let bytes = [begin, &bytes].concat();
            match parse(&bytes) {
                Ok(Front::Header { length, .. }) => prop_assert!(length <= bytes.len()),
                Ok(Front::Part(missing)) => prop_assert!((1..HEADER_MAX).contains(&missing)),
                Err(_) => {}
            }
        }

        #[test]
        fn what_a_proxy_writes_is_read(source: SocketAddr, v1: bool) {
            let destination: SocketAddr = if source.is_ipv4() { "127.0.0.1:1" } else { "[::1]:1" }
                .parse()
                .expect("an address");
            let address = proxy_header::ProxiedAddress::stream(source, destination);
            let header = ProxyHeader::with_address(address);
            let mut bytes = Vec::new();
            let written = if v1 { header.encode_v1(&mut bytes) } else { header.encode_v2(&mut bytes) };
            prop_assert!(written.is_ok());
            // Flow labels and scopes do not travel.
            let plain = SocketAddr::new(source.ip(), source.port());
            let (length, origin) = (bytes.len(), Origin::Client(plain));
            prop_assert_eq!(parse(&bytes), Ok(Front::Header { length, origin }));
        }
    }
}
