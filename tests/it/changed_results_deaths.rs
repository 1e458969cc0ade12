//! A session that ends while its statement is prepared anew: by the server, by the client. What was not
//! executed is not executed then either, and nobody is left with a permit.

use serde_json::json;

use crate::support::message::{self, Message};
use crate::support::poll::{SOON, until};
use crate::support::proxy::Proxy;
use crate::support::script::{Script, Server, greeting};
use crate::support::wire::Wire;

const DB: &str = "scripted";

/// What a server says when the columns of a prepared statement have changed.
fn refusal() -> Vec<u8> {
    let words = b"SERROR\0VERROR\0C0A000\0Mcached plan must not change result type\0\
        RRevalidateCachedQuery\0\0";
    [message::tagged(b'E', words), message::ready_for_query(b'I')].concat()
}

/// A session whose batch the server has refused for its changed columns, and which the proxy has asked
/// for the statement's text. The server has read the question, and not answered it.
async fn asked() -> (Proxy, Script, Wire, Server) {
    let mut script = Script::listen().await;
    let proxy = Proxy::before(&format!("postgres://postgres@{}", script.addr()), &[]).await;
    let mut wire = Wire::connect(proxy.addr()).await;
    wire.send(&message::startup(&[("user", "u"), ("database", DB)]))
        .await;
    let mut server = script.accept_session(DB).await;
    server.wire.send(&greeting(4242, b"abcd")).await;
    wire.read_until_ready().await;
    wire.send(&[message::parse("s", "SELECT * FROM t"), message::sync()].concat())
        .await;
    server.wire.expect(b'P').await;
    server.wire.expect(b'S').await;
    server.wire.send(&done(&message::parse_complete())).await;
    wire.read_until_ready().await;
    proxy.hold(DB, json!({})).await;
    proxy.open(DB).await;
    let batch = [
        message::bind("", "s", &[]),
        message::describe(b'P', ""),
        message::execute("", 0),
        message::sync(),
    ];
    wire.send(&batch.concat()).await;
    for tag in *b"BDES" {
        server.wire.expect(tag).await;
    }
    server.wire.send(&refusal()).await;
    for tag in *b"PBECCS" {
        let Message { body, .. } = server.wire.expect(tag).await;
        let ours = |body: &[u8]| body.starts_with(b"__pgdrain\0");
        assert!(tag == b'S' || ours(&body) || ours(&body[1..]), "{body:?}");
    }
    (proxy, script, wire, server)
}

fn done(answer: &[u8]) -> Vec<u8> {
    [answer, &message::ready_for_query(b'I')].concat()
}

/// The answer to the question.
fn text() -> Vec<u8> {
    done(
        &[
            message::parse_complete(),
            message::bind_complete(),
            message::data_row(&[Some("SELECT * FROM t"), Some("{}")]),
            message::command_complete("SELECT 1"),
            message::close_complete(),
            message::close_complete(),
        ]
        .concat(),
    )
}

/// Nobody is left, and nothing is in the way of a hold.
async fn assert_over(proxy: &Proxy) {
    until("no session", SOON, async || {
        proxy.sessions(DB).await.is_empty()
    })
    .await;
    proxy.hold(DB, json!({})).await;
    let drain = proxy.drain(DB).await;
    assert_eq!(drain["waited_for"], json!([]), "{drain}");
    proxy.open(DB).await;
}

/// Its client gets the refusal, and then learns that the server is gone: the batch was not executed.
#[tokio::test]
async fn when_the_server_dies_the_client_gets_its_refusal_first() {
    // With nothing of the answer, with half of it, and between the two questions.
    for (answered, asks_on) in [(0, false), (20, false), (usize::MAX, true)] {
        let (proxy, _script, mut wire, mut server) = asked().await;
        let text = text();
        server.wire.send(&text[..answered.min(text.len())]).await;
        if asks_on {
            for tag in *b"PCCPS" {
                server.wire.expect(tag).await;
            }
        }
        drop(server);
        let last = wire.read_to_end().await;
        assert_eq!(last[0].sqlstate(), "0A000", "{last:?}");
        let others = last.iter().skip(1).filter(|it| it.tag == b'E');
        for error in others {
            assert_eq!(error.sqlstate(), "57P01", "{last:?}");
        }
        assert!(!last.iter().any(|it| b"2TDC".contains(&it.tag)), "{last:?}");
        assert_over(&proxy).await;
    }
}

/// Its batch is not sent again: nothing is started after its client left.
#[tokio::test]
async fn when_the_client_dies_nothing_more_is_started() {
    let cancelled = [
        message::error_response("57014", "canceling statement due to user request"),
        message::ready_for_query(b'I'),
    ];
    for answer in [text(), cancelled.concat()] {
        let (proxy, _script, wire, mut server) = asked().await;
        drop(wire);
        // The proxy may have gone by then.
        drop(server.wire.try_send(&answer).await);
        while let Some(Message { tag, body }) = server.wire.next().await {
            let of_client = tag == b'B' && body.starts_with(b"\0s\0");
            assert!(!of_client, "sent again after its client left");
            if tag == b'S' {
                // Its own statements may be prepared still, and hurt nobody.
                drop(server.wire.try_send(&done(&[])).await);
            }
        }
        // The proxy has closed its side, and waits for the server's.
        drop(server);
        assert_over(&proxy).await;
    }
}
