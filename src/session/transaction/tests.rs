//! Conversations, message by message, and where their boundaries are.

use super::*;

/// Plays a conversation: `>` and client messages, `<` and server messages; `Z` is followed by
/// its status. Returns the tracker for a look at where it stands.
fn play(script: &str) -> Tracker {
    let mut tracker = Tracker::default();
    for turn in script.split_whitespace() {
        let (who, messages) = turn.split_at(1);
        let mut messages = messages.bytes();
        while let Some(tag) = messages.next() {
            match (who, tag) {
                (">", tag) => tracker.sent(tag),
                ("<", b'Z') => {
                    let status = messages.next().expect("Z is followed by a status");
                    tracker.ready(Status::from_byte(status));
                }
                ("<", tag) => tracker.received(tag),
                _ => panic!("a turn begins with < or >"),
            }
        }
    }
    tracker
}

#[test]
fn one_statement_outside_of_a_block_is_all_of_its_transaction() {
    for (script, alone) in [
        (">Q", true),
        (">PBDES", true),
        (">PBDES <12TD", true),
        (">BES", true),
        (">Q <CZI >Q", true),
        // Nothing, half a batch, two of anything, a block, a COPY.
        ("", false),
        (">PBE", false),
        (">PBEH <12", false),
        (">QQ", false),
        (">PBEBES", false),
        (">PBES >Q", false),
        (">PBEQ", false),
        (">Q <CZT >Q", false),
        (">Q <G", false),
        (">Q <CZI", false),
    ] {
        assert_eq!(play(script).runs_alone(), alone, "{script}");
    }
}

#[test]
fn conversations_that_end_at_a_boundary() {
    for script in [
        "",
        ">Q <TDCZI",
        ">Q <CZT >Q <CZI",
        ">PBDES <12TDCZI",
        ">PBESPBES <12CZI <12CZI",
        ">QQQ <CZI <CZI <CZI",
        ">F <VZI",
        ">S <ZI",
        // Parse and Describe with Flush first, as asyncpg does.
        ">PDH <1tT >BES <2CZI",
        // A Describe that finds no columns, an empty query, a suspended portal.
        ">PBDES <12nIZI",
        ">PBES <12DsZT >ES <DsZT >CS <3ZI",
        // An error skips to the Sync.
        ">PBES <EZI",
        ">PBESPBES <1EZI <12CZI",
        // A Query behind an Execute that fails is swallowed; only the Sync is answered.
        ">BEQ <2E >S <ZI",
        ">BEQS <2EZI",
        // The Query itself fails: it and the Sync are both answered.
        ">BEQS <2CEZI <ZI",
        // What follows a skipped batch without Sync is skipped too.
        ">BE <E >QPBE >S <ZI",
        // COPY in by a Query; a Sync sent meanwhile is ignored.
        ">Q <G >dddc <CZI",
        ">Q <G >ddSHdc <CZI",
        ">QS <G >dc <CZI",
        // ... which fails, with data arriving late.
        ">Q <G >dd <E <ZI >dc",
        ">Q <G >f <EZI",
        // COPY in by an Execute: the first Sync is ignored, the one behind CopyDone counts.
        ">PBES <12G >dcS <CZI",
        ">PBE <12 <G >dcS <CZI",
        ">PBES <12G >dSdcS <CZI",
        // All of it sent blindly.
        ">PBESddcS <12G <CZI",
        // Sent ahead, in front of the Sync; or refused when its end was on its way.
        ">PBEdcS <12GCZI",
        ">Qdc <GCZI",
        ">Q <E >c <ZI",
        ">QScPBES <GCZI12CZI",
        ">QddcQ <G <CZI <CZI",
        // ... and failing: skip to the Sync behind the data.
        ">PBES <12G >d <E >cS <ZI",
        ">PBES <12G >fS <EZI",
        // COPY out.
        ">Q <HdddcCZI",
        // Data in front of a COPY is none of its own.
        ">BdPBESdcS <212G <E <ZI",
        // Syncs in the data: ignored if the COPY completes ...
        ">PBESddSdcS <12G <CZI",
        ">PBEdSdScS <12G <CZI",
        ">QdSdSdc <G <CZI",
        ">Q <G >dSdSc <CZI",
        // ... and answered behind an error.
        ">Q <G >d <E >S <ZIZI",
        // Several in one Query.
        ">Q <G >dc <CG >dc <CZI",
        ">Q <G >dSdc <CG >dSdc <CZI",
        ">Q <G >dSccS <CGCZI >S <ZIZI",
        ">Q <G >dScdS <CG >Sc <CZI",
        ">Q <G >d <E >c <ZI",
        // A COPY in the middle of a batch fails on the message behind it.
        ">BEBES <2GEZI",
        // Late COPY data at a boundary is nothing.
        ">ddc",
    ] {
        let tracker = play(script);
        assert!(tracker.at_boundary(), "{script}: {tracker:?}");
    }
}

#[test]
fn conversations_that_do_not() {
    for script in [
        ">Q",
        ">Q <TDC",
        ">Q <CZT",
        ">Q <EZE",
        ">P",
        ">PH <1",
        ">PBE <12C",
        ">PBES <12C",
        ">QQ <CZI",
        ">PBESS <12CZI",
        ">BE <E",
        ">BEQ <2E",
        ">BEQS <2CEZI",
        ">Q <G",
        ">PBES <12G",
        ">PBES <12G >d",
        ">PBES <12G >dc",
        ">PBES <12G >dc <C",
        ">PBES <12G >dcS <C",
        ">PBESddcS <12G <C",
        ">PBEdcSQ <12GCZI",
        ">QcS <GCZI",
        ">Q <G >dc <C",
        ">QQ <G >dc <CZI",
        // Which of the Syncs in the data were in front of the error nobody can tell.
        ">Q <G >dS <EZIZI",
        ">Q <G >dSf <EZI >Q <CZI",
        ">Q <G >dScQ <EZIZI",
        ">QdScQ <GEZIZI",
        ">PBES <12G >dScSQ <EZIZI",
        ">PBESdScSQ <12GEZIZI",
        ">PBEdScSQ <12GEZIZI",
        ">PBES <12G >dSc <C",
        // An end behind the end is that of the next COPY in the Query: the Sync behind it counts.
        ">Q <G >dSccSD <CGCZI",
        ">Q <G >dSccS <CGCZI",
        // Of which COPY in a Query the data was, nobody can tell.
        ">QdcSPQQP <GCGCZI1TDDCZIEZI",
    ] {
        assert!(!play(script).at_boundary(), "{script}");
    }
}

#[test]
fn in_step_the_client_sends_one_unit_and_the_data_of_a_copy() {
    for (script, may_send) in [
        ("", true),
        (">P", true),
        (">PBE", true),
        (">PBES", false),
        (">PBES <12CZT", true),
        (">Q", false),
        (">Q <G", true),
        (">Q <G >dd", true),
        (">Q <G >ddc", false),
        (">Q <H", false),
        (">BEQ <2", false),
        // The Query was swallowed: the server waits for a Sync.
        (">BEQ <2E", true),
    ] {
        assert_eq!(play(script).may_send_in_step(), may_send, "{script}");
    }
}

#[test]
fn it_shows_what_a_server_waits_for() {
    let batch = |runs| Some(Waits::Batch { runs });
    for (script, waits) in [
        ("", None),
        (">Q", None),
        (">PBES <12C", None),
        (">Q <CZT", None),
        (">Q <G >dd", Some(Waits::CopyOfQuery)),
        (">Q <G >dc", None),
        (">PBES <12G >d", Some(Waits::CopyOfBatch)),
        (">PBE <12G", Some(Waits::CopyOfBatch)),
        (">PBES <12G >dc <C", batch(true)),
        (">PDH <1tT", batch(false)),
        (">PDH", Some(Waits::Unflushed)),
        (">PBEH <12", Some(Waits::Unflushed)),
        (">PBEH <12C", batch(true)),
        (">PBEH <1E", Some(Waits::Skipping)),
        (">PBEH <1E >S", None),
        (">PBEH <1E >S <ZI", None),
    ] {
        assert_eq!(play(script).waits(), waits, "{script}");
    }
}

#[test]
fn a_client_that_runs_ahead_is_stopped() {
    let tracker = play(&format!(">{}", "S".repeat(UNITS_MAX)));
    assert!(tracker.is_full());
}
