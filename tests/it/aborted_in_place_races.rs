//! What may happen while a transaction is aborted in place: the client speaks, the gate opens, a
//! cancel request was late, the server ends.

use serde_json::{Value, json};

use crate::support::message::{self, Message};
use crate::support::poll::{SOON, until};
use crate::support::proxy::Proxy;
use crate::support::script::{Script, Server, greeting};
use crate::support::wire::Wire;

const DB: &str = "scripted";

fn firm() -> Value {
    json!({"ladder": "firm", "wait": "50ms", "cancel": "0s", "stuck": "0s", "abort": "60s"})
}

/// A session at a scripted server, idle in a transaction that a drain begins to abort: the server has
/// read the messages for that, and answered none of them.
async fn injected() -> (Proxy, Script, Wire, Server) {
    let (proxy, script, wire, server, _key) = injected_with_key().await;
    (proxy, script, wire, server)
}

/// The same, and the key that the client was given.
async fn injected_with_key() -> (Proxy, Script, Wire, Server, (u32, Vec<u8>)) {
    let mut script = Script::listen().await;
    let proxy = Proxy::before(&format!("postgres://postgres@{}", script.addr()), &[]).await;
    let mut wire = Wire::connect(proxy.addr()).await;
    wire.send(&message::startup(&[("user", "u"), ("database", DB)]))
        .await;
    let mut server = script.accept_session(DB).await;
    server.wire.send(&greeting(4242, b"abcd")).await;
    let login = wire.read_until_ready().await;
    let key = login.into_iter().find(|it| it.tag == b'K').expect("a key");
    let (pid, secret) = key.body.split_first_chunk().expect("a process id");
    let key = (u32::from_be_bytes(*pid), secret.to_vec());
    wire.send(&message::query("BEGIN")).await;
    server.wire.expect(b'Q').await;
    server.wire.send(&done("BEGIN", b'T')).await;
    wire.read_until_ready().await;
    proxy.hold(DB, firm()).await;
    assert_injected(&mut server, "PBECCPBECCPS").await;
    (proxy, script, wire, server, key)
}

fn done(tag: &str, status: u8) -> Vec<u8> {
    [
        message::command_complete(tag),
        message::ready_for_query(status),
    ]
    .concat()
}

/// Messages of the proxy's own, up to its Sync.
async fn assert_injected(server: &mut Server, tags: &str) {
    let mut read = String::new();
    while !read.ends_with('S') {
        let Message { tag, body } = server.wire.read().await;
        let name = b"__pgdrain\0";
        let named = body.starts_with(name) || body.get(1..).is_some_and(|it| it.starts_with(name));
        assert!(named || tag == b'S', "{} {body:?}", char::from(tag));
        read.push(char::from(tag));
    }
    assert_eq!(read, tags);
}

/// One statement of the proxy's own, executed.
fn executed(tag: &str) -> Vec<u8> {
    [
        message::parse_complete(),
        message::bind_complete(),
        message::command_complete(tag),
        message::close_complete(),
        message::close_complete(),
    ]
    .concat()
}

/// What a server answers when all goes well.
fn aborted() -> Vec<u8> {
    [
        executed("ROLLBACK"),
        executed("BEGIN"),
        message::error_response("42601", "syntax error at or near \"pgdrain\""),
        message::ready_for_query(b'E'),
    ]
    .concat()
}

async fn until_aborted(proxy: &Proxy) {
    until("an aborted session", SOON, async || {
        proxy.sessions(DB).await[0]["state"] == "aborted"
    })
    .await;
    assert_eq!(proxy.status(DB).await["permits"], 0);
}

#[tokio::test]
async fn a_commit_that_comes_meanwhile_is_refused_also_when_the_gate_opens() {
    for opens in [false, true] {
        let (proxy, _script, mut wire, mut server) = injected().await;
        let select = message::query("SELECT 1");
        wire.send(&[message::query("COMMIT"), select].concat())
            .await;
        if opens {
            proxy.open(DB).await;
        }
        let news = message::notification(7, "news", "meanwhile");
        for byte in [news.clone(), aborted(), news.clone()].concat() {
            server.wire.send(&[byte]).await;
        }
        assert_injected(&mut server, "PBECCS").await;
        wire.expect_bytes(&[news.clone(), news].concat()).await;
        let rolled_back = [executed("ROLLBACK"), message::ready_for_query(b'I')];
        server.wire.send(&rolled_back.concat()).await;
        let answer = wire.read_until_ready().await;
        assert_eq!(answer[0].sqlstate(), "40001", "{answer:?}");
        assert_eq!(answer[1].body, b"I");
        if !opens {
            proxy.until_held(DB, 1).await;
            proxy.open(DB).await;
        }
        let query = server.wire.expect(b'Q').await;
        assert_eq!(query.body, b"SELECT 1\0");
        server.wire.send(&done("SELECT 0", b'I')).await;
        wire.read_until_ready().await;
    }
}

#[tokio::test]
async fn a_cancel_request_that_was_late_makes_it_try_again_and_then_give_up() {
    let hit = [
        message::error_response("57014", "canceling statement due to user request"),
        message::ready_for_query(b'E'),
    ]
    .concat();
    let (proxy, _script, mut wire, mut server) = injected().await;
    server.wire.send(&hit).await;
    assert_injected(&mut server, "CPBECCPBECCPS").await;
    server.wire.send(&aborted()).await;
    until_aborted(&proxy).await;
    wire.assert_silent().await;
    let answer = wire.query("SELECT 1").await;
    assert_eq!(answer[0].sqlstate(), "40001", "{answer:?}");

    let (proxy, _script, mut wire, mut server) = injected().await;
    for again in [true, true, false] {
        server.wire.send(&hit).await;
        if again {
            // What was hit may have left its statement behind.
            assert_injected(&mut server, "CPBECCPBECCPS").await;
        }
    }
    server.wire.expect(b'X').await;
    drop(server);
    let last = wire.read_to_end().await;
    assert_eq!(last[0].sqlstate(), "57P01", "{last:?}");
    until("no session", SOON, async || {
        proxy.sessions(DB).await.is_empty()
    })
    .await;
}

#[tokio::test]
async fn a_cancel_request_meanwhile_finds_nothing_to_cancel() {
    let (proxy, mut script, mut wire, mut server, key) = injected_with_key().await;
    // It is answered by the end of its connection once it was carried out, or found needless.
    Wire::cancel(proxy.addr(), key).await;
    server.wire.send(&aborted()).await;
    until_aborted(&proxy).await;
    wire.send(&message::query("ROLLBACK")).await;
    server.wire.expect(b'Q').await;
    server.wire.send(&done("ROLLBACK", b'I')).await;
    assert_eq!(wire.read_until_ready().await[0].body, b"ROLLBACK\0");
    proxy.open(DB).await;
    // Whoever comes next is no cancel request: that would not be a session.
    let mut other = Wire::connect(proxy.addr()).await;
    let startup = message::startup(&[("user", "u"), ("database", DB)]);
    other.send(&startup).await;
    script.accept_session(DB).await;
}

#[tokio::test]
async fn a_server_that_ends_meanwhile_is_told_in_its_own_words_or_in_ours() {
    let (proxy, _script, mut wire, mut server) = injected().await;
    let mut words = message::error_response("57P01", "terminating connection");
    // The field V as a server writes it.
    let at = words.windows(6).position(|it| it == b"VERROR");
    if let Some(at) = at {
        words.splice(at..at + 6, *b"VFATAL");
    }
    let half = executed("ROLLBACK");
    server.wire.send(&[half, words].concat()).await;
    drop(server);
    let last = wire.read_to_end().await;
    assert_eq!(last[0].sqlstate(), "57P01", "{last:?}");
    until("no session", SOON, async || {
        proxy.sessions(DB).await.is_empty()
    })
    .await;
    assert_eq!(proxy.status(DB).await["permits"], 0);

    let (proxy, _script, mut wire, mut server) = injected().await;
    server.wire.send(&aborted()).await;
    until_aborted(&proxy).await;
    wire.send(&message::query("COMMIT")).await;
    assert_injected(&mut server, "PBECCS").await;
    drop(server);
    let last = wire.read_to_end().await;
    assert_eq!(last[0].sqlstate(), "57P01", "{last:?}");
    let detail = last[0].field(b'D').unwrap_or_default();
    assert!(detail.contains("not executed"), "{last:?}");
}
