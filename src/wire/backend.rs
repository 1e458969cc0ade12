//! The types of messages that a server sends, and readers for the few that we look into.

use bytes::{BufMut, BytesMut};
use pgwire::messages::Message;
use pgwire::messages::startup::{BackendKeyData, NegotiateProtocolVersion, SecretKey};

use super::startup::CancelKey;

/// Type bytes of backend messages (Postgres documentation section 55.7).
pub mod tag {
    /// `Authentication*`.
    pub const AUTHENTICATION: u8 = b'R';
    /// `BackendKeyData`.
    pub const BACKEND_KEY_DATA: u8 = b'K';
    /// `BindComplete`.
    pub const BIND_COMPLETE: u8 = b'2';
    /// `CloseComplete`.
    pub const CLOSE_COMPLETE: u8 = b'3';
    /// `CommandComplete`.
    pub const COMMAND_COMPLETE: u8 = b'C';
    /// `CopyBothResponse`.
    pub const COPY_BOTH: u8 = b'W';
    /// `CopyData`.
    pub const COPY_DATA: u8 = b'd';
    /// `CopyInResponse`.
    pub const COPY_IN: u8 = b'G';
    /// `DataRow`.
    pub const DATA_ROW: u8 = b'D';
    /// `EmptyQueryResponse`.
    pub const EMPTY_QUERY: u8 = b'I';
    /// `ErrorResponse`.
    pub const ERROR: u8 = b'E';
    /// `NegotiateProtocolVersion`.
    pub const NEGOTIATE_PROTOCOL_VERSION: u8 = b'v';
    /// `FunctionCallResponse`.
    pub const FUNCTION_CALL_RESPONSE: u8 = b'V';
    /// `NoData`.
    pub const NO_DATA: u8 = b'n';
    /// `NoticeResponse`.
    pub const NOTICE: u8 = b'N';
    /// `ParseComplete`.
    pub const PARSE_COMPLETE: u8 = b'1';
    /// `NotificationResponse`.
    pub const NOTIFICATION: u8 = b'A';
    /// `ParameterStatus`.
    pub const PARAMETER_STATUS: u8 = b'S';
    /// `PortalSuspended`.
    pub const PORTAL_SUSPENDED: u8 = b's';
    /// `ReadyForQuery`.
    pub const READY_FOR_QUERY: u8 = b'Z';
    /// `RowDescription`.
    pub const ROW_DESCRIPTION: u8 = b'T';
}

/// Codes of `Authentication*` messages.
pub mod request {
    /// `AuthenticationOk`.
    pub const OK: i32 = 0;
    /// `AuthenticationCleartextPassword`.
    pub const CLEARTEXT: i32 = 3;
    /// `AuthenticationMD5Password`: a salt of four bytes follows.
    pub const MD5: i32 = 5;
    /// `AuthenticationSASL`: names of mechanisms follow.
    pub const SASL: i32 = 10;
    /// `AuthenticationSASLContinue`: data of the mechanism follow.
    pub const SASL_CONTINUE: i32 = 11;
    /// `AuthenticationSASLFinal`: data of the mechanism follow.
    pub const SASL_FINAL: i32 = 12;
}

/// `ReadyForQuery` with status "idle".
pub const READY_IDLE: [u8; 6] = [tag::READY_FOR_QUERY, 0, 0, 0, 5, b'I'];

/// `ReadyForQuery` with this status byte.
#[must_use]
pub fn ready_for_query(status: u8) -> [u8; 6] {
    [tag::READY_FOR_QUERY, 0, 0, 0, 5, status]
}

/// A whole `CommandComplete` with this tag, which is short and holds no zero.
#[must_use]
pub fn command_complete(command: &str) -> Vec<u8> {
    let length = u32::try_from(command.len() + 5).expect("tags are short");
    let mut message = vec![tag::COMMAND_COMPLETE];
    message.extend(length.to_be_bytes());
    message.extend(command.bytes());
    message.push(0);
    message
}

/// A field of the body of an `ErrorResponse` or `NoticeResponse`, by its code.
#[must_use]
pub fn error_field(body: &[u8], code: u8) -> Option<&[u8]> {
    let mut fields = body.split(|byte| *byte == 0);
    fields.find_map(|field| match field.split_first() {
        Some((first, text)) if *first == code => Some(text),
        Some(_) | None => None,
    })
}

/// What an `Authentication*` message asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Authentication {
    /// `AuthenticationOk`: the client is let in.
    Ok,
    /// A challenge that the client must answer.
    Challenge,
    /// The last words of a SASL exchange, which the client does not answer.
    Final,
}

/// Reads the code of an `Authentication*` body; `None` when it is too short.
#[must_use]
pub fn authentication(body: &[u8]) -> Option<Authentication> {
    Some(match i32::from_be_bytes(*body.first_chunk()?) {
        request::OK => Authentication::Ok,
        request::SASL_FINAL => Authentication::Final,
        _ => Authentication::Challenge,
    })
}

/// Reads the body of `BackendKeyData`; `None` when it cannot be one.
#[must_use]
pub fn key_data(body: &[u8]) -> Option<CancelKey> {
    let pid = i32::from_be_bytes(*body.first_chunk()?);
    let secret = body
        .get(4..)
        .filter(|secret| (4..=256).contains(&secret.len()))?;
    Some(CancelKey {
        pid,
        secret: secret.into(),
    })
}

/// A whole `BackendKeyData` message.
#[must_use]
pub fn backend_key_data(key: &CancelKey) -> BytesMut {
    let secret = SecretKey::Bytes(bytes::Bytes::copy_from_slice(&key.secret));
    let mut message = BytesMut::new();
    BackendKeyData::new(key.pid, secret)
        .encode(&mut message)
        .expect("a key that was received has 4 to 256 bytes");
    message
}

/// A whole `Authentication*` message: its code and what follows it.
#[must_use]
pub fn authentication_request(code: i32, data: &[u8]) -> BytesMut {
    let length = u32::try_from(data.len() + 8).expect("requests of ours are short");
    let mut message = BytesMut::with_capacity(data.len() + 9);
    message.put_u8(tag::AUTHENTICATION);
    message.put_u32(length);
    message.put_i32(code);
    message.put_slice(data);
    message
}

/// Reads the mechanisms of an `AuthenticationSASL`, whose code has been read; `None` when the list
/// does not end as one.
#[must_use]
pub fn mechanisms(data: &[u8]) -> Option<Vec<&[u8]>> {
    let mut names: Vec<&[u8]> = data.split(|byte| *byte == 0).collect();
    // A zero ends each name and one more the list: two empty rests.
    match (names.pop(), names.pop()) {
        (Some([]), Some([])) if names.iter().all(|name| !name.is_empty()) => Some(names),
        _ => None,
    }
}

/// A whole `AuthenticationSASL` with these mechanisms.
#[must_use]
pub fn sasl_request(mechanisms: &[&[u8]]) -> BytesMut {
    let mut data = Vec::new();
    for name in mechanisms {
        data.extend_from_slice(name);
        data.push(0);
    }
    data.push(0);
    authentication_request(request::SASL, &data)
}

/// A whole `NegotiateProtocolVersion`: the version that is spoken, and options nobody knows.
#[must_use]
pub fn negotiate_protocol_version(minor: u16, unknown: &[&str]) -> BytesMut {
    let unknown = unknown.iter().map(ToString::to_string).collect();
    let mut message = BytesMut::new();
    NegotiateProtocolVersion::new(0x0003_0000 | i32::from(minor), unknown)
        .encode(&mut message)
        .expect("as long as a start-up packet at most");
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_data_reads_back_as_it_was_written() {
        for length in [4, 32, 256] {
            let key = CancelKey {
                pid: 99,
                secret: vec![3; length].into(),
            };
            assert_eq!(key_data(&backend_key_data(&key)[5..]), Some(key));
        }
    }

    #[test]
    fn fields_of_an_error_are_found_by_their_code() {
        let body = b"SFATAL\0VFATAL\0C57P01\0Mwhy\0\0";
        assert_eq!(error_field(body, b'C'), Some(&b"57P01"[..]));
        assert_eq!(error_field(body, b'D'), None);
        assert_eq!(error_field(b"", b'C'), None);
    }

    #[test]
    fn short_bodies_are_nothing() {
        assert_eq!(authentication(b"\0\0\0"), None);
        assert_eq!(key_data(b"\0\0\0\x01abc"), None);
    }

    #[test]
    fn only_ok_and_final_need_no_answer() {
        assert_eq!(authentication(&[0, 0, 0, 0]), Some(Authentication::Ok));
        assert_eq!(authentication(&[0, 0, 0, 12]), Some(Authentication::Final));
        for challenge in [3, 5, 7, 10, 11] {
            assert_eq!(
                authentication(&[0, 0, 0, challenge]),
                Some(Authentication::Challenge)
            );
        }
    }

    #[test]
    fn a_list_of_mechanisms_reads_back_as_it_was_written() {
        for names in [&[][..], &[&b"SCRAM-SHA-256"[..]], &[b"A", b"B", b"C"]] {
            let message = sasl_request(names);
            assert_eq!(mechanisms(&message[9..]), Some(names.to_vec()));
            assert_eq!(message[4] as usize + 1, message.len());
        }
        for broken in [&b""[..], b"A", b"A\0", b"A\0B\0", b"A\0\0B\0\0"] {
            assert_eq!(mechanisms(broken), None, "{broken:?}");
        }
    }

    #[test]
    fn a_negotiation_names_the_version_in_full() {
        let message = negotiate_protocol_version(2, &["_pq_.a", "_pq_.b"]);
        assert_eq!(
            &message[..],
            b"v\0\0\0\x1a\0\x03\0\x02\0\0\0\x02_pq_.a\0_pq_.b\0"
        );
    }
}
