//! Servers that let us in, and those that do not.

use super::super::passthrough::{Authenticated, Failed, Limit};
use super::super::prove::{ServerSide, login};
use super::super::scram::server::{Exchange, Offer, Verdict};
use super::super::{Proof, md5};
use super::*;
use crate::config::Verifier;
use crate::wire::backend::{authentication_request, negotiate_protocol_version, sasl_request};
use crate::wire::frontend::sasl_initial;
use crate::wire::refusal::{NotPassedOn, Refusal};

const READY: &[u8] = b"S\0\0\0\x0ca\0b\0c\0d\0K\0\0\0\x0c\0\0\0\x07keyyZ\0\0\0\x05I";

/// Logs in at a server that `script` plays; the outcome, and what the client was told meanwhile.
async fn log_in<F: Future<Output = ()>>(
    proof: &Proof,
    side: ServerSide<'_>,
    startup: &Startup,
    script: impl FnOnce(Peer) -> F,
) -> (Result<Authenticated, Failed>, Vec<u8>) {
    let (mut ours, mut client) = pair();
    let (mut to_server, server) = pair();
    let login = async {
        let behind = BytesMut::from(&b"ahead"[..]);
        let (client, server) = ((&mut ours, behind), (&mut to_server, BytesMut::new()));
        let result = login(client, server, startup, (proof, side, Limit::Server)).await;
        drop((ours, to_server));
        result
    };
    let (result, ()) = both(login, script(server)).await;
    let mut told = Vec::new();
    client
        .stream
        .read_to_end(&mut told)
        .await
        .expect("readable");
    (result, told)
}

fn refusal(result: Result<Authenticated, Failed>) -> Refusal {
    match result {
        Err(Failed::Refused(refusal)) => refusal,
        other => panic!("{other:?}"),
    }
}

/// Plays the server's side of SCRAM; whether the proof was right, and the mechanism.
async fn scram_server(
    server: &mut Peer,
    offered: &[&[u8]],
    end_point: Option<&[u8]>,
    verifier: &Verifier,
) -> (bool, Vec<u8>) {
    server.send(&sasl_request(offered)).await;
    let (_, body) = server.read().await;
    let initial = sasl_initial(&body).expect("a SASLInitialResponse");
    let offer = Offer {
        end_point,
        plus: initial.mechanism.ends_with(b"-PLUS"),
    };
    let first = initial.data.expect("data");
    let (exchange, challenge) =
        Exchange::begin(first, offer, verifier, "servernonce").expect("a good first message");
    server.send(&authentication_request(11, &challenge)).await;
    let (_, last) = server.read().await;
    match exchange.finish(&last).expect("a good last message") {
        Verdict::Proved(_, answer) => {
            server.send(&authentication_request(12, &answer)).await;
            (true, initial.mechanism.to_vec())
        }
        Verdict::Wrong => (false, initial.mechanism.to_vec()),
    }
}

async fn let_in(server: &mut Peer) {
    server.send(&authentication_request(0, &[])).await;
    server.send(READY).await;
}

fn verifier() -> Verifier {
    keys("secret", b"0123456789abcdef", 16).verifier()
}

fn proofs() -> [Proof; 2] {
    [
        Proof::Keys(keys("secret", b"0123456789abcdef", 16)),
        Proof::Password(Secret::new("secret")),
    ]
}

#[tokio::test]
async fn the_client_is_told_of_its_login_once_the_server_is_ready() {
    for proof in proofs() {
        let (result, told) = log_in(
            &proof,
            ServerSide::Plain,
            &startup(0, b""),
            async |mut s| {
                let (right, _) = scram_server(&mut s, &[b"SCRAM-SHA-256"], None, &verifier()).await;
                assert!(right);
                let_in(&mut s).await;
            },
        )
        .await;
        let login = result.expect("a login");
        assert_eq!(told, b"", "the relay sends it");
        let key = login.client_key.expect("a key");
        assert_eq!((key.pid, key.secret.len()), (7, 4));
        assert_eq!(
            login.server_key.map(|key| key.secret),
            Some((*b"keyy").into())
        );
        let expected = [
            b"R\0\0\0\x08\0\0\0\0S\0\0\0\x0ca\0b\0c\0d\0K\0\0\0\x0c\0\0\0\x07",
            &key.secret[..],
            b"Z\0\0\0\x05I",
        ];
        assert_eq!(&login.to_client[..], expected.concat());
        assert_eq!(&login.from_client[..], b"ahead");
    }
}

#[tokio::test]
async fn a_newer_client_gets_a_longer_key_whatever_the_server_speaks() {
    let wish = startup(7, b"_pq_.x\0y\0");
    let (result, told) = log_in(&Proof::Nothing, ServerSide::Plain, &wish, async |mut s| {
        s.send(&negotiate_protocol_version(0, &[])).await;
        let_in(&mut s).await;
    })
    .await;
    let key = result.expect("a login").client_key.expect("a key");
    assert_eq!((key.secret.len(), told.len()), (32, 0));
}

#[tokio::test]
async fn each_question_is_answered_with_what_there_is() {
    let Stored::Md5(hash) = md5_secret() else {
        panic!("a hash")
    };
    let right = md5::answer(&hash, [1, 2, 3, 4]);
    let md5 = [b"p\0\0\0\x28", right.as_bytes(), b"\0"].concat();
    let cases = [
        (
            Proof::Password(Secret::new("secret")),
            3,
            b"p\0\0\0\x0bsecret\0".to_vec(),
        ),
        (Proof::Password(Secret::new("secret")), 5, md5.clone()),
        (Proof::Md5Hash(hash.clone()), 5, md5),
    ];
    for (proof, code, expected) in cases {
        let salt: &[u8] = if code == 5 { &[1, 2, 3, 4] } else { &[] };
        let (result, _) = log_in(
            &proof,
            ServerSide::Plain,
            &startup(0, b""),
            async |mut s| {
                s.send(&authentication_request(code, salt)).await;
                let (tag, body) = s.read().await;
                assert_eq!(
                    [&expected[..1], &expected[5..]].concat(),
                    [&[tag], &body[..]].concat()
                );
                let_in(&mut s).await;
            },
        )
        .await;
        assert!(result.is_ok(), "{proof:?} {code}: {result:?}");
    }
}

#[tokio::test]
async fn a_question_that_cannot_be_answered_is_named() {
    let Stored::Md5(hash) = md5_secret() else {
        panic!("a hash")
    };
    let keys = || proofs()[0].clone();
    let scram = sasl_request(&[b"SCRAM-SHA-256"]);
    let cases = [
        (
            keys(),
            authentication_request(3, &[]),
            "the password itself",
        ),
        (
            Proof::Md5Hash(hash.clone()),
            authentication_request(3, &[]),
            "the password itself",
        ),
        (
            keys(),
            authentication_request(5, &[1, 2, 3, 4]),
            "an MD5 hash",
        ),
        (
            Proof::Nothing,
            authentication_request(5, &[1, 2, 3, 4]),
            "an MD5 hash",
        ),
        (Proof::Md5Hash(hash), scram.clone(), "SCRAM"),
        (Proof::Nothing, scram, "SCRAM"),
        (keys(), authentication_request(7, &[]), "does not have"),
        (keys(), sasl_request(&[b"OAUTHBEARER"]), "does not have"),
        // Plus alone cannot be answered without a certificate to bind to.
        (
            keys(),
            sasl_request(&[b"SCRAM-SHA-256-PLUS"]),
            "does not have",
        ),
    ];
    for (proof, question, part) in cases {
        let (result, told) = log_in(
            &proof,
            ServerSide::Plain,
            &startup(0, b""),
            async |mut s| {
                s.send(&question).await;
                // Nothing is answered.
                let mut rest = Vec::new();
                s.stream.read_to_end(&mut rest).await.expect("readable");
                assert_eq!(rest, b"");
            },
        )
        .await;
        let refusal = refusal(result);
        let Refusal::NotPassedOn(NotPassedOn::NoCredential(text)) = refusal else {
            panic!("{proof:?}: {refusal:?}")
        };
        assert!(text.contains(part), "{proof:?}: {text}");
        assert_eq!(told, b"");
    }
}

#[tokio::test]
async fn a_verifier_that_differs_is_named() {
    for other in [
        keys("secret", b"another salt 16b", 16).verifier(),
        keys("secret", b"0123456789abcdef", 17).verifier(),
    ] {
        let keys = &proofs()[0];
        let (result, _) = log_in(keys, ServerSide::Plain, &startup(0, b""), async |mut s| {
            s.send(&sasl_request(&[b"SCRAM-SHA-256"])).await;
            let (_, body) = s.read().await;
            let first = sasl_initial(&body)
                .and_then(|initial| initial.data)
                .expect("data");
            let offer = Offer {
                end_point: None,
                plus: false,
            };
            let (_, challenge) = Exchange::begin(first, offer, &other, "x").expect("good");
            s.send(&authentication_request(11, &challenge)).await;
        })
        .await;
        assert_eq!(refusal(result), NotPassedOn::VerifierDiffers.into());
        // A password fits whatever the server has.
        let password = &proofs()[1];
        let (result, _) = log_in(
            password,
            ServerSide::Plain,
            &startup(0, b""),
            async |mut s| {
                let (right, _) = scram_server(&mut s, &[b"SCRAM-SHA-256"], None, &other).await;
                assert!(right);
                let_in(&mut s).await;
            },
        )
        .await;
        assert!(result.is_ok());
    }
}

#[tokio::test]
async fn an_encrypted_channel_is_bound_where_the_server_offers_it() {
    let (plain, plus): (&[u8], &[u8]) = (b"SCRAM-SHA-256", b"SCRAM-SHA-256-PLUS");
    // What we know of the connection, what the server offers and has, and what is chosen.
    let cases = [
        (
            ServerSide::Encrypted(Some(b"hash")),
            vec![plus, plain],
            Some(&b"hash"[..]),
            plus,
        ),
        (
            ServerSide::Encrypted(Some(b"hash")),
            vec![plus],
            Some(b"hash"),
            plus,
        ),
        (
            ServerSide::Encrypted(Some(b"hash")),
            vec![plain],
            None,
            plain,
        ),
        (
            ServerSide::Encrypted(None),
            vec![plus, plain],
            Some(b"hash"),
            plain,
        ),
        (ServerSide::Plain, vec![plus, plain], Some(b"hash"), plain),
    ];
    for (side, offered, end_point, chosen) in cases {
        let (result, _) = log_in(&proofs()[0], side, &startup(0, b""), async |mut s| {
            let (right, mechanism) = scram_server(&mut s, &offered, end_point, &verifier()).await;
            assert!(right);
            assert_eq!(mechanism, chosen, "{side:?}");
            let_in(&mut s).await;
        })
        .await;
        assert!(result.is_ok(), "{side:?}: {result:?}");
    }
}

#[tokio::test]
async fn a_server_that_skips_its_own_proof_is_not_believed() {
    let wrong = keys("other", b"0123456789abcdef", 16).verifier();
    for (forged, expected) in [
        (authentication_request(0, &[]), Refusal::ServerProtocol),
        (
            authentication_request(12, b"v=AAAA"),
            NotPassedOn::ServerNotProved.into(),
        ),
        (authentication_request(3, &[]), Refusal::ServerProtocol),
    ] {
        let (result, told) = log_in(
            &proofs()[0],
            ServerSide::Plain,
            &startup(0, b""),
            async |mut s| {
                let (right, _) = scram_server(&mut s, &[b"SCRAM-SHA-256"], None, &wrong).await;
                assert!(!right);
                s.send(&forged).await;
            },
        )
        .await;
        assert_eq!(refusal(result), expected);
        assert_eq!(told, b"");
    }
}

#[tokio::test]
async fn a_server_that_asks_twice_gets_one_answer() {
    let password = &proofs()[1];
    let (result, _) = log_in(
        password,
        ServerSide::Plain,
        &startup(0, b""),
        async |mut s| {
            s.send(&authentication_request(5, &[1, 2, 3, 4])).await;
            s.read().await;
            s.send(&authentication_request(3, &[])).await;
        },
    )
    .await;
    assert_eq!(refusal(result), Refusal::ServerProtocol);
}

#[tokio::test]
async fn what_the_server_refuses_the_client_reads() {
    let error = Refusal::TooManyConnections.encode();
    let before_or_after = [false, true];
    for after in before_or_after {
        let (result, told) = log_in(
            &Proof::Nothing,
            ServerSide::Plain,
            &startup(0, b""),
            async |mut s| {
                if after {
                    s.send(&authentication_request(0, &[])).await;
                }
                s.send(&error).await;
            },
        )
        .await;
        assert!(matches!(result, Err(Failed::ByServer)), "{result:?}");
        assert_eq!(told, &error[..], "and nothing of a login");
    }
}

#[tokio::test]
async fn servers_that_are_none_are_told_of() {
    let scripts: [&[u8]; 6] = [
        b"HTTP/1.1 400 Bad Request\r\n",
        b"Z\0\0\0\x05I",
        b"R\0\0\0\x06\0\0",
        b"R\0\x01\0\0",
        b"R\0\0\0\x0a\0\0\0\x05ab",
        b"R\0\0\0\x08\0\0\0\0K\0\0\0\x05a",
    ];
    for bytes in scripts {
        let password = &proofs()[1];
        let (result, _) = log_in(
            password,
            ServerSide::Plain,
            &startup(0, b""),
            async |mut s| {
                s.send(bytes).await;
            },
        )
        .await;
        assert_eq!(refusal(result), Refusal::ServerProtocol, "{bytes:?}");
    }
    let (result, _) = log_in(
        &Proof::Nothing,
        ServerSide::Plain,
        &startup(0, b""),
        async |_| {},
    )
    .await;
    assert!(matches!(result, Err(Failed::Server(_))), "{result:?}");
    // One that never becomes ready.
    let status = [&b"S\0\0\xff\xf0"[..], &vec![b'x'; 0xffec]].concat();
    let (result, _) = log_in(
        &Proof::Nothing,
        ServerSide::Plain,
        &startup(0, b""),
        async |mut s| {
            s.send(&authentication_request(0, &[])).await;
            for _ in 0..17 {
                s.send(&status).await;
            }
        },
    )
    .await;
    assert_eq!(refusal(result), Refusal::ServerProtocol);
}
