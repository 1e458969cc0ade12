//! Servers that behave oddly: what is legal passes unchanged, what is not ends the session.

use crate::support::alike::tags;
use crate::support::message::{
    self, command_complete, data_row, query, ready_for_query, row_description, tagged,
};
use crate::support::proxy::Proxy;
use crate::support::script::{Script, Server, greeting};
use crate::support::wire::Wire;

/// Lengths that no message of a server has.
const IMPOSSIBLE: [u32; 8] = [0, 1, 2, 3, 0x4000_0003, 0x7fff_ffff, 0x8000_0000, u32::MAX];

/// A scripted server and a proxy in front of it.
struct Stage {
    script: Script,
    proxy: Proxy,
}

impl Stage {
    async fn set() -> Self {
        let script = Script::listen().await;
        let proxy = Proxy::before(&format!("postgres://postgres@{}", script.addr()), &[]).await;
        Self { script, proxy }
    }

    /// A client that has asked, and its server.
    async fn ask(&mut self, login: &[u8]) -> (Wire, Server) {
        let mut wire = Wire::connect(self.proxy.addr()).await;
        let startup = message::startup(&[("user", "u"), ("database", "scripted")]);
        wire.send(&startup).await;
        let mut server = self.script.accept_session("scripted").await;
        server.wire.send(login).await;
        (wire, server)
    }

    /// A session that has sent a Query.
    async fn query(&mut self) -> (Wire, Server) {
        let (mut wire, mut server) = self.ask(&greeting(4242, b"abcd")).await;
        wire.read_until_ready().await;
        wire.send(&query("SELECT 1")).await;
        server.wire.expect(b'Q').await;
        (wire, server)
    }
}

fn answer() -> Vec<u8> {
    let rows = [
        row_description(&["a"]),
        data_row(&[Some("1")]),
        data_row(&[None]),
    ];
    [
        rows.concat(),
        command_complete("SELECT 2"),
        ready_for_query(b'I'),
    ]
    .concat()
}

/// Errors without fields (CVE-2026-6666), notices without text, types that nobody knows, parameters
/// that nobody asked for.
#[tokio::test]
async fn odd_messages_of_a_server_pass_unchanged() {
    let mut stage = Stage::set().await;
    let odd = [
        tagged(b'E', b""),
        tagged(b'E', b"\0"),
        tagged(b'E', b"X"),
        tagged(b'N', b""),
        tagged(b'N', b"M\0\0"),
        tagged(b'S', b""),
        tagged(b'S', b"only a name"),
        tagged(b'A', b"\0"),
        tagged(b'v', b"\0\x03\0\0\0\0\0\0"),
        tagged(b'?', b"from the future"),
        tagged(0, b""),
        tagged(255, &[0; 1000]),
        tagged(b'C', b""),
        tagged(b'T', b""),
        tagged(b'D', b"\xff\xff"),
        tagged(b'K', b"another key"),
        tagged(b'R', b"\0\0\0\x03"),
    ];
    let answer = [odd.concat(), answer(), odd.concat()].concat();
    let (mut wire, mut server) = stage.query().await;
    server.wire.send(&answer).await;
    wire.expect_bytes(&answer).await;
    wire.send(&query("SELECT 2")).await;
    assert_eq!(server.wire.expect(b'Q').await.bytes(), query("SELECT 2"));
}

/// During the login too; the key alone is read by us.
#[tokio::test]
async fn an_error_without_fields_ends_a_login_as_it_is() {
    let mut stage = Stage::set().await;
    for error in [tagged(b'E', b""), tagged(b'E', b"\0")] {
        let (mut wire, _server) = stage.ask(&error).await;
        wire.expect_bytes(&error).await;
        assert_eq!(wire.read_raw_to_end().await, b"");
    }
}

/// What a hostile server says in a SASL exchange is the client's to judge, and no length of it
/// harms us (CVE-2026-6665).
#[tokio::test]
async fn whatever_a_server_says_in_sasl_passes_or_ends_the_login() {
    let mut stage = Stage::set().await;
    let sasl = |kind: u8, body: &[u8]| tagged(b'R', &[&[0, 0, 0, kind], body].concat());
    for challenge in [
        sasl(10, b""),
        sasl(10, b"SCRAM-SHA-256\0"),
        sasl(10, &[b'm'; 60_000]),
        sasl(11, b"r=,s=,i=99999999999999999999"),
        sasl(11, &vec![b','; 65_000]),
        sasl(99, b"unheard of"),
    ] {
        let (mut wire, _server) = stage.ask(&challenge).await;
        wire.expect_bytes(&challenge).await;
    }
    for endless in [
        sasl(10, &vec![b'm'; 70_000]),
        b"R\x3f\xff\xff\xff".to_vec(),
        b"R\0\0\0\x03".to_vec(),
    ] {
        let (mut wire, _server) = stage.ask(&endless).await;
        let answer = wire.read_to_end().await;
        assert_eq!(
            (tags(&answer).as_str(), answer[0].sqlstate().as_str()),
            ("E", "08P01")
        );
    }
}

/// Cut anywhere, the bytes are the same and the session goes on.
#[tokio::test]
async fn an_answer_may_be_cut_at_every_byte() {
    let mut stage = Stage::set().await;
    let (mut wire, mut server) = stage.query().await;
    let answer = answer();
    for cut in 0..answer.len() {
        server.wire.send(&answer[..cut]).await;
        wire.expect_bytes(&answer[..cut]).await;
        server.wire.send(&answer[cut..]).await;
        wire.expect_bytes(&answer[cut..]).await;
        wire.send(&query("SELECT 1")).await;
        server.wire.expect(b'Q').await;
    }
}

/// The last bytes of a login may bring the first of something else.
#[tokio::test]
async fn what_follows_the_login_at_once_is_passed_on() {
    let mut stage = Stage::set().await;
    let greeting = greeting(4242, b"abcd");
    let behind = [
        message::parameter_status("a", "b"),
        message::notification(7, "news", "early"),
    ]
    .concat();
    for cut in 0..=behind.len() {
        let (mut wire, mut server) = stage.ask(&[&greeting, &behind[..cut]].concat()).await;
        wire.read_until_ready().await;
        wire.expect_bytes(&behind[..cut]).await;
        server.wire.send(&behind[cut..]).await;
        wire.expect_bytes(&behind[cut..]).await;
        wire.send(&query("SELECT 1")).await;
        server.wire.expect(b'Q').await;
        server.wire.send(&answer()).await;
        wire.expect_bytes(&answer()).await;
    }
}

/// The client gets what there was, and the end.
#[tokio::test]
async fn a_server_that_ends_in_the_middle_of_a_message_ends_the_client_there() {
    let mut stage = Stage::set().await;
    let answer = answer();
    for cut in [1, 4, 5, 6, answer.len() - 1, answer.len()] {
        let (mut wire, mut server) = stage.query().await;
        server.wire.send(&answer[..cut]).await;
        drop(server);
        assert_eq!(wire.read_raw_to_end().await, &answer[..cut]);
    }
}

/// What came before is the client's; then nobody could say where the next message begins.
#[tokio::test]
async fn a_length_that_is_impossible_ends_the_session_behind_what_came_before() {
    let mut stage = Stage::set().await;
    for length in IMPOSSIBLE {
        let nonsense = [b"D".as_slice(), &length.to_be_bytes(), b"\0\x01\0\0"].concat();
        let (mut wire, mut server) = stage.query().await;
        server
            .wire
            .send(&[data_row(&[Some("1")]), nonsense.clone()].concat())
            .await;
        wire.expect_bytes(&data_row(&[Some("1")])).await;
        let rest = wire.read_to_end().await;
        assert_eq!(tags(&rest), "E", "length {length:#x}");
        assert_eq!(rest[0].sqlstate(), "08P01", "length {length:#x}");
        // Behind the login, in the same breath. Where its header comes in pieces the client has
        // part of it already, and nothing can be said any more.
        let (mut wire, _server) = stage
            .ask(&[greeting(7, b"abcd"), nonsense.clone()].concat())
            .await;
        wire.read_until_ready().await;
        let rest = wire.read_raw_to_end().await;
        let told = rest.windows(6).any(|bytes| bytes == b"C08P01");
        let cut = rest.len() < 5 && nonsense.starts_with(&rest);
        assert!(told || cut, "length {length:#x}: {}", rest.escape_ascii());
    }
}

/// It says which state the transaction is in: one that does not, or says more, is none.
#[tokio::test]
async fn a_ready_for_query_of_another_length_ends_the_session() {
    let mut stage = Stage::set().await;
    for body in [b"".as_slice(), b"II", b"I\0\0\0"] {
        let (mut wire, mut server) = stage.query().await;
        server.wire.send(&tagged(b'Z', body)).await;
        let rest = wire.read_to_end().await;
        assert_eq!(tags(&rest), "E", "{body:?}");
        assert_eq!(rest[0].sqlstate(), "08P01", "{body:?}");
    }
}
