//! What is written down, and read again.

use super::*;
use crate::config::{Blocked, Then};

fn hold() -> HoldRecord {
    HoldRecord::beginning(HoldSpec {
        duration: Duration::from_secs(300),
        then: Then::Stay,
        read_only: false,
        blocked: Blocked::Queue,
        sqlstate: None,
        first_stage: Duration::ZERO,
        client_deadline: Duration::from_secs(60),
        by: "anna".into(),
        reason: Some("new column".into()),
    })
}

#[test]
fn what_was_written_is_read_by_the_next_process() {
    let directory = tempfile::tempdir().expect("a directory");
    let (journal, found) = Journal::open(directory.path()).expect("a new journal");
    assert_eq!(found, Record::default());
    let mut record = Record {
        everywhere: Some(hold()),
        ..Record::default()
    };
    record.databases.insert("shop".into(), hold());
    journal.write(&record).expect("room on the disk");
    drop(journal);
    let (_, found) = Journal::open(directory.path()).expect("the same journal");
    assert_eq!(found, record);
}

#[test]
fn two_processes_cannot_share_a_directory() {
    let directory = tempfile::tempdir().expect("a directory");
    let _first = Journal::open(directory.path()).expect("a new journal");
    assert!(matches!(
        Journal::open(directory.path()),
        Err(JournalError::InUse { .. })
    ));
}

#[test]
fn a_damaged_file_is_refused_with_its_name() {
    let directory = tempfile::tempdir().expect("a directory");
    fs::write(directory.path().join(FILE), "{").expect("room on the disk");
    let error = Journal::open(directory.path()).expect_err("not JSON");
    assert!(error.to_string().contains(FILE), "{error}");
}

#[test]
fn a_hold_that_was_begun_in_the_future_is_not_longer_than_it_was() {
    let mut hold = hold();
    hold.since = Timestamp::now() + jiff::SignedDuration::from_hours(5);
    assert_eq!(hold.left(Timestamp::now()), Duration::from_secs(300));
}
