//! Texts and units, one by one.

use super::*;

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).expect("test messages are short");
    [&[tag][..], &length.to_be_bytes(), body].concat()
}

fn query_of(sql: &str) -> Vec<u8> {
    message(b'Q', format!("{sql}\0").as_bytes())
}

fn parse_of(name: &str, sql: &str) -> Vec<u8> {
    message(b'P', format!("{name}\0{sql}\0\0\0").as_bytes())
}

fn bind_of(name: &str) -> Vec<u8> {
    message(b'B', format!("\0{name}\0\0\0\0\0\0\0").as_bytes())
}

fn execute() -> Vec<u8> {
    message(b'E', b"\0\0\0\0\0")
}

fn sync() -> Vec<u8> {
    message(b'S', b"")
}

/// Parse, Bind, Describe, Execute, Sync.
fn batch_of(sql: &str) -> Vec<u8> {
    let describe = message(b'D', b"P\0");
    [parse_of("", sql), bind_of(""), describe, execute(), sync()].concat()
}

#[test]
fn a_lone_verb_is_known_in_every_spelling_and_nothing_else_is() {
    for (sql, expected) in [
        ("ROLLBACK", Text::Lone(Verb::Rollback)),
        (" rollback work ; ", Text::Lone(Verb::Rollback)),
        ("Abort\nTransaction;;", Text::Lone(Verb::Rollback)),
        ("commit", Text::Lone(Verb::Commit)),
        ("END TRANSACTION;", Text::Lone(Verb::Commit)),
        ("rollback to a", Text::Lone(Verb::RollbackTo)),
        (
            "ROLLBACK WORK TO SAVEPOINT \"a b\";",
            Text::Lone(Verb::RollbackTo),
        ),
        (
            "prepare transaction 'x'",
            Text::Lone(Verb::PrepareTransaction),
        ),
        ("rollback; insert into t values (1)", Text::RollsBack),
        ("rollback;begin", Text::RollsBack),
        ("begin", Text::Begins),
        ("START TRANSACTION READ ONLY", Text::Begins),
        ("BEGIN; insert into t values (1); commit", Text::Begins),
        ("rollback and chain", Text::Unknown),
        ("rollback and no chain", Text::Unknown),
        ("rollback to a; insert into t values (1)", Text::Unknown),
        (
            "rollback to \"a\"\"; insert into t values (1)\"",
            Text::Unknown,
        ),
        ("rollback prepared 'x'", Text::Unknown),
        ("rollback -- really", Text::Unknown),
        ("/* a */ rollback", Text::Unknown),
        ("abort to a", Text::Unknown),
        ("commit; insert into t values (1)", Text::Unknown),
        ("commit and chain", Text::Unknown),
        ("commit prepared 'x'", Text::Unknown),
        ("prepare p as select 1", Text::Unknown),
        ("prepare transaction 'x'; select 1", Text::Unknown),
        ("prepare transaction 'a\\'; select 1; --'", Text::Unknown),
        ("", Text::Unknown),
        (";rollback", Text::Unknown),
        ("select 1", Text::Other),
        ("rollbacks", Text::Other),
        ("savepoint a", Text::Other),
        ("commité", Text::Unknown),
    ] {
        assert_eq!(text(sql.as_bytes()), expected, "{sql}");
    }
}

#[test]
fn a_unit_is_lone_with_its_sync_and_not_without() {
    for bytes in [query_of("ROLLBACK"), batch_of("ROLLBACK")] {
        let behind = [bytes.clone(), query_of("insert")].concat();
        let lone = Unit::Lone(Verb::Rollback, bytes.len());
        assert_eq!(unit(&behind, false), lone);
        for cut in 0..bytes.len() {
            assert_eq!(unit(&bytes[..cut], false), Unit::More, "cut at {cut}");
            let all = unit(&bytes[..cut], true);
            assert!(matches!(all, Unit::Begins(_)), "cut at {cut}: {all:?}");
        }
    }
}

#[test]
fn what_stands_in_a_batch_besides_makes_it_longer() {
    let rollback = [parse_of("", "rollback"), bind_of(""), execute()].concat();
    let insert = [parse_of("", "insert"), bind_of(""), execute()].concat();
    for (bytes, expected) in [
        (
            [rollback.clone(), insert.clone(), sync()].concat(),
            Text::RollsBack,
        ),
        (
            [rollback.clone(), query_of("insert")].concat(),
            Text::RollsBack,
        ),
        ([rollback, message(b'H', b"")].concat(), Text::RollsBack),
        ([insert, sync()].concat(), Text::Other),
        // Bound is another statement than the one that was parsed.
        (
            [parse_of("a", "rollback"), bind_of("b"), execute(), sync()].concat(),
            Text::Unknown,
        ),
        ([parse_of("a", "rollback"), sync()].concat(), Text::Unknown),
        ([bind_of("a"), execute(), sync()].concat(), Text::Unknown),
        (message(b'P', b"no end"), Text::Unknown),
        (message(b'Q', b"rollback\0; insert\0"), Text::Unknown),
        (message(b'Q', b"rollback"), Text::Unknown),
        (message(b'F', b"1234"), Text::Other),
    ] {
        assert_eq!(unit(&bytes, false), Unit::Begins(expected), "{bytes:?}");
    }
}

#[test]
fn the_text_of_a_long_statement_is_known_by_its_beginning() {
    for (sql, expected) in [
        ("select 1, ", Unit::Begins(Text::Other)),
        ("select", Unit::More),
        ("rollback; ", Unit::More),
    ] {
        for message in [query_of(sql), parse_of("name", sql)] {
            let cut = message
                .iter()
                .rposition(|b| *b == sql.as_bytes()[sql.len() - 1]);
            let cut = cut.expect("it is there") + 1;
            assert_eq!(unit(&message[..cut], false), expected, "{sql}");
        }
    }
}

#[test]
fn what_touches_no_transaction_passes() {
    let close = message(b'C', b"Sa\0");
    let closes = [close.clone(), close.clone(), sync()].concat();
    assert_eq!(unit(&closes, false), Unit::Passes(closes.len()));
    assert_eq!(unit(&sync(), false), Unit::Passes(sync().len()));
    assert_eq!(unit(&close, false), Unit::More);
    for tag in *b"dcfH" {
        // Also the first part of one.
        assert_eq!(unit(&message(tag, b"body")[..6], false), Unit::Stray);
    }
    assert_eq!(unit(&message(b'X', b""), false), Unit::Terminate);
}

/// A message of this type.
fn message_of(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).expect("test messages are short");
    [&[tag][..], &length.to_be_bytes(), body].concat()
}

#[test]
fn the_first_statement_says_whether_a_block_begins() {
    let query = |sql: &str| message_of(b'Q', &[sql.as_bytes(), b"\0"].concat());
    let parse = |sql: &str| message_of(b'P', &[b"s1\0", sql.as_bytes(), b"\0\0\0"].concat());
    for sql in [
        "BEGIN",
        "begin;",
        "  Start Transaction read only",
        "BEGIN; UPDATE t SET a = 1; COMMIT",
        ";; BEGIN",
        "-- who asks\nBEGIN",
        "/* who /* asks */ */ BEGIN",
    ] {
        assert_eq!(opens(&query(sql)), Opens::Block, "{sql}");
        assert_eq!(opens(&parse(sql)), Opens::Block, "{sql}");
        let closes_first = [message_of(b'C', b"Ss1\0"), parse(sql)].concat();
        assert_eq!(opens(&closes_first), Opens::Block, "{sql}");
    }
    for sql in [
        "",
        "SELECT 1",
        "beginning",
        "begi",
        "START_REPLICATION",
        "UPDATE t SET a = 1; BEGIN",
        "/* BEGIN",
        "-",
        "\"begin\"",
    ] {
        assert_eq!(opens(&query(sql)), Opens::Statement, "{sql}");
        assert_eq!(opens(&parse(sql)), Opens::Statement, "{sql}");
    }
    for tags in [b'B', b'E', b'S', b'F', b'H'] {
        assert_eq!(opens(&message_of(tags, b"BEGIN\0\0")), Opens::Statement);
    }
}

#[test]
fn of_a_cut_unit_is_said_what_its_front_says() {
    let begin = message_of(b'Q', b"/* a */ BEGIN\0");
    for cut in 0..begin.len() {
        let opens = opens(&begin[..cut]);
        assert!(
            matches!(opens, Opens::More | Opens::Block),
            "{cut}: {opens:?}"
        );
    }
    assert_eq!(opens(&begin[..begin.len() - 1]), Opens::More);
    let mut insert = message_of(b'Q', &[b' '; 4000]);
    assert_eq!(opens(&insert[..100]), Opens::More);
    assert_eq!(opens(&insert[..600]), Opens::Statement);
    insert[5..12].copy_from_slice(b"INSERT ");
    assert_eq!(opens(&insert[..5]), Opens::More);
    assert_eq!(opens(&insert[..6]), Opens::Statement);
}
