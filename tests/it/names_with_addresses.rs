//! `application_name` carries the client's address where that is set, and nothing else changes.

use crate::support::cluster::Postgres;
use crate::support::holds::DB;
use crate::support::message;
use crate::support::proxy::Proxy;
use crate::support::script::{Script, Server};
use crate::support::wire::Wire;

const ON: [(&str, &str); 1] = [("APPLICATION_NAME_ADD_CLIENT", "true")];

#[tokio::test]
async fn the_server_sees_the_clients_address_until_the_client_sets_another_name() {
    let postgres = Postgres::start().await;
    let proxy = Proxy::start_set(&postgres, &ON).await;
    let name = "a name that is longer than the sixty-three bytes that a server keeps of it";
    for (given, shown) in [
        (Some("app"), "app - 127.0.0.1:"),
        (None, "127.0.0.1:"),
        (Some(name), "a name that"),
    ] {
        let mut parameters = vec![("user", "postgres"), ("database", DB)];
        parameters.extend(given.map(|name| ("application_name", name)));
        let login = Wire::login_with(proxy.addr(), &parameters, None).await;
        let mut wire = login.expect("a login");
        let port = "SELECT count(*) FROM pg_stat_activity WHERE pid = pg_backend_pid() \
                    AND application_name ~ '127.0.0.1:[0-9]+$'";
        let told = wire.query_one("SHOW application_name").await;
        assert!(told.starts_with(shown), "{told}");
        assert_eq!(wire.query_one(port).await, "1", "{told}");
        // The client is told what the server knows it as.
        assert_eq!(wire.parameters()["application_name"], told);
        // In our own list the name is the client's.
        let sessions = proxy.sessions(DB).await;
        let session = sessions.iter().find(|it| it["pid"] == wire.key().0);
        let listed = session.expect("a session")["application_name"].clone();
        assert_eq!(listed, given.unwrap_or_default());
        wire.execute("SET application_name = 'own'").await;
        assert_eq!(wire.query_one("SHOW application_name").await, "own");
    }
}

/// The start-up packet of a server connection, which may ask for encryption first.
async fn unencrypted(server: &mut Server) -> Vec<u8> {
    let first = server.wire.next_startup().await.expect("a packet");
    if first.len() > 4 {
        return first;
    }
    server.wire.send(b"N").await;
    server.wire.next_startup().await.expect("a packet")
}

#[tokio::test]
async fn all_else_passes_byte_for_byte() {
    let mut script = Script::listen().await;
    let upstream = format!("postgres://{}", script.addr());
    let strange = b"\0\x03\0\x02user\0\xe9va\0application_name\0\xff\xfe\0_pq_.x\0\x01\0options\0-c a=b\\ c\0\0";
    for (settings, name) in [(&[][..], None), (&ON[..], Some("\\xff\\xfe - 127.0.0.1:"))] {
        let proxy = Proxy::before_set(&upstream, settings).await;
        let mut client = Wire::connect(proxy.addr()).await;
        client.send(&message::untagged(strange)).await;
        let mut server = script.accept().await;
        let packet = unencrypted(&mut server).await;
        let Some(name) = name else {
            assert_eq!(
                packet.escape_ascii().to_string(),
                strange.escape_ascii().to_string()
            );
            continue;
        };
        let packet = packet.escape_ascii().to_string();
        let rest = packet.strip_prefix(
            "\\x00\\x03\\x00\\x02user\\x00\\xe9va\\x00_pq_.x\\x00\\x01\\x00\
             options\\x00-c a=b\\\\ c\\x00application_name\\x00",
        );
        let rest = rest.unwrap_or_else(|| panic!("{packet}"));
        assert!(
            rest.starts_with(name) && rest.ends_with("\\x00\\x00"),
            "{packet}"
        );
    }
}
