//! What goes on and what waits, and that a chunk says what its bytes say one by one.

use super::*;
use proptest::prelude::*;

/// A gate that is open or not, and counts what it was asked.
struct FakeDoor {
    open: bool,
    permit: bool,
    asked: u32,
    statements: bool,
}

impl FakeDoor {
    fn new(open: bool) -> FakeDoor {
        FakeDoor {
            open,
            permit: false,
            asked: 0,
            statements: false,
        }
    }
}

impl Door for FakeDoor {
    fn has_permit(&self) -> bool {
        self.permit
    }
    fn admit(&mut self) -> bool {
        self.asked += 1;
        self.permit = self.open;
        self.permit
    }
    fn is_open(&self) -> bool {
        self.open
    }
    fn lets_statements_in(&self) -> bool {
        self.statements
    }
    fn admit_statement(&mut self) -> bool {
        self.permit = self.statements;
        self.permit
    }
}

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).expect("test messages are short");
    [&[tag][..], &length.to_be_bytes(), body].concat()
}

fn messages(tags: &str) -> Vec<u8> {
    tags.bytes().flat_map(|tag| message(tag, b"body")).collect()
}

fn take(door: &mut FakeDoor, bytes: &[u8]) -> Taken {
    ClientScan::default()
        .take(&mut Tracker::default(), door, bytes)
        .expect("lengths are right")
}

#[test]
fn an_open_gate_is_asked_once_for_a_whole_pipeline() {
    let mut door = FakeDoor::new(true);
    let bytes = messages("PBESPBESQQ");
    assert_eq!(
        take(&mut door, &bytes),
        Taken {
            bytes: bytes.len(),
            pause: Pause::Nothing
        }
    );
    assert_eq!(door.asked, 1);
}

#[test]
fn a_closed_gate_lets_nothing_of_a_transaction_through() {
    let mut door = FakeDoor::new(false);
    let gate = Pause::Gate { mid_message: false };
    assert_eq!(
        take(&mut door, &messages("Q")),
        Taken {
            bytes: 0,
            pause: gate
        }
    );
    // Also not the first byte of a message that is not all there.
    assert_eq!(
        take(&mut door, b"Q"),
        Taken {
            bytes: 0,
            pause: gate
        }
    );
    assert_eq!(
        take(&mut door, b"P\0\0\0\x09ab"),
        Taken {
            bytes: 0,
            pause: gate
        }
    );
}

#[test]
fn a_closed_gate_lets_terminate_and_late_copy_data_through() {
    let mut door = FakeDoor::new(false);
    let bytes = messages("ddcHX");
    assert_eq!(
        take(&mut door, &bytes),
        Taken {
            bytes: bytes.len(),
            pause: Pause::Nothing
        }
    );
    assert_eq!(door.asked, 0);
}

#[test]
fn in_the_first_stage_blocks_wait_and_statements_go_on() {
    let in_stage = |bytes: &[u8]| {
        let mut door = FakeDoor {
            statements: true,
            ..FakeDoor::new(false)
        };
        let taken = take(&mut door, bytes);
        (taken.bytes, taken.pause, door.permit)
    };
    let gate = Pause::Gate { mid_message: false };
    let (select, begin) = (message(b'Q', b"SELECT 1\0"), message(b'Q', b"BEGIN\0"));
    let batch = [message(b'P', b"\0BEGIN\0\0\0"), messages("BES")].concat();
    assert_eq!(in_stage(&begin), (0, gate, false));
    assert_eq!(in_stage(&batch), (0, gate, false));
    assert_eq!(in_stage(&select), (select.len(), Pause::Nothing, true));
    // One at a time: what comes behind it is looked at when it has been answered.
    let both = [select.clone(), begin.clone()].concat();
    assert_eq!(in_stage(&both), (select.len(), Pause::Answer, true));
    // What has no text yet stays; a statement goes on as far as it is there, without a permit.
    assert_eq!(in_stage(&begin[..7]), (0, Pause::Text, false));
    assert_eq!(in_stage(&select[..8]), (8, Pause::Nothing, false));
}

#[test]
fn half_a_message_passes_without_a_permit_and_the_rest_needs_one() {
    let (mut scan, mut tracker) = (ClientScan::default(), Tracker::default());
    let mut door = FakeDoor::new(true);
    let query = message(b'Q', b"select 1\0");
    let (first, rest) = query.split_at(3);
    assert_eq!(
        scan.take(&mut tracker, &mut door, first).map(|t| t.bytes),
        Ok(3)
    );
    assert!(!door.permit && tracker.at_boundary());

    door.open = false;
    let gate = Pause::Gate { mid_message: true };
    let refused = scan.take(&mut tracker, &mut door, rest);
    assert_eq!(
        refused,
        Ok(Taken {
            bytes: 0,
            pause: gate
        })
    );

    door.open = true;
    assert_eq!(
        scan.take(&mut tracker, &mut door, rest).map(|t| t.bytes),
        Ok(rest.len())
    );
    assert!(door.permit && !tracker.at_boundary());
}

#[test]
fn a_full_pipeline_is_cut_behind_the_unit_in_flight() {
    let mut door = FakeDoor {
        permit: true,
        ..FakeDoor::new(false)
    };
    let one = messages("PBES").len();
    let answer = Pause::Answer;
    assert_eq!(
        take(&mut door, &messages("PBESPBES")),
        Taken {
            bytes: one,
            pause: answer
        }
    );
}

#[test]
fn a_status_byte_may_come_in_a_chunk_of_its_own() {
    let (mut scan, mut tracker) = (ServerScan::default(), Tracker::default());
    tracker.sent(b'Q');
    assert_eq!(scan.read(&mut tracker, b"Z\0\0\0\x05"), Ok(Seen::default()));
    assert!(!tracker.at_boundary());
    assert_eq!(
        scan.read(&mut tracker, b"T").map(|seen| seen.ready),
        Ok(true)
    );
    assert_eq!(tracker.status(), Status::InTransaction);
}

#[test]
fn what_comes_before_a_bad_length_is_good() {
    let bad = BadLength {
        tag: b'D',
        length: 3,
    };
    let stream = [messages("QPBES"), b"D\0\0\0\x03".to_vec()].concat();
    let after = messages("QPBES").len();
    let (mut tracker, mut door) = (Tracker::default(), FakeDoor::new(true));
    let seen = Seen::default();
    assert_eq!(
        ClientScan::default().take(&mut tracker, &mut door, &stream),
        Err(Nonsense { after, seen, bad })
    );
    assert!(tracker.is_busy() && door.permit);

    let stream = [message(b'C', b""), message(b'Z', b"I"), stream].concat();
    let mut scan = ServerScan::default();
    let nonsense = scan.read(&mut tracker, &stream).expect_err("a bad length");
    assert_eq!(nonsense.bad, bad);
    assert_eq!(nonsense.after, stream.len() - 5);
    assert!(nonsense.seen.ready && scan.at_message_start());
}

proptest! {
    #[test]
    fn a_chunk_says_what_its_bytes_say_one_by_one(
        sent in "[PBDECSHQFdcf]{0,12}",
        received in "[12nTDCEIsSNGWHdcZ]{0,12}",
    ) {
        let answers: Vec<u8> = received.bytes().flat_map(|tag| match tag {
            b'Z' => message(tag, b"T"),
            tag => message(tag, b"body"),
        }).collect();
        let (mut whole, mut pieces) = (Tracker::default(), Tracker::default());
        let asked = messages(&sent);
        let (mut door, mut scan) = (FakeDoor::new(true), ClientScan::default());
        let taken = take_by(&mut scan, &mut whole, &mut door, &asked, asked.len().max(1));
        let (mut again, mut scan) = (FakeDoor::new(true), ClientScan::default());
        prop_assert_eq!(take_by(&mut scan, &mut pieces, &mut again, &asked, 1), taken);
        prop_assert_eq!(door.permit, again.permit);
        let seen = ServerScan::default().read(&mut whole, &answers);
        let mut scan = ServerScan::default();
        let mut ready = false;
        for byte in answers.chunks(1) {
            ready |= scan.read(&mut pieces, byte).is_ok_and(|seen| seen.ready);
        }
        prop_assert_eq!(seen.map(|seen| seen.ready), Ok(ready));
        prop_assert_eq!(format!("{whole:?}"), format!("{pieces:?}"));
    }
}

fn take_by(
    scan: &mut ClientScan,
    tracker: &mut Tracker,
    door: &mut FakeDoor,
    bytes: &[u8],
    step: usize,
) -> usize {
    let chunks = bytes.chunks(step);
    let taken = chunks.map(|chunk| scan.take(tracker, door, chunk).expect("good lengths").bytes);
    taken.sum()
}

#[test]
fn a_status_that_is_not_one_byte_is_nonsense() {
    for (stream, cut, at_start) in [
        (b"Z\0\0\0\x04", 0, true),
        (b"Z\0\0\0\x06", 0, true),
        (b"Z\0\0\0\x04", 2, false),
        (b"Z\0\0\0\x06", 4, false),
    ] {
        let (mut scan, mut tracker) = (ServerScan::default(), Tracker::default());
        tracker.sent(b'Q');
        let (first, rest) = stream.split_at(cut);
        assert!(scan.read(&mut tracker, first).is_ok());
        let nonsense = scan.read(&mut tracker, rest).map_err(|bad| bad.after);
        assert_eq!(nonsense, Err(0));
        assert!(tracker.is_busy());
        assert_eq!(scan.at_message_start(), at_start, "cut at {cut}");
    }
}

#[test]
fn an_error_begins_where_nothing_of_it_came_before() {
    let error = message(b'E', b"body");
    let mut scan = ServerScan::default();
    let mut error_at = |bytes: &[u8]| {
        let seen = scan.read(&mut Tracker::default(), bytes);
        seen.map(|seen| seen.error_at)
    };
    let notice = message(b'N', b"body");
    let both = [notice.as_slice(), &error].concat();
    assert_eq!(error_at(&both), Ok(Some(notice.len())));
    assert_eq!(error_at(&error[..1]), Ok(None));
    assert_eq!(error_at(&error[1..]), Ok(None));
}

#[test]
fn a_refused_unit_is_discarded_to_its_end_and_no_further() {
    let one_query = message(b'Q', b"x").len();
    let query = [message(b'Q', b"x"), messages("Q")].concat();
    assert_eq!(
        Discard::unit(b'Q').read(&query),
        Ok(Discarded::Ended(one_query))
    );

    let batch = messages("PBDES");
    let two = [batch.clone(), messages("PBES")].concat();
    assert_eq!(
        Discard::unit(b'P').read(&two),
        Ok(Discarded::Ended(batch.len()))
    );

    // A client that waits for the error before it sends its Sync, or leaves.
    let mut discard = Discard::unit(b'P');
    assert_eq!(discard.read(&messages("PDH")), Ok(Discarded::More));
    assert_eq!(
        discard.read(&messages("S")),
        Ok(Discarded::Ended(messages("S").len()))
    );
    assert_eq!(
        Discard::unit(b'P').read(&messages("PX")),
        Ok(Discarded::Terminate)
    );
}
