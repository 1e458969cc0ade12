//! Clients that prove themselves to us, and those that do not.

use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};

use super::super::passthrough::Failed;
use super::super::users::{Accounts, Disguise, Question};
use super::super::{Proof, verify};
use super::*;
use crate::config::{AuthMethod, CertificateName, CertificateUser, Users};
use crate::tls::{Encryption, Names};
use crate::wire::refusal::{NotProved, Refusal};

fn encryption() -> Encryption {
    Encryption {
        end_point: Some(b"hash".to_vec()),
        client: None,
    }
}

/// How one login went.
#[derive(Debug)]
struct Login {
    result: Result<Proof, Failed>,
    /// The code and data of each request, in order.
    asked: Vec<(i32, Vec<u8>)>,
}

/// Lets a client with this password log in.
async fn log_in(stored: Option<Stored>, method: AuthMethod, password: &str) -> Login {
    log_in_with(stored, method, password, None).await
}

async fn log_in_with(
    stored: Option<Stored>,
    method: AuthMethod,
    password: &str,
    encryption: Option<Encryption>,
) -> Login {
    let disguise = Disguise::new([3; 32]);
    let users = match &stored {
        // A file with such a user, which is what makes SCRAM possible for it.
        Some(Stored::Plain(_)) => Users::of([(USER, plain_secret())]),
        Some(Stored::Scram(_) | Stored::Md5(_)) | None => Users::default(),
    };
    let accounts = Accounts {
        disguise: &disguise,
        users: &users,
        iterations: 16,
    };
    let account = accounts.open(USER, stored, method).await;
    let (mut ours, mut client) = pair();
    let mut behind = BytesMut::new();
    let ours = async move {
        verify::password(&mut ours, &mut behind, USER, &account, encryption.as_ref()).await
    };
    let theirs = async {
        let (code, data) = client.request().await;
        let mut asked = vec![(code, data.clone())];
        match code {
            3 => client.answer(&[password.as_bytes(), &[0]].concat()).await,
            5 => {
                let salt = data.try_into().expect("a salt of four bytes");
                let hash = md5_hash(USER.as_bytes(), password.as_bytes(), salt);
                client.answer(&[hash.as_bytes(), &[0]].concat()).await;
            }
            _ => {
                let plus = data.starts_with(b"SCRAM-SHA-256-PLUS\0");
                let (mechanism, binding) = if plus {
                    let hash = ChannelBinding::tls_server_end_point(b"hash".to_vec());
                    ("SCRAM-SHA-256-PLUS", hash)
                } else {
                    ("SCRAM-SHA-256", ChannelBinding::unsupported())
                };
                let mut scram = ScramSha256::new(password.as_bytes(), binding);
                let first = scram.message();
                let first = crate::wire::frontend::sasl_initial_answer(mechanism, first);
                client.send(&first).await;
                asked.push(client.request().await);
                scram.update(&asked[1].1).expect("a good first message");
                client.answer(scram.message()).await;
                // Nothing comes to whom it was wrong: the refusal is sent by others.
                if let Ok((_, message)) = read_message(&mut client.stream, &mut client.bytes).await
                {
                    scram.finish(&message[9..]).expect("a server that knows it");
                    asked.push((12, Vec::new()));
                }
            }
        }
        asked
    };
    let (result, asked) = both(ours, theirs).await;
    Login { result, asked }
}

fn is_wrong(login: &Login) -> bool {
    let expected = Refusal::from(NotProved::Password(USER.into()));
    matches!(&login.result, Err(Failed::Refused(refusal)) if *refusal == expected)
}

#[tokio::test]
async fn what_was_proved_can_be_shown_to_the_server() {
    use AuthMethod::{Md5, Password, ScramSha256};
    let scram = keys("secret", b"0123456789abcdef", 16);
    let plain = Proof::Password(Secret::new("secret"));
    let Stored::Md5(hash) = md5_secret() else {
        panic!("a hash")
    };
    let cases = [
        (scram_secret(), ScramSha256, 10, Proof::Keys(scram.clone())),
        (scram_secret(), Md5, 10, Proof::Keys(scram)),
        (scram_secret(), Password, 3, plain.clone()),
        (md5_secret(), Md5, 5, Proof::Md5Hash(hash)),
        (md5_secret(), Password, 3, plain.clone()),
        (plain_secret(), ScramSha256, 10, plain.clone()),
        (plain_secret(), Md5, 5, plain.clone()),
        (plain_secret(), Password, 3, plain),
    ];
    for (stored, method, code, proof) in cases {
        let right = log_in(Some(stored.clone()), method, "secret").await;
        assert_eq!(right.asked[0].0, code, "{stored:?} {method}");
        assert_eq!(right.result.expect("the password"), proof);
        let wrong = log_in(Some(stored.clone()), method, "Secret").await;
        assert!(is_wrong(&wrong), "{stored:?} {method}: {wrong:?}");
    }
}

#[tokio::test]
async fn an_md5_hash_is_no_use_for_scram() {
    let login = log_in(Some(md5_secret()), AuthMethod::ScramSha256, "secret").await;
    assert!(is_wrong(&login), "{login:?}");
}

/// The requests with what differs by chance made the same: nonces, salts and signatures.
fn shape(login: &Login) -> Vec<(i32, String)> {
    let shape = |(code, data): &(i32, Vec<u8>)| {
        let text = match code {
            5 => data.len().to_string(),
            11 => {
                let text = String::from_utf8_lossy(data).into_owned();
                let lengths = text.split(',').map(|attribute| match &attribute[..2] {
                    "i=" => attribute.to_owned(),
                    name => format!("{name}{}", attribute.len()),
                });
                lengths.collect::<Vec<_>>().join(",")
            }
            _ => String::from_utf8_lossy(data).into_owned(),
        };
        (*code, text)
    };
    login.asked.iter().map(shape).collect()
}

#[tokio::test]
async fn a_user_that_does_not_exist_looks_like_one_with_another_password() {
    for (stored, method) in [
        (scram_secret(), AuthMethod::ScramSha256),
        (scram_secret(), AuthMethod::Md5),
        (scram_secret(), AuthMethod::Password),
        (md5_secret(), AuthMethod::ScramSha256),
        (md5_secret(), AuthMethod::Password),
        (plain_secret(), AuthMethod::ScramSha256),
    ] {
        let wrong = log_in(Some(stored.clone()), method, "wrong").await;
        let unknown = log_in(None, method, "wrong").await;
        assert!(
            is_wrong(&wrong) && is_wrong(&unknown),
            "{stored:?} {method}"
        );
        assert_eq!(shape(&wrong), shape(&unknown), "{stored:?} {method}");
    }
}

#[tokio::test]
async fn a_user_that_does_not_exist_keeps_its_salt() {
    let salt = async |user| {
        let accounts = Accounts {
            disguise: &Disguise::new([3; 32]),
            users: &Users::default(),
            iterations: 16,
        };
        let account = accounts.open(user, None, AuthMethod::ScramSha256).await;
        account.verifier().salt.clone()
    };
    assert_eq!(salt("bob").await, salt("bob").await);
    assert_ne!(salt("bob").await, salt("bib").await);
}

#[tokio::test]
async fn users_that_do_not_exist_are_asked_as_those_of_the_file_are() {
    let question = async |users: Users| {
        let accounts = Accounts {
            disguise: &Disguise::new([3; 32]),
            users: &users,
            iterations: 16,
        };
        accounts.open("bob", None, AuthMethod::Md5).await.question()
    };
    assert_eq!(question(Users::default()).await, Question::Scram);
    let md5 = Users::of([(USER, md5_secret())]);
    assert_eq!(question(md5).await, Question::Md5);
    let mixed = Users::of([(USER, md5_secret()), ("carl", scram_secret())]);
    assert_eq!(question(mixed).await, Question::Scram);
}

#[tokio::test]
async fn an_encrypted_channel_is_bound() {
    let stored = Some(scram_secret());
    let method = AuthMethod::ScramSha256;
    let login = log_in_with(stored.clone(), method, "secret", Some(encryption())).await;
    assert_eq!(login.asked[0].1, b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0");
    assert!(login.result.is_ok(), "{login:?}");
    // A certificate whose signature has no hash cannot be bound to.
    let without = Encryption {
        end_point: None,
        client: None,
    };
    let login = log_in_with(stored, method, "secret", Some(without)).await;
    assert_eq!(login.asked[0].1, b"SCRAM-SHA-256\0\0");
    assert!(login.result.is_ok(), "{login:?}");
}

/// What comes of an answer that is none, to a question of this method.
async fn answered(method: AuthMethod, bytes: &[u8]) -> Failed {
    let accounts = Accounts {
        disguise: &Disguise::new([3; 32]),
        users: &Users::default(),
        iterations: 16,
    };
    let account = accounts.open(USER, Some(scram_secret()), method).await;
    let (mut ours, mut client) = pair();
    let mut behind = BytesMut::new();
    let ours = verify::password(&mut ours, &mut behind, USER, &account, None);
    let theirs = async move {
        client.request().await;
        client.send(bytes).await;
    };
    let (result, ()) = both(ours, theirs).await;
    result.expect_err("no proof")
}

#[tokio::test]
async fn answers_that_are_none_end_the_login() {
    use AuthMethod::{Password, ScramSha256};
    let cases: [(AuthMethod, &[u8], &str); 9] = [
        (
            Password,
            b"Q\0\0\0\x06x\0",
            "expected password response, got message type 81",
        ),
        (Password, b"p\0\0\0\x05x", "invalid password packet size"),
        (
            Password,
            b"p\0\0\0\x08x\0y\0",
            "invalid password packet size",
        ),
        (Password, b"p\0\x01\0\0", "invalid message length"),
        (Password, b"p\0\0\0\x03", "invalid message length"),
        (ScramSha256, b"p\xff\xff\xff\xff", "invalid message length"),
        (
            ScramSha256,
            b"p\0\0\0\x06x\0",
            "invalid SASLInitialResponse",
        ),
        (
            ScramSha256,
            b"p\0\0\0\x0aX\0\0\0\0\0",
            "client selected an invalid SASL authentication mechanism",
        ),
        // Without an encrypted channel there is nothing to bind to.
        (
            ScramSha256,
            b"p\0\0\0\x1bSCRAM-SHA-256-PLUS\0\0\0\0\0",
            "client selected an invalid SASL authentication mechanism",
        ),
    ];
    for (method, bytes, text) in cases {
        let failed = answered(method, bytes).await;
        assert!(
            matches!(&failed, Failed::Refused(Refusal::Protocol(found)) if found == text),
            "{bytes:?}: {failed:?}"
        );
    }
    assert!(matches!(
        answered(Password, b"p\0\0").await,
        Failed::ClientLeft
    ));
    assert!(matches!(
        answered(ScramSha256, b"").await,
        Failed::ClientLeft
    ));
}

#[tokio::test]
async fn a_client_may_choose_first_and_speak_then() {
    let accounts = Accounts {
        disguise: &Disguise::new([3; 32]),
        users: &Users::default(),
        iterations: 16,
    };
    let method = AuthMethod::ScramSha256;
    let account = accounts.open(USER, Some(scram_secret()), method).await;
    let (mut ours, mut client) = pair();
    let mut behind = BytesMut::new();
    let ours = verify::password(&mut ours, &mut behind, USER, &account, None);
    let theirs = async {
        let mut scram = ScramSha256::new(b"secret", ChannelBinding::unsupported());
        client.request().await;
        client.answer(b"SCRAM-SHA-256\0\xff\xff\xff\xff").await;
        assert_eq!(client.request().await, (11, Vec::new()));
        client.answer(scram.message()).await;
        let (_, challenge) = client.request().await;
        scram.update(&challenge).expect("a good first message");
        // What comes behind the last answer is for the relay.
        let last = crate::wire::frontend::answer(scram.message());
        client.send(&[&last[..], b"behind"].concat()).await;
        client.request().await
    };
    let (result, (code, _)) = both(ours, theirs).await;
    assert!(matches!(result, Ok(Proof::Keys(_))));
    assert_eq!(code, 12);
    assert_eq!(&behind[..], b"behind");
}

#[tokio::test]
async fn a_protocol_that_nobody_has_is_settled_first_and_once() {
    for (minor, more, expected) in [
        (0, &b""[..], None),
        (2, b"application_name\0x\0", None),
        (3, b"", Some(&b"\0\x03\0\x02\0\0\0\0"[..])),
        (0, b"_pq_.a\0x\0", Some(b"\0\x03\0\0\0\0\0\x01_pq_.a\0")),
    ] {
        let (mut ours, mut client) = pair();
        let startup = startup(minor, more);
        let sent = verify::negotiate(&mut ours, &startup).await;
        sent.expect("a client that listens");
        drop(ours);
        let mut bytes = Vec::new();
        client
            .stream
            .read_to_end(&mut bytes)
            .await
            .expect("readable");
        match expected {
            None => assert_eq!(bytes, b""),
            Some(body) => {
                assert_eq!((bytes[0], &bytes[5..]), (b'v', body));
            }
        }
    }
}

#[test]
fn certificates_stand_for_the_users_that_they_are_listed_for() {
    let encryption = |cn: Option<&str>, san: &[&str]| {
        Some(Encryption {
            end_point: None,
            client: Some(Names {
                common: cn.map(str::to_owned),
                alternative: san.iter().map(ToString::to_string).collect(),
            }),
        })
    };
    let pair = |certificate: &str, user: &str| CertificateUser {
        certificate: certificate.into(),
        user: user.into(),
    };
    let map = [pair("app.example", USER), pair("ops.example", "bob")];
    let (cn, san) = (
        CertificateName::CommonName,
        CertificateName::AlternativeName,
    );
    let cases = [
        (encryption(Some(USER), &[]), cn, &[][..], true),
        (encryption(Some("Anna"), &[]), cn, &[], false),
        (encryption(None, &[USER]), cn, &[], false),
        (encryption(Some("x"), &["y", USER]), san, &[], true),
        (encryption(Some(USER), &["y"]), san, &[], false),
        (encryption(Some("app.example"), &[]), cn, &map, true),
        (encryption(Some("ops.example"), &[]), cn, &map, false),
        // Where any is listed, a name is no user by itself.
        (encryption(Some(USER), &[]), cn, &map, false),
        (Some(Encryption::default()), cn, &[], false),
        (None, cn, &[], false),
    ];
    for (encryption, kind, map, expected) in cases {
        let checked = verify::certificate(USER, encryption.as_ref(), kind, map);
        assert_eq!(checked.is_ok(), expected, "{encryption:?} {kind}");
    }
}
