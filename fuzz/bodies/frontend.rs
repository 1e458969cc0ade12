//! What clients send: the same bytes go on, and the same is known of them, however they are cut.
//!
//! Input: a byte for the gate, a byte that says how the rest is cut, and a client's messages.

use pgdrain::session::scan::{ClientScan, Discard, Discarded, Door, Pause};
use pgdrain::session::transaction::Tracker;

/// The largest length word: `PQ_LARGE_MESSAGE_LIMIT`.
const LENGTH_MAX: u32 = 0x3fff_fffe;

/// The gate of one session.
#[derive(Clone)]
struct Flag {
    open: bool,
    permit: bool,
}

impl Door for Flag {
    fn has_permit(&self) -> bool {
        self.permit
    }
    fn admit(&mut self) -> bool {
        self.permit |= self.open;
        self.permit
    }
    fn is_open(&self) -> bool {
        self.open
    }
}

/// How far a stream came, what is known of it, and whether it was nonsense.
#[derive(Debug, PartialEq, Eq)]
struct Came {
    bytes: usize,
    paused: bool,
    tracker: String,
    nonsense: bool,
}

/// # Panics
/// When the pieces matter, or a message is taken for what it is not.
pub(crate) fn run(data: &[u8]) {
    let [gate, cut, stream @ ..] = data else {
        return;
    };
    let door = Flag {
        open: gate & 1 == 0,
        permit: gate & 2 == 0,
    };
    let piece = usize::from(*cut % 24) + 1;
    let whole = take(stream, stream.len(), door.clone());
    let pieces = take(stream, piece, door.clone());
    if whole.nonsense {
        // How much went on in front of it depends on the pieces; a closed gate stops a message
        // before its length is there.
        let waits = pieces.paused && !door.open && !door.permit;
        assert!(pieces.nonsense || waits, "{whole:?} {pieces:?}");
        assert_eq!(whole.tracker, pieces.tracker);
    } else {
        assert_eq!(whole, pieces);
    }
    if door.open {
        assert_eq!((whole.tracker, whole.nonsense), expected(stream));
    }
    discard(stream, piece);
}

fn take(stream: &[u8], piece: usize, mut door: Flag) -> Came {
    let (mut scan, mut tracker) = (ClientScan::default(), Tracker::default());
    let (mut bytes, mut paused, mut nonsense) = (0, false, false);
    for chunk in stream.chunks(piece.max(1)) {
        match scan.take(&mut tracker, &mut door, chunk) {
            Ok(taken) => {
                assert!(taken.bytes <= chunk.len(), "more than there is");
                bytes += taken.bytes;
                paused = taken.pause != Pause::Nothing;
                assert_eq!(paused, taken.bytes < chunk.len(), "{taken:?}");
                if let Pause::Gate { mid_message } = taken.pause {
                    assert_eq!(mid_message, !scan.at_message_start());
                    assert!(!door.open && !door.permit);
                }
            }
            Err(_) => nonsense = true,
        }
        if paused || nonsense {
            break;
        }
    }
    // A transaction needs a permit; what is at a boundary needs none.
    assert!(door.permit || tracker.at_boundary());
    Came {
        bytes,
        paused,
        tracker: format!("{tracker:?}"),
        nonsense,
    }
}

/// The tracker told of every whole message, found in the simplest way.
fn expected(stream: &[u8]) -> (String, bool) {
    let mut tracker = Tracker::default();
    let mut rest = stream;
    let mut nonsense = false;
    while let Some((header, behind)) = rest.split_first_chunk::<5>() {
        let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]);
        if tracker.is_full() {
            break;
        }
        if !(4..=LENGTH_MAX).contains(&length) {
            nonsense = true;
            break;
        }
        let Some(behind) = behind.get(length as usize - 4..) else {
            break;
        };
        tracker.sent(header[0]);
        rest = behind;
    }
    (format!("{tracker:?}"), nonsense)
}

/// A refused unit ends at the same byte however it is cut.
fn discard(stream: &[u8], piece: usize) {
    let Some(first) = stream.first() else {
        return;
    };
    let read = |piece: usize| {
        let (mut discard, mut before) = (Discard::unit(*first), 0);
        for chunk in stream.chunks(piece) {
            match discard.read(chunk) {
                Ok(Discarded::More) => before += chunk.len(),
                Ok(Discarded::Ended(bytes)) => {
                    assert!((1..=chunk.len()).contains(&bytes));
                    return Some(before + bytes);
                }
                Ok(Discarded::Terminate) | Err(_) => return None,
            }
        }
        Some(stream.len() + 1)
    };
    assert_eq!(read(stream.len()), read(piece));
}
