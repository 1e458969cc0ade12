//! Function calls, which libpq's large objects are made of: they are units like any Query.
//!
//! Each conversation is held with the server and through the proxy, and compared byte for byte.

use serde_json::json;

use crate::support::alike::{Alike, tags};
use crate::support::cluster::Postgres;
use crate::support::holds::DB;
use crate::support::message::{bind, execute, function_call, parse, query, sync};
use crate::support::wire::Wire;

// Functions by their fixed numbers (`src/include/catalog/pg_proc.dat`).
const LO_CREATE: u32 = 715;
const LO_OPEN: u32 = 952;
const LO_CLOSE: u32 = 953;
const LO_READ: u32 = 954;
const LO_WRITE: u32 = 955;
const LO_SEEK: u32 = 956;
const LO_UNLINK: u32 = 964;
const INT4PL: u32 = 177;

/// `INV_READ | INV_WRITE`.
const READ_AND_WRITE: i32 = 0x60000;

/// A call with integers.
fn call(function: u32, arguments: &[i32]) -> Vec<u8> {
    let arguments: Vec<_> = arguments
        .iter()
        .map(|number| number.to_be_bytes())
        .collect();
    let arguments: Vec<_> = arguments.iter().map(|bytes| Some(&bytes[..])).collect();
    function_call(function, &arguments)
}

/// Sends 400 kB, as `lo_write` does.
fn write(descriptor: i32) -> Vec<u8> {
    let data: Vec<u8> = (0..400_000_u32).map(|n| n.to_be_bytes()[3]).collect();
    function_call(LO_WRITE, &[Some(&descriptor.to_be_bytes()), Some(&data)])
}

#[tokio::test]
async fn a_large_object_is_written_and_read_by_function_calls() {
    let postgres = Postgres::start().await;
    let alike = Alike::start(&postgres).await;
    let talk = async |wire: &mut Wire| {
        let calls = [
            query("BEGIN"),
            call(LO_CREATE, &[4242]),
            call(LO_OPEN, &[4242, READ_AND_WRITE]),
            write(0),
            call(LO_SEEK, &[0, 0, 0]),
            call(LO_READ, &[0, 500_000]),
            call(LO_CLOSE, &[0]),
            query("COMMIT"),
            call(LO_UNLINK, &[4242]),
        ];
        let mut answer = Vec::new();
        for call in &calls {
            answer.extend(wire.units(call, 1).await);
        }
        // And all of it without waiting.
        answer.extend(wire.units(&calls.concat(), calls.len()).await);
        answer
    };
    let answer = alike.sessions("a large object", talk).await;
    assert_eq!(tags(&answer), "CZVZVZVZVZVZVZCZVZ".repeat(2));
    assert!(answer.iter().any(|message| message.body.len() > 400_000));
}

/// A call is a unit of its own, also inside a batch; behind an error it is swallowed up to the
/// Sync.
#[tokio::test]
async fn function_calls_mix_with_everything_else() {
    let postgres = Postgres::start().await;
    let alike = Alike::start(&postgres).await;
    let plus = || call(INT4PL, &[1, 2]);
    let select = || [parse("", "SELECT 1"), bind("", "", &[]), execute("", 0)].concat();
    let overflow = || call(INT4PL, &[i32::MAX, 1]);
    for (messages, units, expected) in [
        (vec![plus(), query("SELECT 1"), plus()], 3, "VZTDCZVZ"),
        (vec![select(), plus(), select(), sync()], 2, "12DCVZ12DCZ"),
        (
            vec![parse("", "not sql"), plus(), query("SELECT 1"), sync()],
            1,
            "EZ",
        ),
        (vec![overflow(), plus()], 2, "EZVZ"),
        (
            vec![query("BEGIN"), overflow(), plus(), query("ROLLBACK")],
            4,
            "CZEZEZCZ",
        ),
        (vec![call(1, &[]), call(INT4PL, &[1]), plus()], 3, "EZEZVZ"),
    ] {
        let bytes = messages.concat();
        let talk = async |wire: &mut Wire| {
            let answer = wire.units(&bytes, units).await;
            if wire.peer_is(alike.proxy.addr()) {
                alike.proxy.hold_drained(DB, json!({})).await;
                alike.proxy.open(DB).await;
            }
            answer
        };
        assert_eq!(tags(&alike.sessions(expected, talk).await), expected);
    }
}

/// Drains wait for them, and holds hold them: no look at SQL would find the write in one.
#[tokio::test]
async fn a_function_call_is_held_like_a_statement() {
    let mut postgres = Postgres::start().await;
    let alike = Alike::start(&postgres).await;
    let mut session = alike.proxy.session(DB).await;
    alike.proxy.hold_drained(DB, json!({})).await;
    session.send(&call(LO_CREATE, &[77])).await;
    alike.proxy.until_held(DB, 1).await;
    assert_eq!(
        postgres
            .count("SELECT count(*) FROM pg_largeobject_metadata")
            .await,
        0
    );
    alike.proxy.open(DB).await;
    assert_eq!(tags(&session.read_until_ready().await), "VZ");
    assert_eq!(
        postgres
            .count("SELECT count(*) FROM pg_largeobject_metadata")
            .await,
        1
    );
}
