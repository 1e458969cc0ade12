//! The types of messages that a server sends, and readers for the few that we look into.

use bytes::BytesMut;
use pgwire::messages::Message;
use pgwire::messages::startup::{BackendKeyData, SecretKey};

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
    /// `CopyInResponse`.
    pub const COPY_IN: u8 = b'G';
    /// `EmptyQueryResponse`.
    pub const EMPTY_QUERY: u8 = b'I';
    /// `ErrorResponse`.
    pub const ERROR: u8 = b'E';
    /// `NoData`.
    pub const NO_DATA: u8 = b'n';
    /// `ParseComplete`.
    pub const PARSE_COMPLETE: u8 = b'1';
    /// `PortalSuspended`.
    pub const PORTAL_SUSPENDED: u8 = b's';
    /// `ReadyForQuery`.
    pub const READY_FOR_QUERY: u8 = b'Z';
    /// `RowDescription`.
    pub const ROW_DESCRIPTION: u8 = b'T';
}

/// `ReadyForQuery` with status "idle".
pub const READY_IDLE: [u8; 6] = [tag::READY_FOR_QUERY, 0, 0, 0, 5, b'I'];

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
        0 => Authentication::Ok,
        12 => Authentication::Final,
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
}
