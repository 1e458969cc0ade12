//! The proxy in front of us tells where clients come from, if it is listed, and nobody else does.

use crate::support::cluster::Postgres;
use crate::support::holds::DB;
use crate::support::message;
use crate::support::poll::{SOON, until};
use crate::support::proxy::Proxy;
use crate::support::wire::Wire;

const POSTGRES: [(&str, &str); 2] = [("user", "postgres"), ("database", DB)];

/// Addresses of loopback: one that is listed, and one that is not.
const LISTED: [u8; 4] = [127, 0, 0, 2];
const UNLISTED: [u8; 4] = [127, 0, 0, 3];

const TEXT: &[u8] = b"PROXY TCP4 203.0.113.7 127.0.0.1 50122 6432\r\n";

async fn start(postgres: &Postgres, more: &str) -> Proxy {
    let listen = "[{ address = \"127.0.0.1:0\", proxy_protocol = [\"127.0.0.2/32\"] }]";
    Proxy::start_configured(postgres, &format!("listen = {listen}\n{more}")).await
}

/// A header of version 2.
fn binary(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
    let length = u16::try_from(block.len())
        .expect("a short block")
        .to_be_bytes();
    [
        b"\r\n\r\n\0\r\nQUIT\n",
        &[command, family][..],
        &length,
        block,
    ]
    .concat()
}

async fn log_in(proxy: &Proxy, header: &[u8]) -> Result<Wire, String> {
    let mut wire = Wire::connect_from(LISTED, proxy.addr()).await;
    wire.send(header).await;
    let outcome = wire.log_in(&POSTGRES, None).await;
    outcome.map(|()| wire).map_err(|error| error.sqlstate())
}

#[tokio::test]
async fn a_client_is_where_its_header_says() {
    let postgres = Postgres::start().await;
    let proxy = start(&postgres, "allow_unauthenticated = true").await;
    let v6 = {
        let mut block = [0; 36];
        block[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
        (block[15], block[31]) = (7, 1);
        block[32..34].copy_from_slice(&50123_u16.to_be_bytes());
        // A unique id behind the addresses.
        [&block[..], &[5, 0, 3], b"xyz"].concat()
    };
    for (header, client) in [
        (TEXT.to_vec(), "203.0.113.7:50122"),
        (binary(0x21, 0x21, &v6), "[2001:db8::7]:50123"),
        // Those that do not tell are the proxy itself, as far as anybody knows.
        (b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.2:"),
        (binary(0x21, 0x00, b""), "127.0.0.2:"),
        (binary(0x21, 0x31, &[b'/'; 216]), "127.0.0.2:"),
        (binary(0x20, 0x00, b""), "127.0.0.2:"),
    ] {
        let name = header.escape_ascii().to_string();
        let mut wire = log_in(&proxy, &header).await.expect(&name);
        let (pid, _) = wire.key();
        let sessions = proxy.sessions(DB).await;
        let session = sessions.iter().find(|session| session["pid"] == pid);
        let told = session.expect("a session")["client"].to_string();
        assert!(told.contains(client), "{name}: {told}");
        assert_eq!(wire.query_one("SELECT 'served'").await, "served");
    }
    // One that is not listed is who it is, and needs no header.
    let mut wire = Wire::connect_from(UNLISTED, proxy.addr()).await;
    wire.log_in(&POSTGRES, None).await.expect("a login");
    let sessions = proxy.sessions(DB).await;
    let all = format!("{sessions:?}");
    assert!(all.contains("127.0.0.3:"), "{all}");
}

#[tokio::test]
async fn a_header_makes_nobody_local() {
    let postgres = Postgres::start().await;
    let proxy = start(&postgres, "").await;
    // The server trusts the proxy's address, and asks for no proof.
    let loopback = b"PROXY TCP4 127.0.0.1 127.0.0.1 50122 6432\r\n";
    for header in [TEXT, loopback, b"PROXY UNKNOWN\r\n"] {
        let refused = log_in(&proxy, header).await.err();
        assert_eq!(
            refused.as_deref(),
            Some("28000"),
            "{}",
            header.escape_ascii()
        );
    }
    // The proxy's own connection is from this machine: it says so, and we see it.
    let mut wire = log_in(&proxy, &binary(0x20, 0x00, b""))
        .await
        .expect("local");
    assert_eq!(wire.query_one("SELECT 'served'").await, "served");
}

#[tokio::test]
async fn from_a_listed_address_nothing_else_is_taken() {
    let postgres = Postgres::start().await;
    let proxy = start(&postgres, "[limits]\nlogin_time = \"500ms\"").await;
    let startup = message::startup(&POSTGRES);
    for bytes in [
        startup.clone(),
        message::ssl_request(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        b"PROXY TCP4 203.0.113.7 127.0.0.1 50122\r\n".to_vec(),
        binary(0x21, 0x11, &[0; 5000]),
    ] {
        let mut wire = Wire::connect_from(LISTED, proxy.addr()).await;
        // It may be closed before all of it was sent.
        drop(wire.try_send(&bytes).await);
        wire.close_write().await;
        let answer = wire.read_raw_to_end().await;
        let text = String::from_utf8_lossy(&answer);
        assert!(text.is_empty() || text.contains("08P01"), "{text:?}");
    }
    assert!(proxy.log().contains("08P01"), "{}", proxy.log());
    assert!(
        proxy.log().contains("PROXY header of 5016 bytes"),
        "{}",
        proxy.log()
    );
    // Half a header is waited for as long as a login.
    let mut wire = Wire::connect_from(LISTED, proxy.addr()).await;
    wire.send(&TEXT[..20]).await;
    assert_eq!(wire.read().await.sqlstate(), "08P01");
    // A header of anybody else is no start-up packet.
    let mut wire = Wire::connect_from(UNLISTED, proxy.addr()).await;
    wire.send(&[TEXT, &startup].concat()).await;
    // As the server: a length that no packet has is not worth an answer.
    let answer = wire.read_to_end().await;
    assert!(answer.iter().all(|it| it.tag == b'E'), "{answer:?}");
}

#[tokio::test]
async fn what_comes_behind_the_header_is_kept_however_it_is_cut() {
    let postgres = Postgres::start().await;
    let proxy = start(&postgres, "allow_unauthenticated = true").await;
    let startup = message::startup(&POSTGRES);
    for header in [
        TEXT.to_vec(),
        binary(0x21, 0x11, &[10, 0, 0, 7, 10, 0, 0, 1, 1, 1, 2, 2]),
    ] {
        let all = [&header[..], &startup].concat();
        for cut in [
            1,
            5,
            6,
            12,
            15,
            16,
            17,
            header.len() - 1,
            header.len(),
            header.len() + 3,
        ] {
            let mut wire = Wire::connect_from(LISTED, proxy.addr()).await;
            wire.send(&all[..cut]).await;
            tokio::task::yield_now().await;
            wire.send(&all[cut..]).await;
            let answer = wire.read_until_ready().await;
            assert_eq!(answer[0].tag, b'R', "cut at {cut}: {answer:?}");
        }
        // SSLRequest behind the header is answered; the rest is as without a header.
        let mut wire = Wire::connect_from(LISTED, proxy.addr()).await;
        wire.send(&[&header[..], &message::ssl_request()].concat())
            .await;
        wire.expect_bytes(b"N").await;
        wire.log_in(&POSTGRES, None).await.expect("a login");
    }
}

#[tokio::test]
async fn limits_are_about_the_client_and_not_about_the_proxy() {
    let postgres = Postgres::start().await;
    let more = "allow_unauthenticated = true\n[limits]\nconnections_per_address = 1";
    let proxy = start(&postgres, more).await;
    let header = |last: u8| format!("PROXY TCP4 203.0.113.{last} 127.0.0.1 5 6\r\n").into_bytes();
    let first = log_in(&proxy, &header(1)).await.expect("free");
    let _second = log_in(&proxy, &header(2)).await.expect("another address");
    assert_eq!(
        log_in(&proxy, &header(1)).await.err().as_deref(),
        Some("53300")
    );
    drop(first);
    until("a free place", SOON, async || {
        let mut wire = Wire::connect_from(LISTED, proxy.addr()).await;
        wire.send(&[&header(1)[..], &message::startup(&POSTGRES)].concat())
            .await;
        // One that is closed unread says nothing.
        wire.try_read().await.is_some_and(|first| first.tag == b'R')
    })
    .await;
}
