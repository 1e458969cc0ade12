//! Which units another session of the same user could execute as well: what a standby may be asked.

use super::class::reads_anywhere;
use crate::wire::frame::{HEADER_LEN, Header};
use crate::wire::frontend::tag;

/// Whether these bytes are one whole unit that neither uses nor leaves anything in its session: a Query
/// of one query, or a batch that prepares, binds and executes one without a name.
#[must_use]
pub(super) fn is_portable(unit: &[u8]) -> bool {
    let Some((tag, body, rest)) = message(unit) else {
        return false;
    };
    match tag {
        tag::QUERY => rest.is_empty() && sql(body).is_some_and(reads_anywhere),
        tag::PARSE => {
            let text = body.strip_prefix(&[0]).and_then(until_zero);
            text.is_some_and(reads_anywhere) && is_unnamed_batch(rest)
        }
        _ => false,
    }
}

/// What follows the Parse: Bind, Execute and Sync, and Describes in front of the Execute.
fn is_unnamed_batch(messages: &[u8]) -> bool {
    let (mut rest, mut bound, mut executed) = (messages, false, false);
    while let Some((tag, body, behind)) = message(rest) {
        rest = behind;
        match tag {
            tag::BIND if !bound && body.starts_with(&[0, 0]) => bound = true,
            tag::DESCRIBE if !executed && matches!(body, [b'S' | b'P', 0]) => {}
            tag::EXECUTE if bound && !executed && body.starts_with(&[0]) => executed = true,
            tag::SYNC => return executed && rest.is_empty(),
            _ => return false,
        }
    }
    false
}

fn sql(body: &[u8]) -> Option<&[u8]> {
    body.strip_suffix(&[0]).filter(|sql| !sql.contains(&0))
}

fn until_zero(bytes: &[u8]) -> Option<&[u8]> {
    bytes.split(|byte| *byte == 0).next()
}

/// The tag and body of the first message, and what is behind it.
fn message(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (header, rest) = bytes.split_first_chunk::<HEADER_LEN>()?;
    let Header { tag, body } = Header::parse(header).ok()?;
    let (body, behind) = rest.split_at_checked(usize::try_from(body).ok()?)?;
    Some((tag, body, behind))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(tag: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).expect("test messages are short");
        [&[tag][..], &length.to_be_bytes(), body].concat()
    }

    fn query(sql: &str) -> Vec<u8> {
        message(b'Q', format!("{sql}\0").as_bytes())
    }

    fn batch(name: &str, sql: &str) -> Vec<u8> {
        [
            message(b'P', format!("{name}\0{sql}\0\0\0").as_bytes()),
            message(b'B', format!("\0{name}\0\0\0\0\0\0\0").as_bytes()),
            message(b'D', b"P\0"),
            message(b'E', b"\0\0\0\0\0"),
            message(b'S', b""),
        ]
        .concat()
    }

    #[test]
    fn a_query_that_any_session_could_execute_is_portable() {
        for sql in ["select 1", "select count(*) from t", "copy t to stdout"] {
            assert!(is_portable(&query(sql)), "{sql}");
            assert!(is_portable(&batch("", sql)), "{sql}");
            assert!(!is_portable(&batch("s", sql)), "{sql}");
        }
        for sql in [
            "",
            "select 1; select 2",
            "begin",
            "set work_mem = '1MB'",
            "show work_mem",
            "select pg_advisory_lock(1)",
            "select pg_backend_pid()",
            "select set_config('a.b', 'c', false)",
            "select currval('s')",
            "fetch c",
            "declare c cursor for select 1",
            "prepare p as select 1",
            "execute p",
            "insert into t values (1)",
        ] {
            assert!(!is_portable(&query(sql)), "{sql}");
            assert!(!is_portable(&batch("", sql)), "{sql}");
        }
    }

    #[test]
    fn what_is_not_one_whole_unit_is_not_portable() {
        let whole = batch("", "select 1");
        for end in 0..whole.len() {
            assert!(!is_portable(&whole[..end]), "{end}");
        }
        assert!(!is_portable(&[&whole[..], &message(b'S', b"")].concat()));
        assert!(!is_portable(
            &[query("select 1"), query("select 1")].concat()
        ));
        // It executes what was prepared before.
        let parse = 5 + "\0select 1\0\0\0".len();
        assert!(!is_portable(&whole[parse..]));
        // It prepares alone.
        assert!(!is_portable(
            &[&whole[..parse], &message(b'S', b"")].concat()
        ));
    }
}
