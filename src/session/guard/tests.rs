//! Units as drivers send them, and what becomes of each where it stands.

use super::answers::{answers, begin_tag, end_tag};
use super::decide::{Decision, Gates, Stand, decide};
use super::names::{Known, Names, Note};
use super::unit::{Class, End, Look, Unit, look};
use crate::config::Blocked;
use crate::session::class::{Access, Ends, Tag, Why};

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).expect("test messages are short");
    [&[tag][..], &length.to_be_bytes(), body].concat()
}

fn query(sql: &str) -> Vec<u8> {
    message(b'Q', &[sql.as_bytes(), b"\0"].concat())
}

/// Messages of a batch: `P name text`, `B portal statement`, `D`/`C` and what they name, `E portal`, `S`,
/// `H`; a dash is the empty name. Each on a line.
fn batch(script: &str) -> Vec<u8> {
    let name = |word: Option<&str>| match word {
        Some("-") | None => String::new(),
        Some(name) => name.to_owned(),
    };
    let lines = script.split(';').map(str::trim);
    let one = |line: &str| {
        let mut words = line.splitn(3, ' ');
        let tag = words.next().expect("a tag").as_bytes()[0];
        let (first, second) = (words.next(), words.next());
        let body = match tag {
            b'P' => format!("{}\0{}\0\0\0", name(first), name(second)),
            b'B' => format!("{}\0{}\0\0\0\0\0\0\0", name(first), name(second)),
            b'D' | b'C' => format!("{}{}\0", name(first), name(second)),
            b'E' => format!("{}\0\0\0\0\0", name(first)),
            _ => String::new(),
        };
        message(tag, body.as_bytes())
    };
    lines.flat_map(one).collect()
}

fn unit<'a>(bytes: &'a [u8], names: &'a Names) -> Unit<'a> {
    of(look(bytes, false, names, true))
}

fn of(looked: Look<'_>) -> Unit<'_> {
    let Look::Unit(unit) = looked else {
        panic!("no unit: {looked:?}");
    };
    unit
}

fn class(bytes: &[u8]) -> String {
    let names = Names::default();
    let class = unit(bytes, &names).class;
    if let Class::Begins(access, _) = class {
        format!("Begins({access:?})")
    } else if let Class::Defers(tag, _) = class {
        format!("Defers({tag:?})")
    } else {
        format!("{class:?}")
    }
}

#[test]
fn a_query_is_what_its_text_is() {
    for (sql, wanted) in [
        ("select 1", "Reads"),
        ("", "Empty"),
        ("begin", "Begins(Default)"),
        ("begin read only", "Begins(ReadOnly)"),
        ("begin read write", "Writes(Escape)"),
        ("savepoint a", "Defers(Savepoint)"),
        ("set local work_mem = '1MB'", "Defers(Set)"),
        ("commit", "Ends(Commit)"),
        ("rollback", "Ends(Rollback)"),
        ("reset all", "ResetsAll"),
        ("deallocate a", "Prepares"),
        ("insert into t values (1)", "Writes(Write)"),
        ("begin; select 1; commit", "Reads"),
    ] {
        assert_eq!(class(&query(sql)), wanted, "{sql}");
    }
}

#[test]
fn a_batch_is_what_it_executes() {
    for (script, wanted) in [
        ("P - select 1; B - -; E -; S", "Reads"),
        ("P - select 1; B - -; D P -; E -; S", "Reads"),
        ("P - begin; B - -; E -; S", "Begins(Default)"),
        // The first statement of a transaction decides for both.
        (
            "P - begin; B - -; E -; P - select 1; B - -; E -; S",
            "Reads",
        ),
        (
            "P - begin; B - -; E -; P - delete from t; B - -; E -; S",
            "Writes(Write)",
        ),
        (
            "P a begin; B - a; E -; P - select 1; B - -; E -; S",
            "Reads",
        ),
        // What is prepared and not executed harms nobody, unless the server has it open.
        ("P a delete from t; D S a; S", "Nothing"),
        ("P a delete from t; D S a; H", "Writes(Write)"),
        ("P a select 1; D S a; H", "Reads"),
        ("P a delete from t; B - a; S", "Writes(Write)"),
        ("S", "Nothing"),
        ("C S a; S", "Nothing"),
        // A cursor.
        ("E c; S", "Reads"),
        // Nobody knows what the unnamed statement was before.
        ("B - -; E -; S", "Writes(Unknown)"),
        ("P - reset all; B - -; E -; S", "ResetsAll"),
        (
            "P - reset all; B - -; E -; P - select 1; B - -; E -; S",
            "Writes(Escape)",
        ),
        (
            "P - set transaction read write; B - -; E -; S",
            "Writes(Escape)",
        ),
    ] {
        assert_eq!(class(&batch(script)), wanted, "{script}");
    }
}

#[test]
fn a_unit_ends_where_the_client_waits_or_where_no_more_can_be_had() {
    let names = Names::default();
    let both = [batch("P - select 1; B - -; E -; S"), query("select 1")].concat();
    let first = batch("P - select 1; B - -; E -; S").len();
    assert_eq!(unit(&both, &names).bytes, first);
    for end in 0..first {
        assert_eq!(look(&both[..end], false, &names, true), Look::More, "{end}");
    }
    let flushed = batch("P - select 1; D S -; H; B - -; E -; S");
    let unit = unit(&flushed, &names);
    assert_eq!((unit.end, unit.class), (End::Flush, Class::Reads));
    // With nothing more to be had, whole messages go on.
    let front = batch("P - select 1; B - -").len();
    {
        let unit = of(look(&both[..first - 7], true, &names, true));
        assert_eq!((unit.bytes, unit.end), (front, End::Cut));
    }
    for passes in [batch("H"), message(b'X', b""), message(b'd', b"late")] {
        let wanted = Look::Passes(passes.len());
        assert_eq!(look(&passes, false, &names, true), wanted);
    }
    // A Flush asks for nothing, also one that is too long to be kept.
    let long = message(b'H', &[7; 500]);
    assert_eq!(look(&long[..100], true, &names, true), Look::Passes(100));
}

#[test]
fn a_long_text_is_taken_for_a_write_and_long_data_are_not() {
    let mut names = Names::default();
    let long = query(&"select 1 ".repeat(50));
    {
        let unit = of(look(&long[..100], true, &names, true));
        assert_eq!(unit.class, Class::Writes(Why::Unknown));
    }
    names.note(Note::Statement(b"a"[..].into(), Known::Reads));
    let bind = message(b'B', &[&b"\0a\0"[..], &[7; 500]].concat());
    assert_eq!(look(&bind[..100], false, &names, true), Look::More);
    {
        let unit = of(look(&bind[..100], true, &names, true));
        assert_eq!((unit.bytes, unit.class), (100, Class::Reads));
    }
}

#[test]
fn a_name_that_is_not_known_is_asked_for_and_remembered() {
    let mut names = Names::default();
    let bytes = batch("B - a; E -; S");
    assert_eq!(look(&bytes, false, &names, true), Look::Asks(b"a"));
    {
        let unit = of(look(&bytes, false, &names, false));
        assert_eq!(unit.class, Class::Writes(Why::Unknown));
    }
    let row = |text: &[u8], from_sql: u8| {
        let length = u32::try_from(text.len()).expect("short").to_be_bytes();
        [&[0, 2][..], &length, text, &[0, 0, 0, 1, from_sql]].concat()
    };
    for (text, from_sql, wanted) in [
        ("select 1", b'f', Known::Reads),
        ("insert into t values (1)", b'f', Known::Writes(Why::Write)),
        ("commit", b'f', Known::Ends(Ends::Commit)),
        ("begin", b'f', Known::Text(b"begin"[..].into())),
        ("prepare a as select 1", b't', Known::Reads),
        ("prepare a (int, text) as select $1", b't', Known::Reads),
        (
            "prepare a as delete from t",
            b't',
            Known::Writes(Why::Unknown),
        ),
        (
            "prepare \"as select\" as delete from t",
            b't',
            Known::Writes(Why::Unknown),
        ),
    ] {
        assert_eq!(
            Known::of_row(&row(text.as_bytes(), from_sql)),
            wanted,
            "{text}"
        );
    }
    let too_long = [&[0, 2, 0xff, 0xff, 0xff, 0xff][..], &[0, 0, 0, 1, b'f']].concat();
    assert_eq!(Known::of_row(&too_long), Known::Writes(Why::Unknown));
    names.learn(b"a", Known::Text(b"begin"[..].into()));
    assert_eq!(
        unit(&bytes, &names).class,
        Class::Begins(Access::Default, b"begin")
    );
    // A name that is taken keeps its meaning, and one that failed is not believed.
    names.note(Note::Statement(b"a"[..].into(), Known::Reads));
    assert!(unit(&bytes, &names).begins_block);
    names.forget_statements();
    assert_eq!(look(&bytes, false, &names, true), Look::Asks(b"a"));
    // EXECUTE in a text is looked up too.
    let execute = query("execute a (1)");
    assert_eq!(look(&execute, false, &names, true), Look::Asks(b"a"));
    names.learn(b"a", Known::Reads);
    assert_eq!(unit(&execute, &names).class, Class::Reads);
    names.note(Note::AllChanged);
    assert_eq!(look(&execute, false, &names, true), Look::Asks(b"a"));
}

const QUEUE: Gates = Gates {
    lets_reads_in: true,
    writes: Blocked::Queue,
};
const REJECT: Gates = Gates {
    lets_reads_in: true,
    writes: Blocked::Reject,
};
const HELD: Gates = Gates {
    lets_reads_in: false,
    writes: Blocked::Queue,
};

fn decided(stand: Stand, gates: Gates, bytes: &[u8]) -> Decision {
    let names = Names::default();
    decide(stand, &unit(bytes, &names), gates, false)
}

#[test]
fn the_table() {
    use Decision::{
        AnswerEnd, Defer, EndDeferred, FailTransaction, Forward, GoBack, InFailed, Pass, Refuse,
        Wait, WaitForReads,
    };
    use Stand::{Block, Deferred, DeferredFailed, Failed, Outside};
    for (stand, gates, sql, wanted) in [
        (Outside, QUEUE, "select 1", Forward),
        (Outside, QUEUE, "insert into t values (1)", Wait),
        (Outside, QUEUE, "begin", Defer),
        (Outside, QUEUE, "begin read only", Forward),
        (Outside, QUEUE, "begin read write", Wait),
        (Outside, QUEUE, "set transaction read write", Wait),
        (Outside, QUEUE, "reset all", Forward),
        (Outside, QUEUE, "commit", Forward),
        (Outside, REJECT, "begin", Forward),
        (Outside, REJECT, "insert into t values (1)", Refuse),
        (Outside, REJECT, "begin read write", Refuse),
        (Outside, HELD, "select 1", WaitForReads),
        (Outside, HELD, "begin", WaitForReads),
        (Outside, HELD, "insert into t values (1)", Wait),
        (Deferred, QUEUE, "savepoint a", Defer),
        (Deferred, QUEUE, "set local work_mem = '1MB'", Defer),
        (Deferred, QUEUE, "commit", EndDeferred),
        (Deferred, HELD, "rollback", EndDeferred),
        (Deferred, QUEUE, "select 1", Forward),
        (Deferred, HELD, "select 1", WaitForReads),
        (Deferred, QUEUE, "begin", Forward),
        (Deferred, QUEUE, "rollback to a", Forward),
        (Deferred, QUEUE, "insert into t values (1)", Wait),
        (Deferred, QUEUE, "set transaction read write", Wait),
        (Deferred, REJECT, "insert into t values (1)", Refuse),
        (Deferred, QUEUE, "", AnswerEnd),
        (DeferredFailed, QUEUE, "select 1", InFailed),
        (DeferredFailed, QUEUE, "commit", EndDeferred),
        (DeferredFailed, QUEUE, "rollback to a", GoBack),
        (Block, QUEUE, "select 1", Forward),
        (Block, QUEUE, "commit", Forward),
        (Block, HELD, "commit", Forward),
        (Block, QUEUE, "insert into t values (1)", FailTransaction),
        (Block, REJECT, "insert into t values (1)", FailTransaction),
        (Block, QUEUE, "set transaction read write", FailTransaction),
        (Failed, QUEUE, "rollback", Pass),
        (Failed, HELD, "commit", Pass),
        (Failed, QUEUE, "rollback to a", Forward),
        (Failed, QUEUE, "insert into t values (1)", InFailed),
        (Failed, QUEUE, "select 1", Forward),
    ] {
        assert_eq!(
            decided(stand, gates, &query(sql)),
            wanted,
            "{stand:?} {sql}"
        );
    }
}

#[test]
fn the_table_for_batches() {
    use Decision::{AnswerEnd, Defer, EndDeferred, FailBatch, Forward, InFailed, Pass, Wait};
    use Stand::{Batch, Deferred, DeferredFailed, Failed, Outside, Skipping};
    for (stand, script, wanted) in [
        (Outside, "P - begin; B - -; D P -; E -; S", Defer),
        (Outside, "P a begin; D S a; B - a; E -; S", Defer),
        (Outside, "P a begin; B - a; E -; C P -; S", Defer),
        // Its Parse cannot be given an end without the client's seeing it.
        (Outside, "P - begin; B - -; E -; H", Forward),
        (Outside, "P a begin; B - a; E -; C S a; S", Forward),
        (
            Outside,
            "P - begin; B - -; E -; P - select 1; B - -; E -; S",
            Forward,
        ),
        (
            Outside,
            "P - begin; B - -; E -; P - delete from t; B - -; E -; S",
            Wait,
        ),
        (Outside, "P a delete from t; S", Forward),
        (Deferred, "P a delete from t; D S a; S", AnswerEnd),
        (Deferred, "S", AnswerEnd),
        (Deferred, "P - commit; B - -; E -; S", EndDeferred),
        (Deferred, "P - savepoint a; B - -; E -; S", Defer),
        (Deferred, "P a delete from t; D S a; H", Wait),
        (Deferred, "P a select 1; D S a; H", Forward),
        (DeferredFailed, "P - rollback; B - -; E -; S", EndDeferred),
        (DeferredFailed, "P - select 1; B - -; E -; S", InFailed),
        (Failed, "B - unknown; E -; S", Forward),
        (Failed, "B - unknown; E -; B - unknown; E -; S", InFailed),
        (Failed, "S", Pass),
        (Batch, "P - select 1; B - -; E -; S", Forward),
        (Batch, "P - delete from t; B - -; E -; S", FailBatch),
        (Batch, "S", Forward),
        (Skipping, "P - delete from t; B - -; E -; S", Pass),
    ] {
        let bytes = batch(script);
        let names = Names::default();
        let asks = !matches!(stand, Failed | Batch | Skipping);
        let Look::Unit(unit) = look(&bytes, false, &names, asks) else {
            panic!("no unit: {script}");
        };
        let decision = decide(stand, &unit, QUEUE, false);
        assert_eq!(decision, wanted, "{stand:?} {script}");
    }
}

#[test]
fn what_was_found_to_write_waits_whatever_it_looks_like() {
    let names = Names::default();
    let select = query("select f()");
    let unit = unit(&select, &names);
    for stand in [Stand::Outside, Stand::Deferred] {
        assert_eq!(decide(stand, &unit, QUEUE, true), Decision::Wait);
        assert_eq!(decide(stand, &unit, REJECT, true), Decision::Refuse);
    }
}

#[test]
fn answers_come_as_the_server_would_give_them() {
    let tags = |bytes: &[u8]| -> String {
        let (mut rest, mut tags) = (bytes, String::new());
        while let Some((header, behind)) = rest.split_first_chunk::<5>() {
            tags.push(char::from(header[0]));
            let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]);
            rest = &behind[length as usize - 4..];
        }
        tags
    };
    for (bytes, command, wanted) in [
        (query("begin"), Some("BEGIN"), "CZ"),
        (query(""), None, "IZ"),
        (batch("B - a; D P -; E -; S"), Some("BEGIN"), "2nCZ"),
        (batch("B - a; E -; C P -; H"), Some("BEGIN"), "2C3"),
        (batch("S"), None, "Z"),
    ] {
        assert_eq!(tags(&answers(&bytes, command, b'T')), wanted);
    }
    let said = answers(&query("begin"), Some("BEGIN"), b'T');
    assert_eq!(said, b"C\0\0\0\x0aBEGIN\0Z\0\0\0\x05T");
    assert_eq!(begin_tag(b"/* a */ Start Transaction"), "START TRANSACTION");
    assert_eq!(begin_tag(b"begin work"), "BEGIN");
    assert_eq!(end_tag(Ends::Commit, false), "COMMIT");
    assert_eq!(end_tag(Ends::Commit, true), "ROLLBACK");
    assert_eq!(Tag::Set.text(), "SET");
}
