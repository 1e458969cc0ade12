//! Prepared statements whose result columns have changed: which batch may be sent again, and which
//! answer asks for it.
//!
//! The server refuses to execute such a statement (0A000, "cached plan must not change result type"),
//! since its client may count on the old columns. A client that has the columns described in the same
//! batch learns the new ones, and so its statement can be prepared anew and the batch sent again.

use crate::wire::backend::{error_field, tag as from_server};
use crate::wire::frame::{HEADER_LEN, Header};
use crate::wire::frontend::tag as from_client;

/// The function of the server that refuses, which unlike its message is never translated.
const REFUSES: &[u8] = b"RevalidateCachedQuery";

/// What a server has answered to a batch so far.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It cannot be told yet.
    More,
    /// Something else than this refusal.
    Other,
    /// The refusal and its `ReadyForQuery`, outside of a transaction.
    Refused {
        /// What came with it that is true anyway: settings, notices, notifications.
        beside: Vec<u8>,
        /// The two messages.
        refusal: Vec<u8>,
    },
}

/// The name of the prepared statement that this executes, if it is nothing but Bind, Describe of the
/// portal, Execute and Sync, and takes all columns in one format: which columns there are it cannot know.
#[must_use]
pub(super) fn executes(bytes: &[u8]) -> Option<&[u8]> {
    let mut rest = bytes;
    let mut next = |wanted: u8| {
        let (tag, body, behind) = message(rest)?;
        rest = behind;
        (tag == wanted).then_some(body)
    };
    let (portal, behind) = until_zero(next(from_client::BIND)?)?;
    let (statement, values) = until_zero(behind)?;
    let described = next(from_client::DESCRIBE)?;
    let (executed, _most) = until_zero(next(from_client::EXECUTE)?)?;
    let ends = next(from_client::SYNC)?.is_empty() && rest.is_empty();
    let of_portal = described.split_first() == Some((&b'P', &[portal, &[0]].concat()[..]));
    let fits = ends && of_portal && executed == portal && !statement.is_empty();
    (fits && result_formats(values)? <= 1).then_some(statement)
}

/// How many formats of results a Bind names, behind its names.
fn result_formats(values: &[u8]) -> Option<u16> {
    let (formats, rest) = count(values)?;
    let (parameters, mut rest) = count(rest.get(usize::from(formats) * 2..)?)?;
    for _ in 0..parameters {
        let (length, behind) = rest.split_first_chunk::<4>()?;
        // -1 is NULL, which has no bytes.
        let length = usize::try_from(i32::from_be_bytes(*length)).unwrap_or(0);
        rest = behind.get(length..)?;
    }
    Some(count(rest)?.0)
}

/// Reads what a server sent, from the first byte behind the answer to what came before the batch.
#[must_use]
pub(super) fn answer(bytes: &[u8]) -> Answer {
    let (mut rest, mut beside, mut refusal) = (bytes, Vec::new(), Vec::new());
    while let Some((tag, body, behind)) = message(rest) {
        let whole = &rest[..rest.len() - behind.len()];
        rest = behind;
        match tag {
            from_server::NOTICE | from_server::NOTIFICATION | from_server::PARAMETER_STATUS => {
                beside.extend_from_slice(whole);
            }
            from_server::ERROR if refusal.is_empty() && refuses(body) => {
                refusal.extend_from_slice(whole);
            }
            from_server::READY_FOR_QUERY
                if !refusal.is_empty() && body == b"I" && rest.is_empty() =>
            {
                refusal.extend_from_slice(whole);
                return Answer::Refused { beside, refusal };
            }
            _ => return Answer::Other,
        }
    }
    // Of any other answer the client gets as much as there is.
    let begins = rest.first().copied();
    match begins {
        None
        | Some(
            from_server::ERROR
            | from_server::READY_FOR_QUERY
            | from_server::NOTICE
            | from_server::NOTIFICATION
            | from_server::PARAMETER_STATUS,
        ) => Answer::More,
        Some(_) => Answer::Other,
    }
}

fn refuses(error: &[u8]) -> bool {
    error_field(error, b'C') == Some(b"0A000")
        && error_field(error, b'R') == Some(REFUSES)
        && error_field(error, b'V') == Some(b"ERROR")
}

/// The text of a statement and the types of its parameters, from a row of these two as text.
#[must_use]
pub(super) fn text_and_types(row: &[u8]) -> Option<(&[u8], Vec<u32>)> {
    let (columns, rest) = count(row)?;
    let (text, rest) = column(rest)?;
    let (types, rest) = column(rest)?;
    if columns != 2 || !rest.is_empty() {
        return None;
    }
    let types = str::from_utf8(types).ok()?;
    let types = types.strip_prefix('{')?.strip_suffix('}')?;
    let types = types.split(',').filter(|oid| !oid.is_empty());
    let types: Result<Vec<u32>, _> = types.map(str::parse).collect();
    Some((text, types.ok()?))
}

fn column(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let length = usize::try_from(i32::from_be_bytes(*length)).ok()?;
    rest.split_at_checked(length)
}

fn count(bytes: &[u8]) -> Option<(u16, &[u8])> {
    let (count, rest) = bytes.split_first_chunk::<2>()?;
    Some((u16::from_be_bytes(*count), rest))
}

/// The message at the front, if it is all there: its type, its body, and what is behind it.
fn message(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (header, rest) = bytes.split_first_chunk::<HEADER_LEN>()?;
    let Header { tag, body } = Header::parse(header).ok()?;
    let (body, behind) = rest.split_at_checked(usize::try_from(body).ok()?)?;
    Some((tag, body, behind))
}

fn until_zero(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|b| *b == 0)?;
    Some((&bytes[..end], &bytes[end + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(tag: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).expect("test messages are short");
        [&[tag][..], &length.to_be_bytes(), body].concat()
    }

    /// A batch with one parameter, and results in these formats.
    fn batch(statement: &str, formats: &[u8], described: &[u8], executed: &str) -> Vec<u8> {
        let values = b"\0\x01\0\x01\0\x01\0\0\0\x02ab";
        let bind = [&b"p\0"[..], statement.as_bytes(), b"\0", values, formats].concat();
        [
            message(b'B', &bind),
            message(b'D', described),
            message(b'E', &[executed.as_bytes(), b"\0\0\0\0\0"].concat()),
            message(b'S', b""),
        ]
        .concat()
    }

    #[test]
    fn a_batch_that_describes_what_it_executes_may_be_sent_again() {
        let one = b"\0\x01\0\x01";
        assert_eq!(executes(&batch("s", one, b"Pp\0", "p")), Some(&b"s"[..]));
        assert_eq!(
            executes(&batch("s", b"\0\0", b"Pp\0", "p")),
            Some(&b"s"[..])
        );
        for other in [
            batch("", one, b"Pp\0", "p"),
            batch("s", b"\0\x02\0\0\0\0", b"Pp\0", "p"),
            batch("s", one, b"Ss\0", "p"),
            batch("s", one, b"Pp\0", "q"),
            [batch("s", one, b"Pp\0", "p"), message(b'S', b"")].concat(),
        ] {
            assert_eq!(executes(&other), None, "{other:?}");
        }
        let whole = batch("s", one, b"Pp\0", "p");
        for end in 0..whole.len() {
            assert_eq!(executes(&whole[..end]), None, "{end}");
        }
    }

    #[test]
    fn the_refusal_is_known_in_any_language_and_no_other_error_is() {
        let error = |fields: &[u8]| message(b'E', fields);
        let refusal = error(b"SFEHLER\0VERROR\0C0A000\0Mx\0RRevalidateCachedQuery\0\0");
        let (idle, notice) = (message(b'Z', b"I"), message(b'N', b"SNOTICE\0\0"));
        let stream = [&notice[..], &refusal, &idle].concat();
        for end in 0..stream.len() {
            assert_eq!(answer(&stream[..end]), Answer::More, "{end}");
        }
        let refused = Answer::Refused {
            beside: notice,
            refusal: [&refusal[..], &idle].concat(),
        };
        assert_eq!(answer(&stream), refused);
        for other in [
            message(b'2', b""),
            b"2".to_vec(),
            error(b"VERROR\0C0A000\0RExecInitFunc\0\0"),
            error(b"VFATAL\0C0A000\0RRevalidateCachedQuery\0\0"),
            [&refusal[..], &message(b'Z', b"E")].concat(),
            [&refusal[..], &idle, &idle].concat(),
            idle,
        ] {
            assert_eq!(answer(&other), Answer::Other, "{other:?}");
        }
    }

    #[test]
    fn a_row_tells_text_and_types() {
        let row = |types: &[u8]| {
            let length = [0, 0, 0, u8::try_from(types.len()).expect("short")];
            [&b"\0\x02\0\0\0\x08SELECT 1"[..], &length, types].concat()
        };
        let text = &b"SELECT 1"[..];
        assert_eq!(text_and_types(&row(b"{23,25}")), Some((text, vec![23, 25])));
        assert_eq!(text_and_types(&row(b"{}")), Some((text, vec![])));
        assert_eq!(text_and_types(&row(b"{x}")), None);
        assert_eq!(
            text_and_types(b"\0\x02\xff\xff\xff\xff\xff\xff\xff\xff"),
            None
        );
    }
}
