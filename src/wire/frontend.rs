//! The types of messages that clients send, and the few that we send as a client.

use bytes::{BufMut, BytesMut};
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
    /// `PasswordMessage`, `SASLInitialResponse`, `SASLResponse`: which of them, the question says.
    pub const PASSWORD: u8 = b'p';
    /// `Query`.
    pub const QUERY: u8 = b'Q';
    /// `Sync`.
    pub const SYNC: u8 = b'S';
    /// `Terminate`.
    pub const TERMINATE: u8 = b'X';
}

/// `Terminate`: the polite end of a connection.
pub const TERMINATE: [u8; 5] = [tag::TERMINATE, 0, 0, 0, 4];

/// `Sync`: ends a batch of extended messages.
pub const SYNC: [u8; 5] = [tag::SYNC, 0, 0, 0, 4];

/// `Flush`: whatever is answered is to be sent.
pub const FLUSH: [u8; 5] = [tag::FLUSH, 0, 0, 0, 4];

/// What a `Close` names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Named {
    /// A prepared statement.
    Statement,
    /// A portal.
    Portal,
}

/// A whole message of this type.
fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).expect("messages of ours are short");
    [&[tag][..], &length.to_be_bytes(), body].concat()
}

/// A whole `Query`. The text holds no zero.
#[must_use]
pub fn query(sql: &str) -> Vec<u8> {
    message(tag::QUERY, &[sql.as_bytes(), &[0]].concat())
}

/// A whole `Parse`, without types of parameters. Neither text holds a zero.
#[must_use]
pub fn parse(statement: &str, sql: &str) -> Vec<u8> {
    message(
        tag::PARSE,
        &[statement.as_bytes(), &[0], sql.as_bytes(), &[0, 0, 0]].concat(),
    )
}

/// A whole `Parse` with the types of its parameters. Neither text holds a zero.
#[must_use]
pub fn parse_typed(statement: &[u8], sql: &[u8], types: &[u32]) -> Vec<u8> {
    let count = u16::try_from(types.len()).expect("a statement has at most 65535 parameters");
    let mut body = [statement, &[0], sql, &[0], &count.to_be_bytes()].concat();
    body.extend(types.iter().flat_map(|oid| oid.to_be_bytes()));
    message(tag::PARSE, &body)
}

/// A whole `Bind` of a statement to a portal, with one parameter and results as text.
#[must_use]
pub fn bind_text(portal: &str, statement: &str, parameter: &[u8]) -> Vec<u8> {
    let length = u32::try_from(parameter.len()).expect("parameters of ours are short");
    let names = [portal.as_bytes(), &[0], statement.as_bytes(), &[0]].concat();
    let value = [&[0, 0, 0, 1], &length.to_be_bytes()[..], parameter, &[0, 0]].concat();
    message(tag::BIND, &[names, value].concat())
}

/// A whole `Bind` of a statement to a portal, without parameters, results as text.
#[must_use]
pub fn bind(portal: &str, statement: &str) -> Vec<u8> {
    let names = [portal.as_bytes(), &[0], statement.as_bytes(), &[0]].concat();
    message(tag::BIND, &[names.as_slice(), &[0; 6]].concat())
}

/// A whole `Execute` of a portal, for all its rows.
#[must_use]
pub fn execute(portal: &str) -> Vec<u8> {
    message(tag::EXECUTE, &[portal.as_bytes(), &[0; 5]].concat())
}

/// A whole `Close`.
#[must_use]
pub fn close(what: Named, name: &str) -> Vec<u8> {
    close_bytes(what, name.as_bytes())
}

/// The same for a name of a client's, in whichever encoding. It holds no zero.
#[must_use]
pub fn close_bytes(what: Named, name: &[u8]) -> Vec<u8> {
    let what = match what {
        Named::Statement => b'S',
        Named::Portal => b'P',
    };
    message(tag::CLOSE, &[&[what], name, &[0]].concat())
}

/// A whole `CopyFail`.
#[must_use]
pub fn copy_fail(why: &str) -> Vec<u8> {
    message(tag::COPY_FAIL, &[why.as_bytes(), &[0]].concat())
}

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

/// A `SASLInitialResponse`.
#[derive(Debug, PartialEq, Eq)]
pub struct SaslInitial<'a> {
    /// The mechanism that the client chose.
    pub mechanism: &'a [u8],
    /// The first data of the mechanism, if they came with it.
    pub data: Option<&'a [u8]>,
}

/// Reads the body of a `SASLInitialResponse`; `None` when it is not one.
#[must_use]
pub fn sasl_initial(body: &[u8]) -> Option<SaslInitial<'_>> {
    let end = body.iter().position(|byte| *byte == 0)?;
    let (mechanism, rest) = (&body[..end], &body[end + 1..]);
    let (length, data) = rest.split_first_chunk::<4>()?;
    let data = match i32::from_be_bytes(*length) {
        -1 if data.is_empty() => None,
        length if usize::try_from(length) == Ok(data.len()) => Some(data),
        _ => return None,
    };
    Some(SaslInitial { mechanism, data })
}

/// A whole message that answers an `Authentication*` message.
#[must_use]
pub fn answer(body: &[u8]) -> BytesMut {
    let length = u32::try_from(body.len() + 4).expect("answers of ours are short");
    let mut message = BytesMut::with_capacity(body.len() + 5);
    message.put_u8(tag::PASSWORD);
    message.put_u32(length);
    message.put_slice(body);
    message
}

/// A whole `SASLInitialResponse`.
#[must_use]
pub fn sasl_initial_answer(mechanism: &str, data: &[u8]) -> BytesMut {
    let length = u32::try_from(data.len()).expect("answers of ours are short");
    answer(&[mechanism.as_bytes(), &[0], &length.to_be_bytes(), data].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sasl_answer_reads_back_as_it_was_written() {
        let message = sasl_initial_answer("SCRAM-SHA-256", b"n,,n=,r=x");
        let initial = SaslInitial {
            mechanism: b"SCRAM-SHA-256",
            data: Some(b"n,,n=,r=x"),
        };
        assert_eq!(sasl_initial(&message[5..]), Some(initial));
        let without = sasl_initial(b"X\0\xff\xff\xff\xff").expect("a mechanism alone");
        assert_eq!(without.data, None);
        for broken in [
            &b"X"[..],
            b"X\0\0\0\0",
            b"X\0\0\0\0\x02a",
            b"X\0\0\0\0\0a",
            b"X\0\xff\xff\xff\xffa",
        ] {
            assert_eq!(sasl_initial(broken), None, "{broken:?}");
        }
    }
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
