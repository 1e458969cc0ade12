//! A statement that its text did not show to write, and that the server refused because it does: which
//! answer says so, and what of it the client gets at once.
//!
//! Nothing of such a statement has been executed, as long as no row and no tag of it came: it may be sent
//! again when writes are let in.

use crate::wire::backend::tag;
use crate::wire::frame::{HEADER_LEN, Header};
use crate::wire::refusal::says_read_only;

/// What a server has answered to a unit so far.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It cannot be told yet.
    More,
    /// Something else than this refusal.
    Other,
    /// The refusal and its `ReadyForQuery`, outside of a transaction.
    Refused {
        /// What the client gets now: what is true anyway, and what answers messages that are not sent again.
        told: Vec<u8>,
    },
}

/// Reads what a server sent, from the first byte behind the answer to what came before the unit. With
/// `from_bind` only what comes from its first Bind on is sent again.
#[must_use]
pub(super) fn answer(bytes: &[u8], from_bind: bool) -> Answer {
    let (mut rest, mut told) = (bytes, Vec::new());
    let (mut refused, mut in_front) = (false, from_bind);
    while let Some((header, behind)) = rest.split_first_chunk::<HEADER_LEN>() {
        let Ok(Header { tag, body }) = Header::parse(header) else {
            return Answer::Other;
        };
        if !may_come(tag) {
            return Answer::Other;
        }
        let Some((body, behind)) =
            behind.split_at_checked(usize::try_from(body).unwrap_or(usize::MAX))
        else {
            return Answer::More;
        };
        let whole = &rest[..rest.len() - behind.len()];
        rest = behind;
        match tag {
            tag::PARAMETER_STATUS | tag::NOTIFICATION => told.extend_from_slice(whole),
            tag::ERROR if !refused && says_read_only(body) => refused = true,
            tag::READY_FOR_QUERY if refused && body == b"I" && rest.is_empty() => {
                return Answer::Refused { told };
            }
            tag::ERROR | tag::READY_FOR_QUERY => return Answer::Other,
            tag::BIND_COMPLETE => in_front = false,
            // A notice comes again.
            tag::NOTICE => {}
            _ if in_front => told.extend_from_slice(whole),
            _ => {}
        }
    }
    match rest.first() {
        Some(first) if !may_come(*first) => Answer::Other,
        Some(_) | None => Answer::More,
    }
}

/// What comes in front of the first row and of the tag.
fn may_come(tag: u8) -> bool {
    // A ParameterDescription has no other reader.
    const PARAMETERS: u8 = b't';
    matches!(
        tag,
        tag::PARSE_COMPLETE
            | tag::BIND_COMPLETE
            | tag::CLOSE_COMPLETE
            | tag::NO_DATA
            | tag::ROW_DESCRIPTION
            | tag::NOTICE
            | tag::NOTIFICATION
            | tag::PARAMETER_STATUS
            | tag::ERROR
            | tag::READY_FOR_QUERY
            | PARAMETERS
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(tag: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).expect("test messages are short");
        [&[tag][..], &length.to_be_bytes(), body].concat()
    }

    #[test]
    fn a_refusal_in_front_of_rows_is_known_and_the_client_gets_what_is_not_sent_again() {
        let refusal = message(b'E', b"SFEHLER\0VERROR\0C25006\0Mx\0\0");
        let (idle, parsed) = (message(b'Z', b"I"), message(b'1', b""));
        let (bound, columns) = (message(b'2', b""), message(b'T', b"\0\0"));
        let (notice, setting) = (message(b'N', b"\0"), message(b'S', b"a\0b\0"));
        let stream = [
            &parsed[..],
            &bound,
            &columns,
            &notice,
            &setting,
            &refusal,
            &idle,
        ]
        .concat();
        for end in 0..stream.len() {
            assert_eq!(answer(&stream[..end], true), Answer::More, "{end}");
        }
        let all = Answer::Refused {
            told: setting.clone(),
        };
        assert_eq!(answer(&stream, false), all);
        let told = [&parsed[..], &setting].concat();
        assert_eq!(answer(&stream, true), Answer::Refused { told });
        for other in [
            b"D".to_vec(),
            [&columns[..], &message(b'D', b"row")].concat(),
            message(b'C', b"SELECT 0\0"),
            message(b'E', b"VERROR\0C42601\0\0"),
            message(b'E', b"VFATAL\0C25006\0\0"),
            [&refusal[..], &message(b'Z', b"E")].concat(),
            [&refusal[..], &idle, &idle].concat(),
            message(b'G', b"\0\0"),
            idle,
        ] {
            assert_eq!(answer(&other, false), Answer::Other, "{other:?}");
        }
    }
}
