//! First packets: whatever arrives, in whatever pieces, is read as what it is or refused.
//!
//! Input: one byte that says how the rest is cut, and what a stranger sends.

use std::task::{Context, Poll, Waker};

use pgdrain::client::handshake::{Asked, NoWish, Offer, Wish, read_wish};
use pgdrain::wire::startup::{First, PACKET_MAX, PACKET_MIN, Startup, packet_length, parse};

use crate::model::pipe::Pipe;

/// SSLRequest and GSSENCRequest have these codes behind their length.
const ENCRYPTION: [&[u8]; 2] = [&[0x04, 0xd2, 0x16, 0x2f], &[0x04, 0xd2, 0x16, 0x30]];

/// # Panics
/// When a packet is read as what it is not.
pub(crate) fn run(data: &[u8]) {
    let Some((cut, stream)) = data.split_first() else {
        return;
    };
    parsed(stream);
    let offer = if *cut < 128 {
        Offer::Nothing
    } else {
        Offer::Tls
    };
    let whole = wish(stream, stream.len(), offer);
    let pieces = wish(stream, usize::from(*cut % 24) + 1, offer);
    // Whether an encryption request was followed too early depends on the pieces.
    if !asks_for_encryption(stream) {
        assert_eq!(outcome(&whole), outcome(&pieces));
    }
}

/// The packet alone, with and without its own length.
fn parsed(stream: &[u8]) {
    let _ = parse(stream);
    let Some(word) = stream.first_chunk::<4>() else {
        return;
    };
    let Ok(length) = packet_length(*word) else {
        return;
    };
    assert!((PACKET_MIN..=PACKET_MAX).contains(&length));
    let Some(packet) = stream.get(..length) else {
        return;
    };
    match parse(packet) {
        Ok(First::Startup(startup)) => {
            assert_eq!(startup.packet(), packet, "forwarded as it came");
            assert!(!startup.user().is_empty() && !startup.database().is_empty());
            changed(&startup);
            // What is cut short is another packet, and none that could be forwarded.
            assert!(parse(&packet[..length - 1]).is_err());
        }
        Ok(First::Cancel(key)) => assert_eq!(&*key.secret, &packet[12..]),
        Ok(First::Ssl | First::GssEncryption) => assert_eq!(length, PACKET_MIN),
        Err(_) => {}
    }
}

/// One parameter changes, and no other.
fn changed(startup: &Startup) {
    let Some(other) = startup.with_parameter("application_name", b"other") else {
        assert!(
            startup.packet().len() + 23 > PACKET_MAX,
            "there is room for it"
        );
        return;
    };
    assert_eq!(other.parameter("application_name"), Some("other"));
    for name in ["user", "database", "options", "replication"] {
        assert_eq!(other.parameter_bytes(name), startup.parameter_bytes(name));
    }
    assert_eq!(other.replication(), startup.replication());
}

/// What a stranger wants who sends that, in pieces of that size, and then closes.
fn wish(stream: &[u8], piece: usize, offer: Offer) -> Result<Wish, NoWish> {
    let pipe = Pipe::new(1000);
    let mut ours = pipe.clone();
    let outcome = {
        let mut reading = std::pin::pin!(read_wish(&mut ours, Asked::default(), offer));
        let mut cx = Context::from_waker(Waker::noop());
        let mut pieces = stream.chunks(piece.max(1));
        loop {
            if let Poll::Ready(outcome) = reading.as_mut().poll(&mut cx) {
                break outcome;
            }
            match pieces.next() {
                Some(piece) => pipe.deliver(piece),
                None => pipe.end(),
            }
        }
    };
    let answers = pipe.written();
    let granted = matches!(outcome, Ok(Wish::Encryption));
    assert!(!granted || offer == Offer::Tls);
    let mut possible: Vec<&[u8]> = vec![b"", b"N"];
    possible.extend::<&[&[u8]]>(match (granted, offer) {
        (true, _) => &[b"S", b"NS"],
        (false, Offer::Tls) => &[],
        (false, Offer::Nothing) => &[b"NN"],
    });
    assert!(possible.contains(&answers.as_slice()), "{answers:?}");
    if let Ok(Wish::Session(startup, behind)) = &outcome {
        let requests = answers.len() * PACKET_MIN;
        let read = [startup.packet(), behind].concat();
        assert!(
            stream[requests..].starts_with(&read),
            "in order and unchanged"
        );
        assert!(behind.len() <= PACKET_MAX, "{} bytes kept", behind.len());
    }
    outcome
}

fn asks_for_encryption(stream: &[u8]) -> bool {
    stream
        .get(4..8)
        .is_some_and(|code| ENCRYPTION.contains(&code))
}

/// What came of it, as far as the pieces may not matter: how much was read ahead may.
fn outcome(wish: &Result<Wish, NoWish>) -> String {
    match wish {
        Ok(Wish::Session(startup, _)) => format!("{:?}", startup.packet()),
        Ok(Wish::Cancel(key)) => format!("cancel {} {:?}", key.pid, key.secret),
        Ok(Wish::Encryption) => "encryption".to_owned(),
        Err(why) => format!("{why:?}"),
    }
}
