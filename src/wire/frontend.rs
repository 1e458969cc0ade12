//! The types of messages that clients send, and the few that we send as a client.

use bytes::BytesMut;
use pgwire::messages::Message;
use pgwire::messages::cancel::CancelRequest;
use pgwire::messages::startup::SecretKey;

use super::startup::CancelKey;

/// Type bytes of frontend messages (Postgres documentation section 55.7).
pub mod tag {
    /// `Bind`.
    pub const BIND: u8 = b'B';
    /// `Close` of a statement or portal.
    pub const CLOSE: u8 = b'C';
    /// `CopyData`.
    pub const COPY_DATA: u8 = b'd';
    /// `CopyDone`.
    pub const COPY_DONE: u8 = b'c';
    /// `CopyFail`.
    pub const COPY_FAIL: u8 = b'f';
    /// `Describe` of a statement or portal.
    pub const DESCRIBE: u8 = b'D';
    /// `Execute`.
    pub const EXECUTE: u8 = b'E';
    /// `Flush`.
    pub const FLUSH: u8 = b'H';
    /// `FunctionCall`.
    pub const FUNCTION_CALL: u8 = b'F';
    /// `Parse`.
    pub const PARSE: u8 = b'P';
    /// `Query`.
    pub const QUERY: u8 = b'Q';
    /// `Sync`.
    pub const SYNC: u8 = b'S';
    /// `Terminate`.
    pub const TERMINATE: u8 = b'X';
}

/// `Terminate`: the polite end of a connection.
pub const TERMINATE: [u8; 5] = [tag::TERMINATE, 0, 0, 0, 4];

/// A `CancelRequest` for the server session that this key names.
#[must_use]
pub fn cancel_request(key: &CancelKey) -> BytesMut {
    let secret = SecretKey::Bytes(bytes::Bytes::copy_from_slice(&key.secret));
    let mut packet = BytesMut::new();
    CancelRequest::new(key.pid, secret)
        .encode(&mut packet)
        .expect("a key that was parsed or received has 4 to 256 bytes");
    packet
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::startup::{First, parse};

    #[test]
    fn a_cancel_request_reads_back_as_it_was_written() {
        for length in [4, 32, 256] {
            let key = CancelKey {
                pid: 4711,
                secret: vec![9; length].into(),
            };
            assert_eq!(parse(&cancel_request(&key)), Ok(First::Cancel(key)));
        }
    }
}
