//! Answers that are given in the server's stead: to a statement that is deferred, or that ends a block
//! of which the server knows nothing.

use crate::session::class::Ends;
use crate::wire::backend::{command_complete, ready_for_query, tag as from_server};
use crate::wire::frame::{HEADER_LEN, Header};
use crate::wire::frontend::tag;

/// What answers the messages of `bytes`, whole ones that were read before: Binds, Describes of portals
/// without columns, one Execute, Closes of portals, or a Query. The end of the unit, if it is one that
/// is answered, shows `status`. Without a `command` the statement is empty.
#[must_use]
pub(in crate::session) fn answers(bytes: &[u8], command: Option<&str>, status: u8) -> Vec<u8> {
    let (mut said, mut rest) = (Vec::new(), bytes);
    while let Some((header, behind)) = rest.split_first_chunk::<HEADER_LEN>()
        && let Ok(Header { tag, body }) = Header::parse(header)
    {
        match tag {
            tag::BIND => said.extend(empty(from_server::BIND_COMPLETE)),
            tag::DESCRIBE => said.extend(empty(from_server::NO_DATA)),
            tag::CLOSE => said.extend(empty(from_server::CLOSE_COMPLETE)),
            tag::EXECUTE => said.extend(executed(command)),
            tag::QUERY => {
                said.extend(executed(command));
                said.extend(ready_for_query(status));
            }
            tag::SYNC => said.extend(ready_for_query(status)),
            _ => {}
        }
        let length = usize::try_from(body).unwrap_or(usize::MAX);
        rest = behind.get(length..).unwrap_or_default();
    }
    said
}

/// The tag that the server sends for what begins a block: a comment may come first.
#[must_use]
pub(in crate::session) fn begin_tag(text: &[u8]) -> &'static str {
    match crate::session::verb::first_word(text) {
        Some(word) if word.eq_ignore_ascii_case(b"start") => "START TRANSACTION",
        Some(_) | None => "BEGIN",
    }
}

/// The tag that the server sends for the end of a block. One that has failed is rolled back anyway.
#[must_use]
pub(in crate::session) fn end_tag(ends: Ends, failed: bool) -> &'static str {
    match (ends, failed) {
        (Ends::Commit, false) => "COMMIT",
        (Ends::Commit, true) | (Ends::Rollback, _) => "ROLLBACK",
    }
}

fn executed(command: Option<&str>) -> Vec<u8> {
    match command {
        Some(command) => command_complete(command),
        None => empty(from_server::EMPTY_QUERY).to_vec(),
    }
}

/// A whole message without a body.
fn empty(tag: u8) -> [u8; 5] {
    [tag, 0, 0, 0, 4]
}
