//! Channel binding while the login is passed through: it ties a password to one of two channels.

use super::super::passthrough::{Authenticated, Encrypted, Failed, Limit, Unchallenged, login};
use super::*;
use crate::wire::backend::{authentication_request, sasl_request};
use crate::wire::frontend::sasl_initial_answer;
use crate::wire::refusal::{NotPassedOn, Refusal};

const BOTH: &[&[u8]] = &[b"SCRAM-SHA-256-PLUS", b"SCRAM-SHA-256"];

/// Passes a login through whose client begins SASL with these data: the mechanisms it was offered,
/// and what came of it.
async fn pass(
    client_tls: bool,
    server_tls: bool,
    data: &[u8],
) -> (Vec<u8>, Result<Authenticated, Failed>) {
    let encrypted = Encrypted {
        client: client_tls,
        server: server_tls,
    };
    let (mut ours, mut client) = pair();
    let (mut to_server, mut server) = pair();
    let login = async {
        let how = (Unchallenged::Refused, encrypted, Limit::Server);
        // The server has begun to answer.
        let answer = BytesMut::from(&sasl_request(BOTH)[..]);
        let (client, server) = ((&mut ours, BytesMut::new()), (&mut to_server, answer));
        let result = login(client, server, how).await;
        drop((ours, to_server));
        result
    };
    let peers = async {
        let (code, offered) = client.request().await;
        assert_eq!(code, 10);
        let answer = sasl_initial_answer("SCRAM-SHA-256", data);
        client.send(&answer).await;
        if let Ok((_, message)) = read_message(&mut server.stream, &mut server.bytes).await {
            assert_eq!(
                &message[..],
                &answer[..],
                "the answer is passed on as it is"
            );
            server.send(&authentication_request(12, b"v=")).await;
            server.send(&authentication_request(0, &[])).await;
            server.send(b"Z\0\0\0\x05I").await;
        }
        offered
    };
    let (result, offered) = both(login, peers).await;
    (offered, result)
}

#[tokio::test]
async fn a_channel_that_ends_here_is_not_offered_for_binding() {
    for (client, server, offered) in [
        (false, false, &b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0"[..]),
        (true, false, b"SCRAM-SHA-256\0\0"),
        (false, true, b"SCRAM-SHA-256\0\0"),
        (true, true, b"SCRAM-SHA-256\0\0"),
    ] {
        let (found, result) = pass(client, server, b"n,,n=,r=x").await;
        assert_eq!(found, offered, "{client} {server}");
        assert!(result.is_ok(), "{result:?}");
    }
}

#[tokio::test]
async fn a_client_that_could_bind_is_refused_where_the_server_would_call_it_an_attack() {
    for (client, server) in [(false, false), (true, false), (false, true)] {
        let (_, result) = pass(client, server, b"y,,n=,r=x").await;
        assert!(result.is_ok(), "{client} {server}: {result:?}");
    }
    let (_, result) = pass(true, true, b"y,,n=,r=x").await;
    let Err(Failed::Refused(refusal)) = result else {
        panic!("{result:?}")
    };
    assert_eq!(refusal, Refusal::NotPassedOn(NotPassedOn::Binding));
    let text = String::from_utf8_lossy(&refusal.encode()).into_owned();
    assert!(
        text.contains("C28000\0") && text.contains("[[auth.rules]]"),
        "{text}"
    );
}
