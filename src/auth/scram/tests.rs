//! Both sides against the vectors of RFC 7677, against each other, against another's client, and
//! against garbage.

use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};
use proptest::prelude::*;

use super::client::{Begun, Binding, Challenged};
use super::server::{Exchange, Offer, Verdict};
use super::*;
use crate::wire::refusal::{NotPassedOn, NotProved, Refusal};

const PLAIN: Offer<'_> = Offer {
    end_point: None,
    plus: false,
};

fn keys(password: &str, salt: &[u8], iterations: u32) -> Keys {
    let mut derivation = Derivation::new(password.as_bytes(), salt, iterations);
    let salted = loop {
        if let Some(salted) = derivation.advance(1000) {
            break salted;
        }
    };
    Keys::of(&salted, salt, iterations)
}

/// The example of RFC 7677, section 3: user `user`, password `pencil`.
mod rfc {
    pub(super) const CLIENT_NONCE: &str = "rOprNGfwEbeRWgbNEkqO";
    pub(super) const SERVER_NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
    pub(super) const CLIENT_FIRST: &[u8] = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
    pub(super) const SERVER_FIRST: &[u8] = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
        s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
    pub(super) const CLIENT_FINAL: &[u8] =
        b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
        p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
    pub(super) const SERVER_FINAL: &[u8] = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";
    pub(super) const SALT: &str = "W22ZaJ0SNY7soEsUEjb6gQ==";
}

fn rfc_keys() -> Keys {
    let salt = STANDARD.decode(rfc::SALT).expect("base64");
    keys("pencil", &salt, 4096)
}

#[test]
fn the_server_side_speaks_as_the_rfc_does_and_recovers_the_key() {
    let verifier = rfc_keys().verifier();
    let (exchange, first) = Exchange::begin(rfc::CLIENT_FIRST, PLAIN, &verifier, rfc::SERVER_NONCE)
        .expect("well formed");
    assert_eq!(first, rfc::SERVER_FIRST);
    let Ok(Verdict::Proved(recovered, last)) = exchange.finish(rfc::CLIENT_FINAL) else {
        panic!("not proved")
    };
    assert_eq!(recovered, rfc_keys());
    assert_eq!(last, rfc::SERVER_FINAL);
}

#[test]
fn a_verifier_is_what_postgres_makes_of_the_password() {
    // CREATE ROLE ... PASSWORD 'pencil' by PostgreSQL with this salt.
    let text = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$\
        WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";
    let stored = crate::config::Stored::parse(text);
    assert_eq!(
        stored,
        Ok(crate::config::Stored::Scram(rfc_keys().verifier()))
    );
}

/// Runs both of our sides against each other.
fn converse(
    password: &Keys,
    verifier: &crate::config::Verifier,
    offer: Offer<'_>,
    binding: Binding<'_>,
) -> Result<Verdict, NotProved> {
    let begun = Begun::new("clientnonce".into(), binding);
    let (exchange, first) = Exchange::begin(&begun.message(), offer, verifier, "servernonce")?;
    let challenged = begun.challenged(&first).expect("a good first message");
    assert!(challenged.fits(password));
    let (answered, proof) = challenged.answer(password);
    let verdict = exchange.finish(&proof)?;
    if let Verdict::Proved(_, last) = &verdict {
        assert_eq!(answered.finish(last), Ok(()));
        let forged = answered.finish(b"v=AAAA");
        assert_eq!(forged, Err(NotPassedOn::ServerNotProved.into()));
        let error = answered.finish(b"e=other-error");
        assert_eq!(error, Err(NotPassedOn::ServerNotProved.into()));
    }
    Ok(verdict)
}

#[test]
fn flags_are_judged_as_the_server_does() {
    let good = keys("secret", b"salty", 3);
    let offered = |plus| Offer {
        end_point: Some(b"hash"),
        plus,
    };
    let verdict = |offer, binding| {
        let verdict = converse(&good, &good.verifier(), offer, binding);
        verdict.map(|verdict| matches!(verdict, Verdict::Proved(..)))
    };
    assert_eq!(verdict(PLAIN, Binding::Impossible), Ok(true));
    assert_eq!(verdict(PLAIN, Binding::NotOffered), Ok(true));
    assert_eq!(verdict(offered(false), Binding::Impossible), Ok(true));
    assert_eq!(verdict(offered(true), Binding::EndPoint(b"hash")), Ok(true));
    // A client that could have bound the channel was kept from it.
    assert_eq!(
        verdict(offered(false), Binding::NotOffered),
        Err(NotProved::BindingDowngrade)
    );
    // Somebody stands in between with another certificate.
    assert_eq!(
        verdict(offered(true), Binding::EndPoint(b"other")),
        Err(NotProved::BindingMismatch)
    );
    for (offer, binding) in [
        (offered(true), Binding::Impossible),
        (offered(true), Binding::NotOffered),
        (offered(false), Binding::EndPoint(b"hash")),
        (PLAIN, Binding::EndPoint(b"hash")),
    ] {
        let refused = verdict(offer, binding);
        assert!(
            matches!(refused, Err(NotProved::ScramMessage(_))),
            "{offer:?} {binding:?}: {refused:?}"
        );
    }
}

#[test]
fn a_wrong_password_and_a_made_up_verifier_prove_nothing() {
    let good = keys("secret", b"salty", 3);
    let wrong = keys("Secret", b"salty", 3);
    let verdict = converse(&wrong, &good.verifier(), PLAIN, Binding::Impossible);
    assert!(matches!(verdict, Ok(Verdict::Wrong)));
    let made_up = made_up_verifier(&[7; 32], "nobody", 3);
    let guess = keys("secret", &made_up.salt, 3);
    let verdict = converse(&guess, &made_up, PLAIN, Binding::Impossible);
    assert!(matches!(verdict, Ok(Verdict::Wrong)));
}

#[test]
fn a_made_up_salt_stays_and_tells_nothing() {
    let salt = |secret: u8, user| made_up_salt(&[secret; 32], user);
    assert_eq!(salt(1, "anna"), salt(1, "anna"));
    assert_ne!(salt(1, "anna"), salt(1, "anne"));
    assert_ne!(salt(1, "anna"), salt(2, "anna"));
}

#[test]
fn another_client_is_understood() {
    // What SASLprep changes, what it refuses, and what is no text at all.
    for password in [
        &b"secret"[..],
        "I\u{ad}X".as_bytes(),
        "\u{2168}".as_bytes(),
        "\u{7}".as_bytes(),
        b"\xff\xfe",
        b"",
    ] {
        let mut derivation = Derivation::new(password, b"0123456789abcdef", 4096);
        let salted = derivation.advance(u32::MAX).expect("all of it");
        let verifier = Keys::of(&salted, b"0123456789abcdef", 4096).verifier();
        for (offer, binding) in [
            (PLAIN, ChannelBinding::unsupported()),
            (PLAIN, ChannelBinding::unrequested()),
            (
                Offer {
                    end_point: Some(b"hash"),
                    plus: true,
                },
                ChannelBinding::tls_server_end_point(b"hash".to_vec()),
            ),
        ] {
            let mut client = ScramSha256::new(password, binding);
            let (exchange, first) =
                Exchange::begin(client.message(), offer, &verifier, "abc").expect("well formed");
            client.update(&first).expect("a good first message");
            let verdict = exchange.finish(client.message());
            let Ok(Verdict::Proved(_, last)) = verdict else {
                panic!("{password:?}: {verdict:?}")
            };
            client.finish(&last).expect("a good last message");
        }
    }
}

#[test]
fn sasl_prep_is_that_of_postgres() {
    // RFC 4013, section 3, and what Postgres does where it has no answer.
    for (password, prepared) in [
        ("I\u{ad}X", "IX"),
        ("user", "user"),
        ("\u{aa}", "a"),
        ("\u{2168}", "IX"),
        ("a\u{a0}b", "a b"),
        ("\u{7}", "\u{7}"),
        ("\u{627}1", "\u{627}1"),
        ("\u{ad}", "\u{ad}"),
    ] {
        assert_eq!(normalized(password.as_bytes()), prepared.as_bytes());
    }
    assert_eq!(normalized(b"\xff"), b"\xff");
}

#[test]
fn a_derivation_in_steps_ends_where_one_in_a_piece_does() {
    let whole = Derivation::new(b"secret", b"salt", 100).advance(u32::MAX);
    for step in [1, 7, 99, 100] {
        let mut derivation = Derivation::new(b"secret", b"salt", 100);
        let steps = std::iter::repeat_with(|| derivation.advance(step));
        assert_eq!(steps.take(100).find(Option::is_some).flatten(), whole);
    }
    // RFC 7914, section 11, and a single iteration.
    let single = Derivation::new(b"passwd", b"salt", 1).advance(0);
    assert_eq!(
        single.map(|sum| sum[..4].to_vec()),
        Some(vec![0x55, 0xac, 0x04, 0x6e])
    );
}

#[test]
fn first_messages_that_are_none_are_refused() {
    let verifier = keys("secret", b"salty", 1).verifier();
    let refused =
        |message: &[u8]| Exchange::begin(message, PLAIN, &verifier, "abc").map(|(_, first)| first);
    for message in [
        &b""[..],
        b"n",
        b"n,",
        b"n,,",
        b"x,,n=,r=a",
        b"nn,n=,r=a",
        b"n=,n=,r=a",
        b"n,,r=a",
        b"n,,n=",
        b"n,,n=,r=",
        b"n,,n=,r=a b",
        b"n,,n=,r=\xc3\xa9",
        b"n,,n=,r=a\0",
        b"n,,n=,r=a,x",
        b"n,,n=,r=a,1=x",
    ] {
        let refused = refused(message);
        assert!(
            matches!(refused, Err(NotProved::ScramMessage(_))),
            "{message:?}: {refused:?}"
        );
    }
    for message in [&b"n,a=root,n=,r=a"[..], b"n,,m=x,n=,r=a"] {
        assert!(matches!(
            refused(message),
            Err(NotProved::ScramUnsupported(_))
        ));
    }
    // Extensions that nobody requires are passed over, and the name counts for nothing.
    assert!(refused(b"n,,n=root,r=a,x=1,y=2").is_ok());
}

#[test]
fn last_messages_of_another_exchange_are_refused() {
    let verifier = rfc_keys().verifier();
    let finish = |from: &str, to: &str| {
        let text = String::from_utf8_lossy(rfc::CLIENT_FINAL).replacen(from, to, 1);
        let nonce = rfc::SERVER_NONCE;
        let (exchange, _) =
            Exchange::begin(rfc::CLIENT_FIRST, PLAIN, &verifier, nonce).expect("well formed");
        exchange.finish(text.as_bytes())
    };
    for (from, to, expected) in [
        ("$k0", "$k1", Some(NotProved::ScramNonce)),
        ("rOpr", "rOpR", Some(NotProved::ScramNonce)),
        ("biws", "eSws", None),
        ("VQ=", "VQ=,x=1", None),
        ("VQ=", "VQ", None),
        ("p=dHzb", "p=", None),
        (",p=", ",q=", None),
        ("c=biws,", "", None),
    ] {
        match (finish(from, to), expected) {
            (Err(refused), Some(expected)) => assert_eq!(refused, expected),
            (Err(NotProved::ScramMessage(_)), None) => {}
            (other, _) => panic!("{from} -> {to}: {other:?}"),
        }
    }
    // An extension in front of the proof is a part of what is signed.
    let extended = finish(",p=", ",x=1,p=");
    assert!(matches!(extended, Ok(Verdict::Wrong)), "{extended:?}");
}

#[test]
fn a_server_cannot_make_us_believe_or_loop() {
    let begin = || Begun::new(rfc::CLIENT_NONCE.into(), Binding::Impossible);
    let text = String::from_utf8_lossy(rfc::SERVER_FIRST);
    assert!(begin().challenged(rfc::SERVER_FIRST).is_ok());
    for (from, to, iterations) in [
        ("rOpr", "rOpR", false),
        (rfc::SERVER_NONCE, "", false),
        ("i=4096", "i=0", true),
        ("i=4096", "i=-1", true),
        ("i=4096", "i=+1", true),
        ("i=4096", "i=1000001", true),
        ("i=4096", "i=4294967297", true),
        ("i=4096", "i=", true),
        ("s=W22Z", "s=!22Z", false),
        (rfc::SALT, "", false),
        (",i=4096", "", false),
        ("r=", "m=x,r=", false),
        ("k0", "k\u{e9}", false),
    ] {
        let message = text.replacen(from, to, 1);
        let expected = if iterations {
            NotPassedOn::Iterations.into()
        } else {
            Refusal::ServerProtocol
        };
        let refused = begin().challenged(message.as_bytes()).map(|c| c.iterations);
        assert_eq!(refused, Err(expected), "{message}");
    }
}

#[test]
fn keys_of_another_salt_or_count_do_not_fit() {
    let challenged = || -> Challenged {
        let begun = Begun::new(rfc::CLIENT_NONCE.into(), Binding::Impossible);
        begun.challenged(rfc::SERVER_FIRST).expect("well formed")
    };
    let good = rfc_keys();
    assert!(challenged().fits(&good));
    let more = Keys {
        iterations: 4097,
        ..good.clone()
    };
    let other = Keys {
        salt: (*b"other").into(),
        ..good
    };
    assert!(!challenged().fits(&more) && !challenged().fits(&other));
    assert!(!format!("{more:?}").contains("client_key"));
}

/// A message that is nearly right: one with some bytes replaced.
fn nearly(message: &'static [u8]) -> impl Strategy<Value = Vec<u8>> {
    (
        0..message.len(),
        0usize..6,
        prop::collection::vec(any::<u8>(), 0..6),
    )
        .prop_map(move |(at, cut, noise)| {
            let end = (at + cut).min(message.len());
            [&message[..at], &noise, &message[end..]].concat()
        })
}

proptest! {
    #[test]
    fn no_client_panics_the_server_side(
        first in prop_oneof![nearly(rfc::CLIENT_FIRST), prop::collection::vec(any::<u8>(), 0..80)],
        last in prop_oneof![nearly(rfc::CLIENT_FINAL), prop::collection::vec(any::<u8>(), 0..80)],
        plus: bool,
    ) {
        let verifier = keys("pencil", b"salty", 1).verifier();
        let offer = Offer { end_point: Some(b"hash"), plus };
        let begin = |message: &[u8]| {
            Exchange::begin(message, offer, &verifier, rfc::SERVER_NONCE).map(|(exchange, _)| exchange)
        };
        if let Ok(exchange) = begin(&first) {
            prop_assert!(!matches!(exchange.finish(&last), Ok(Verdict::Proved(..))));
        }
        if let Ok(exchange) = begin(rfc::CLIENT_FIRST) {
            prop_assert!(!matches!(exchange.finish(&last), Ok(Verdict::Proved(..))));
        }
    }

    #[test]
    fn no_server_panics_the_client_side(
        first in prop_oneof![nearly(rfc::SERVER_FIRST), prop::collection::vec(any::<u8>(), 0..80)],
        last in prop_oneof![nearly(rfc::SERVER_FINAL), prop::collection::vec(any::<u8>(), 0..80)],
    ) {
        let good = keys("pencil", b"salty", 1);
        let begin = || Begun::new(rfc::CLIENT_NONCE.into(), Binding::Impossible);
        let _ = begin().challenged(&first).map(|challenged| challenged.answer(&good));
        let challenged = begin().challenged(rfc::SERVER_FIRST).expect("well formed");
        let (answered, _) = challenged.answer(&good);
        prop_assert!(answered.finish(&last).is_err());
    }
}
