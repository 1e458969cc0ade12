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

/// The newest minor version of the protocol: its cancel keys may have up to 256 bytes.
pub const MINOR_MAX: u16 = 2;

/// How the names of protocol options begin.
const OPTION: &str = "_pq_.";

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

    /// The minor version of the protocol that the client asks for; the major one is 3.
    #[must_use]
    pub fn minor(&self) -> u16 {
        let minor = self.packet.get(6..8);
        minor.map_or(0, |minor| u16::from_be_bytes([minor[0], minor[1]]))
    }

    /// The minor version that is spoken with whoever answers for us: no newer one than exists.
    #[must_use]
    pub fn spoken_minor(&self) -> u16 {
        self.minor().min(MINOR_MAX)
    }

    /// The names of protocol options, of which there are none that anybody knows.
    #[must_use]
    pub fn protocol_options(&self) -> Vec<&str> {
        let names = self.parameters.iter().map(|(name, _)| name.as_str());
        names.filter(|name| name.starts_with(OPTION)).collect()
    }

    /// The packet with what we have settled with the client taken out: a version that does not
    /// exist, and protocol options.
    #[must_use]
    pub fn settled_packet(&self) -> Vec<u8> {
        let mut packet = vec![0, 0, 0, 0, 0, 3];
        packet.extend(self.spoken_minor().to_be_bytes());
        let mut strings = self.packet[8..].split_inclusive(|byte| *byte == 0);
        while let (Some(name), Some(value)) = (strings.next(), strings.next()) {
            if !name.starts_with(OPTION.as_bytes()) {
                packet.extend_from_slice(name);
                packet.extend_from_slice(value);
            }
        }
        packet.push(0);
        let length = u32::try_from(packet.len()).expect("no longer than it was");
        packet[..4].copy_from_slice(&length.to_be_bytes());
        packet
    }

    /// A parameter by its name; where a client sends one twice the last counts, as in the server.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<&str> {
        let mut found = self.parameters.iter().rev();
        found
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// The bytes of a parameter as the client sent them.
    #[must_use]
    pub fn parameter_bytes(&self, name: &str) -> Option<&[u8]> {
        let mut found = None;
        for (key, value) in self.pairs() {
            if key == name.as_bytes() {
                found = Some(value);
            }
        }
        found
    }

    /// The same packet with one parameter of another value, or one more; the bytes of all others
    /// and the version are as they were. `None` when no start-up packet can hold that: the value
    /// has a zero byte, or the packet would be longer than [`PACKET_MAX`].
    #[must_use]
    pub fn with_parameter(&self, name: &str, value: &[u8]) -> Option<Startup> {
        let mut packet = self.packet[..PACKET_MIN].to_vec();
        let mut put = |key: &[u8], value: &[u8]| {
            for text in [key, value] {
                packet.extend_from_slice(text);
                packet.push(0);
            }
        };
        for (key, value) in self.pairs().filter(|(key, _)| *key != name.as_bytes()) {
            put(key, value);
        }
        put(name.as_bytes(), value);
        packet.push(0);
        let length = u32::try_from(packet.len()).ok()?;
        if packet.len() > PACKET_MAX || value.contains(&0) || name.is_empty() || name.contains('\0')
        {
            return None;
        }
        packet[..4].copy_from_slice(&length.to_be_bytes());
        match parse(&packet) {
            Ok(First::Startup(startup)) => Some(startup),
            Ok(First::Ssl | First::GssEncryption | First::Cancel(_)) | Err(_) => None,
        }
    }

    /// The same packet without a parameter.
    #[must_use]
    pub fn without_parameter(&self, name: &str) -> Startup {
        let mut packet = self.packet[..PACKET_MIN].to_vec();
        for (key, value) in self.pairs().filter(|(key, _)| *key != name.as_bytes()) {
            for text in [key, value] {
                packet.extend_from_slice(text);
                packet.push(0);
            }
        }
        packet.push(0);
        let length = u32::try_from(packet.len()).expect("no longer than it was");
        packet[..4].copy_from_slice(&length.to_be_bytes());
        let mut parameters = self.parameters.clone();
        parameters.retain(|(key, _)| key != name);
        Startup {
            packet: packet.into(),
            parameters,
        }
    }

    /// Names and values in order, as they were sent.
    fn pairs(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut texts = self.packet[PACKET_MIN..].split(|byte| *byte == 0);
        std::iter::from_fn(move || {
            let key = texts.next().filter(|key| !key.is_empty())?;
            Some((key, texts.next()?))
        })
    }

    /// What kind of replication it asks for, as the server reads it: `database` exactly, or any
    /// spelling of a boolean; where it is named twice the server lets both act. A value that is
    /// neither, the server refuses.
    #[must_use]
    pub fn replication(&self) -> Option<Replication> {
        let (mut sender, mut of_database) = (false, false);
        for (_, value) in self.pairs().filter(|(key, _)| *key == b"replication") {
            if value == b"database" {
                (sender, of_database) = (true, true);
            } else {
                sender = is_true(value);
            }
        }
        match (sender, of_database) {
            (true, true) => Some(Replication::Logical),
            (true, false) => Some(Replication::Physical),
            (false, _) => None,
        }
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

/// What a connection of the streaming replication protocol may ask for (Postgres documentation
/// section 55.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replication {
    /// The log of the whole cluster, and base backups; it belongs to no database.
    Physical,
    /// The changes of one database, and SQL in it.
    Logical,
}

/// The server's `parse_bool`: the beginning of `true`, `yes` or `on` in any case, or `1`.
fn is_true(value: &[u8]) -> bool {
    let begins = |word: &[u8], least: usize| {
        (least..=word.len()).contains(&value.len())
            && value.eq_ignore_ascii_case(&word[..value.len()])
    };
    begins(b"true", 1) || begins(b"yes", 1) || begins(b"on", 2) || value == b"1"
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
mod tests;
