//! What servers send: the same is known of it however it is cut, and no login outgrows its bounds.
//!
//! Input: a byte that says how the rest is cut, a byte with the length of what the client sends
//! during the login, that, and the server's messages.

use std::task::{Context, Poll, Waker};

use bytes::BytesMut;
use pgdrain::auth::passthrough::{Authenticated, Encrypted, Failed, Limit, Unchallenged, login};
use pgdrain::session::scan::{Nonsense, ServerScan};
use pgdrain::session::transaction::{Status, Tracker};

use crate::model::pipe::Pipe;

/// The largest length word of a server: `MaxAllocSize`, and itself.
const LENGTH_MAX: u32 = 0x4000_0002;

/// The code of a list of SASL mechanisms, which a proxy that encrypts shortens.
const SASL: [u8; 4] = [0, 0, 0, 10];

/// What a login keeps of either side at most: one message of 64 KiB, and one read.
const KEPT_MAX: usize = 3 << 16;

/// # Panics
/// When the pieces matter, or a login forwards what it may not.
pub(crate) fn run(data: &[u8]) {
    let [cut, client, rest @ ..] = data else {
        return;
    };
    let (client, server) = rest.split_at(usize::from(*client).min(rest.len()));
    let piece = usize::from(*cut % 24) + 1;
    // Nothing sent; a Query under way; a batch of which an answer may be missing.
    for sent in [b"".as_slice(), b"Q", b"PBES", b"PBDEH", b"BEQS", b"QSc"] {
        let whole = scan(server, server.len(), sent);
        assert_eq!(whole, scan(server, piece, sent));
        assert_eq!(whole, expected(server, sent));
    }
    for unchallenged in [Unchallenged::Allowed, Unchallenged::Refused] {
        for both in [false, true] {
            let encrypted = Encrypted {
                client: both,
                server: both,
            };
            log_in(client, server, piece, (unchallenged, encrypted));
        }
    }
}

fn tracker_after(sent: &[u8]) -> Tracker {
    let mut tracker = Tracker::default();
    sent.iter().for_each(|tag| tracker.sent(*tag));
    tracker
}

/// The tracker, whether all lengths can be, how often the server was ready, where its first error is.
type Known = (String, bool);

fn scan(stream: &[u8], piece: usize, sent: &[u8]) -> Known {
    let mut tracker = tracker_after(sent);
    let mut scan = ServerScan::default();
    for chunk in stream.chunks(piece.max(1)) {
        match scan.read(&mut tracker, chunk) {
            Ok(seen) => assert!(seen.error_at.is_none_or(|at| at < chunk.len())),
            Err(Nonsense { after, .. }) => {
                assert!(after < chunk.len());
                return (format!("{tracker:?}"), false);
            }
        }
    }
    (format!("{tracker:?}"), true)
}

/// The same in the simplest way: a message counts with its header, ReadyForQuery with its body.
fn expected(stream: &[u8], sent: &[u8]) -> Known {
    let mut tracker = tracker_after(sent);
    let mut rest = stream;
    let mut good = true;
    while let Some((header, body)) = rest.split_first_chunk::<5>() {
        let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]);
        if !(4..=LENGTH_MAX).contains(&length) || (header[0] == b'Z' && length != 5) {
            good = false;
            break;
        }
        tracker.received(header[0]);
        let length = length as usize - 4;
        if header[0] == b'Z' && !body.is_empty() {
            tracker.ready(Status::from_byte(body[0]));
        }
        let Some(behind) = body.get(length..) else {
            break;
        };
        rest = behind;
    }
    (format!("{tracker:?}"), good)
}

/// Plays a login against both scripts.
fn log_in(client_says: &[u8], server_says: &[u8], piece: usize, rules: (Unchallenged, Encrypted)) {
    let (near, far) = (Pipe::new(usize::MAX / 2), Pipe::new(usize::MAX / 2));
    let (mut client, mut server) = (near.clone(), far.clone());
    // Both have begun to talk when it begins.
    let mut client_chunks = client_says.chunks(piece);
    let mut server_chunks = server_says.chunks(piece);
    let from_client = BytesMut::from(client_chunks.next().unwrap_or_default());
    let from_server = BytesMut::from(server_chunks.next().unwrap_or_default());
    let outcome = {
        let (client, server) = ((&mut client, from_client), (&mut server, from_server));
        let login = login(client, server, (rules.0, rules.1, Limit::Server));
        let mut login = std::pin::pin!(login);
        let mut cx = Context::from_waker(Waker::noop());
        loop {
            if let Poll::Ready(outcome) = login.as_mut().poll(&mut cx) {
                break outcome;
            }
            let (client, server) = (client_chunks.next(), server_chunks.next());
            near.deliver(client.unwrap_or_default());
            far.deliver(server.unwrap_or_default());
            if client.is_none() && server.is_none() {
                far.end();
            }
        }
    };
    assert!(client_says.starts_with(&far.written()), "unchanged");
    let to_client = near.written();
    match outcome {
        Ok(done) => logged_in(&done, server_says, &to_client, rules.0),
        Err(Failed::Refused(_) | Failed::ByServer) => {
            passed_on(server_says, &to_client);
        }
        Err(other) => panic!("nobody left, and no connection broke: {other:?}"),
    }
}

fn logged_in(
    done: &Authenticated,
    server_says: &[u8],
    to_client: &[u8],
    unchallenged: Unchallenged,
) {
    assert!(done.from_client.capacity() <= KEPT_MAX && done.to_client.capacity() <= KEPT_MAX);
    let all = [to_client, &done.to_client].concat();
    passed_on(server_says, &all);
    let tags = tags(&all);
    assert!(tags.contains(&b'R') && tags.contains(&b'Z'));
    if unchallenged == Unchallenged::Refused {
        let asked = tags.iter().filter(|tag| **tag == b'R').count();
        assert!(asked > 1, "let in without a challenge");
    }
    if let (Some(theirs), Some(ours)) = (&done.server_key, &done.client_key) {
        assert_eq!(
            (theirs.pid, theirs.secret.len()),
            (ours.pid, ours.secret.len())
        );
    } else {
        assert!(done.server_key.is_none() && done.client_key.is_none());
    }
}

fn tags(mut bytes: &[u8]) -> Vec<u8> {
    std::iter::from_fn(|| crate::model::take_message(&mut bytes).map(|(tag, _)| tag)).collect()
}

/// What came to the client is what the server said, but for the secrets of cancel keys and the
/// mechanisms that nobody can use.
fn passed_on(said: &[u8], mut came: &[u8]) {
    let mut rest = said;
    while let Some((tag, body)) = crate::model::take_message(&mut came) {
        let (said_tag, said_body) = crate::model::take_message(&mut rest).expect("it was said");
        assert_eq!(tag, said_tag);
        if tag == b'K' {
            assert_eq!((&body[..4], body.len()), (&said_body[..4], said_body.len()));
        } else if tag == b'R' && body.starts_with(&SASL) {
            assert!(body == said_body || body.len() < said_body.len());
        } else {
            assert_eq!(body, said_body);
        }
    }
    assert!(
        rest.starts_with(came),
        "and the beginning of the next message"
    );
}
