//! Messages as large as there are, and as many as anybody wants: memory stays where it was.

use std::fs;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::cluster::Postgres;
use crate::support::holds::DB;
use crate::support::message::{self, query, terminate};
use crate::support::poll::{PATIENCE, within};
use crate::support::proxy::Proxy;
use crate::support::script::{Script, greeting};
use crate::support::wire::Wire;

/// The largest length of a message that the server accepts, `MaxAllocSize - 1`.
const FROM_CLIENT: u32 = 0x3fff_fffe;

/// The largest length of a message that a server sends.
const FROM_SERVER: u32 = 0x4000_0002;

/// What the proxy may need at most on top, whatever passes.
const GROWTH_KIB: u64 = 16 << 10;

/// The most memory that the process ever had, in KiB.
fn peak_kib(proxy: &Proxy) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", proxy.pid()));
    let status = status.expect("a running process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.expect("VmHWM in /proc/PID/status")
}

fn assert_small(proxy: &Proxy, before: u64) {
    let now = peak_kib(proxy);
    assert!(now < before + GROWTH_KIB, "from {before} KiB to {now} KiB");
}

/// Sends a message of this length without ever having it whole: `begin`, spaces, and `end`.
async fn send_long(stream: &mut TcpStream, tag: u8, length: u32, begin: &[u8], end: &[u8]) {
    let chunk = vec![b' '; 1 << 20];
    let ends = 4 + begin.len() + end.len();
    let mut left = usize::try_from(length).expect("64 bits") - ends;
    let header = [&[tag], length.to_be_bytes().as_slice(), begin].concat();
    stream.write_all(&header).await.expect("an open connection");
    while left > 0 {
        let part = left.min(chunk.len());
        stream
            .write_all(&chunk[..part])
            .await
            .expect("an open connection");
        left -= part;
    }
    stream.write_all(end).await.expect("an open connection");
}

/// Everything that a session answers to these bytes, up to its end.
async fn answer_to(mut session: Wire, bytes: &[u8]) -> Vec<u8> {
    session.send(&[bytes, &terminate()].concat()).await;
    let mut answer = Vec::new();
    let mut stream = session.into_stream();
    let read = within("an answer", PATIENCE, stream.read_to_end(&mut answer)).await;
    read.expect("a good end");
    answer
}

#[tokio::test]
async fn a_query_as_long_as_the_server_takes_passes_and_takes_no_memory() {
    let postgres = Postgres::start().await;
    let proxy = Proxy::start(&postgres).await;
    drop(proxy.session(DB).await);
    let before = peak_kib(&proxy);
    let mut stream = proxy.session(DB).await.into_stream();
    let sent = send_long(&mut stream, b'Q', FROM_CLIENT, b"SELECT", b"'the end'\0");
    within("a gigabyte to be taken", PATIENCE, sent).await;
    let mut session = Wire::new(stream);
    let row = within("an answer", PATIENCE, async {
        session.next().await.expect("a description");
        session.next().await.expect("a row")
    });
    assert_eq!(row.await.columns(), [Some("the end".to_owned())]);
    assert_small(&proxy, before);
}

/// Four bytes longer than a client's may be.
#[tokio::test]
async fn a_row_as_long_as_a_server_sends_passes_and_takes_no_memory() {
    let mut script = Script::listen().await;
    let proxy = Proxy::before(&format!("postgres://postgres@{}", script.addr()), &[]).await;
    let mut wire = Wire::connect(proxy.addr()).await;
    wire.send(&message::startup(&[
        ("user", "u"),
        ("database", "scripted"),
    ]))
    .await;
    let mut server = script.accept_session("scripted").await;
    server.wire.send(&greeting(4242, b"abcd")).await;
    wire.read_until_ready().await;
    wire.send(&query("SELECT much")).await;
    server.wire.expect(b'Q').await;
    let before = peak_kib(&proxy);
    let (mut from, mut to) = (server.wire.into_stream(), wire.into_stream());
    let sending = send_long(&mut from, b'D', FROM_SERVER, b"\0\x01", b"");
    let reading = async {
        let mut left = u64::from(FROM_SERVER) + 1;
        let mut buffer = vec![0; 1 << 20];
        while left > 0 {
            let read = to.read(&mut buffer).await.expect("an open connection");
            assert_ne!(read, 0, "{left} bytes are missing");
            left -= u64::try_from(read).expect("64 bits");
        }
    };
    within("a gigabyte to pass", PATIENCE, async {
        tokio::join!(sending, reading)
    })
    .await;
    assert_small(&proxy, before);
    let rest = [
        message::command_complete("SELECT 1"),
        message::ready_for_query(b'I'),
    ]
    .concat();
    from.write_all(&rest).await.expect("an open connection");
    Wire::new(to).expect_bytes(&rest).await;
}

#[tokio::test]
async fn a_million_rows_of_one_byte_read_as_directly() {
    let postgres = Postgres::start().await;
    let proxy = Proxy::start(&postgres).await;
    let before = peak_kib(&proxy);
    let rows = query("SELECT 'x' FROM generate_series(1, 1000000)");
    let direct = answer_to(Wire::login(postgres.addr(), "postgres", DB).await, &rows).await;
    let proxied = answer_to(proxy.session(DB).await, &rows).await;
    assert!(direct.len() > 12_000_000, "{} bytes", direct.len());
    assert!(
        direct == proxied,
        "{} and {} bytes",
        direct.len(),
        proxied.len()
    );
    assert_small(&proxy, before);
}

/// Neither direction waits for the other (supavisor #993).
#[tokio::test]
async fn a_pipeline_that_fills_both_directions_does_not_stop() {
    let postgres = Postgres::start().await;
    let proxy = Proxy::start(&postgres).await;
    let before = peak_kib(&proxy);
    let unit = query(&format!(
        "SELECT repeat('r', 2000) /*{}*/",
        "c".repeat(2000)
    ));
    let units = 10_000;
    let stream = proxy.session(DB).await.into_stream();
    let (mut from, mut to) = stream.into_split();
    let sending = async {
        for _ in 0..units {
            to.write_all(&unit).await.expect("an open connection");
        }
        to.write_all(&terminate())
            .await
            .expect("an open connection");
    };
    let mut answer = Vec::new();
    let both = async { tokio::join!(sending, from.read_to_end(&mut answer)) };
    within("the end of the pipeline", PATIENCE, both)
        .await
        .1
        .expect("a good end");
    let one = answer_to(Wire::login(postgres.addr(), "postgres", DB).await, &unit).await;
    assert!(answer == one.repeat(units), "{} bytes", answer.len());
    assert_small(&proxy, before);
}
