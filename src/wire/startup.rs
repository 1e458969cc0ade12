//! What a client sends first: a start-up packet, an encryption request, or a cancel request.
//!
//! These packets have no type byte (Postgres documentation, "Start-up" in section 55.2.1). The
//! original bytes are kept, because the start-up packet is forwarded as it came.

use std::fmt;

/// `MAX_STARTUP_PACKET_LENGTH` of the server, and the length word, which it does not count.
pub const PACKET_MAX: usize = 10_000 + 4;

/// The longest name of a user or a database; the server cuts off what is longer (`NAMEDATALEN`).
const NAME_MAX: usize = 63;

/// The smallest packet: a length and a code.
pub const PACKET_MIN: usize = 8;

const CANCEL_REQUEST: u32 = 80_877_102;
const SSL_REQUEST: u32 = 80_877_103;
const GSS_ENCRYPTION_REQUEST: u32 = 80_877_104;

/// A client's first packet.
#[derive(Debug, PartialEq, Eq)]
pub enum First {
    /// `SSLRequest`.
    Ssl,
    /// `GSSENCRequest`.
    GssEncryption,
    /// `CancelRequest`: stop what the session with this key runs.
    Cancel(CancelKey),
    /// `StartupMessage`.
    Startup(Startup),
}

/// What a `CancelRequest` names a session by; the secret is 4 to 256 opaque bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct CancelKey {
    /// The server's process id.
    pub pid: i32,
    /// The secret of `BackendKeyData`.
    pub secret: Box<[u8]>,
}

impl fmt::Debug for CancelKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CancelKey {{ pid: {}, secret: *** }}", self.pid)
    }
}

/// A `StartupMessage`: its parameters, and the packet itself for forwarding.
#[derive(Clone, PartialEq, Eq)]
pub struct Startup {
    packet: Box<[u8]>,
    parameters: Vec<(String, String)>,
}

impl Startup {
    /// The packet as the client sent it, the length word included.
    #[must_use]
    pub fn packet(&self) -> &[u8] {
        &self.packet
    }

    /// A parameter by its name; where a client sends one twice the last counts, as in the server.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<&str> {
        let mut found = self.parameters.iter().rev();
        found
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// The user name; a start-up packet has one.
    #[must_use]
    pub fn user(&self) -> &str {
        self.parameter("user").unwrap_or_default()
    }

    /// The database asked for: the user's name where none is given, as the server has it.
    #[must_use]
    pub fn database(&self) -> &str {
        self.parameter("database")
            .filter(|name| !name.is_empty())
            .unwrap_or(self.user())
    }
}

impl fmt::Debug for Startup {
    /// Names user and database alone: `options` may carry a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Startup {{ user: {:?}, database: {:?} }}",
            self.user(),
            self.database()
        )
    }
}

/// Why a first packet is not one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadPacket {
    /// The length word is below [`PACKET_MIN`] or above [`PACKET_MAX`].
    #[error("invalid length of startup packet")]
    Length,
    /// A protocol version other than 3.x.
    #[error("unsupported frontend protocol {0}.{1}: server supports 3.0 to 3.2")]
    Version(u16, u16),
    /// Parameters that do not end, or end before the packet does.
    #[error("invalid startup packet layout: expected terminator as last byte")]
    Layout,
    /// No user name among the parameters.
    #[error("no PostgreSQL user name specified in startup packet")]
    NoUser,
}

/// The full length of a packet from its length word.
pub fn packet_length(word: [u8; 4]) -> Result<usize, BadPacket> {
    let length = usize::try_from(u32::from_be_bytes(word)).unwrap_or(usize::MAX);
    if (PACKET_MIN..=PACKET_MAX).contains(&length) {
        Ok(length)
    } else {
        Err(BadPacket::Length)
    }
}

/// Reads one whole packet, its length word included.
pub fn parse(packet: &[u8]) -> Result<First, BadPacket> {
    let (Some(_), Some(code)) = (packet.get(..4), packet.get(4..8)) else {
        return Err(BadPacket::Length);
    };
    let body = &packet[8..];
    match u32::from_be_bytes([code[0], code[1], code[2], code[3]]) {
        SSL_REQUEST if body.is_empty() => Ok(First::Ssl),
        GSS_ENCRYPTION_REQUEST if body.is_empty() => Ok(First::GssEncryption),
        SSL_REQUEST | GSS_ENCRYPTION_REQUEST => Err(BadPacket::Length),
        CANCEL_REQUEST => cancel(body),
        version => startup(packet, version),
    }
}

fn cancel(body: &[u8]) -> Result<First, BadPacket> {
    let (Some(pid), Some(secret)) = (body.first_chunk::<4>(), body.get(4..)) else {
        return Err(BadPacket::Length);
    };
    if !(4..=256).contains(&secret.len()) {
        return Err(BadPacket::Length);
    }
    Ok(First::Cancel(CancelKey {
        pid: i32::from_be_bytes(*pid),
        secret: secret.into(),
    }))
}

fn startup(packet: &[u8], version: u32) -> Result<First, BadPacket> {
    // The two halves of a u32 are u16 by construction.
    let [a, b, c, d] = version.to_be_bytes();
    let (major, minor) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    if major != 3 {
        return Err(BadPacket::Version(major, minor));
    }
    let mut rest = &packet[8..];
    let mut parameters = Vec::new();
    loop {
        let name = take_cstring(&mut rest)?;
        if name.is_empty() {
            break;
        }
        let mut value = take_bytes(&mut rest)?;
        if matches!(name.as_str(), "user" | "database") {
            // Or a longer name would be the same database, and behind another gate.
            value = &value[..value.len().min(NAME_MAX)];
        }
        parameters.push((name, String::from_utf8_lossy(value).into_owned()));
    }
    if !rest.is_empty() {
        return Err(BadPacket::Layout);
    }
    let startup = Startup {
        packet: packet.into(),
        parameters,
    };
    if startup.user().is_empty() {
        Err(BadPacket::NoUser)
    } else {
        Ok(First::Startup(startup))
    }
}

/// Takes a zero-terminated string off the front. Names that are not UTF-8 only lose their
/// spelling in our reports: the packet itself is forwarded untouched.
fn take_cstring(rest: &mut &[u8]) -> Result<String, BadPacket> {
    take_bytes(rest).map(|text| String::from_utf8_lossy(text).into_owned())
}

/// The same as bytes.
fn take_bytes<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], BadPacket> {
    let end = rest
        .iter()
        .position(|byte| *byte == 0)
        .ok_or(BadPacket::Layout)?;
    let text = &rest[..end];
    *rest = &rest[end + 1..];
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn packet(code: u32, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 8).expect("test packets are short");
        [&length.to_be_bytes()[..], &code.to_be_bytes()[..], body].concat()
    }

    #[test]
    fn a_startup_packet_names_user_and_database() {
        let packet = packet(0x0003_0000, b"user\0anna\0database\0shop\0\0");
        let Ok(First::Startup(startup)) = parse(&packet) else {
            panic!("not a start-up packet")
        };
        assert_eq!((startup.user(), startup.database()), ("anna", "shop"));
        assert_eq!(startup.packet(), packet);
    }

    #[test]
    fn the_database_defaults_to_the_user() {
        let Ok(First::Startup(startup)) = parse(&packet(0x0003_0002, b"user\0anna\0\0")) else {
            panic!("not a start-up packet")
        };
        assert_eq!(startup.database(), "anna");
    }

    #[test]
    fn names_are_cut_where_the_server_cuts_them() {
        let (long, cut) = ("n".repeat(70), "n".repeat(63));
        for (body, user, database) in [
            (format!("user\0{long}\0\0"), cut.as_str(), cut.as_str()),
            (format!("user\0u\0database\0{long}\0\0"), "u", &cut),
            (format!("user\0u\0database\0{cut}\0\0"), "u", &cut),
        ] {
            let Ok(First::Startup(startup)) = parse(&packet(0x0003_0000, body.as_bytes())) else {
                panic!("not a start-up packet")
            };
            assert_eq!((startup.user(), startup.database()), (user, database));
        }
    }

    #[test]
    fn bad_packets_say_what_is_wrong() {
        let cases: &[(u32, &[u8], BadPacket)] = &[
            (0x0003_0000, b"user\0anna\0", BadPacket::Layout),
            (0x0003_0000, b"user\0anna\0\0tail", BadPacket::Layout),
            (0x0003_0000, b"database\0shop\0\0", BadPacket::NoUser),
            (0x0002_0000, b"user\0anna\0\0", BadPacket::Version(2, 0)),
            (CANCEL_REQUEST, b"\0\0\0\x01abc", BadPacket::Length),
            (SSL_REQUEST, b"x", BadPacket::Length),
        ];
        for (code, body, expected) in cases {
            assert_eq!(
                parse(&packet(*code, body)),
                Err(*expected),
                "{code:#x} {body:?}"
            );
        }
    }

    #[test]
    fn a_secret_never_shows_in_a_debug_text() {
        let key = CancelKey {
            pid: 7,
            secret: (*b"very secret").into(),
        };
        assert!(!format!("{key:?}").contains("very"));
    }

    proptest! {
        #[test]
        fn no_packet_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn no_parameters_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&packet(0x0003_0000, &body));
        }
    }
}
