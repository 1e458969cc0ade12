//! What is counted, and that none of it grows without bound.

use super::*;

const MS: Duration = Duration::from_millis(1);
const LONG: Duration = Duration::from_secs(3600);

fn text(number: u64) -> Arc<str> {
    format!("select {number}").into()
}

#[test]
fn what_is_timed_is_counted_by_statement_and_errors_of_all() {
    let all = Statements::default();
    all.measure(LONG, 3);
    all.answered(Some((1, &text(1), 10 * MS)), None);
    all.answered(Some((1, &text(1), 20 * MS)), Some("23505"));
    all.answered(Some((2, &text(2), 100 * MS)), None);
    all.answered(None, None);
    all.answered(None, Some("40001"));
    let measured = all.measured();
    assert_eq!((measured.one_in, measured.units), (3, 5));
    assert_eq!(measured.latency.count, 3);
    let errors: Vec<_> = measured.errors.iter().collect();
    assert_eq!(
        errors,
        [(&"23505".to_owned(), &1), (&"40001".to_owned(), &1)]
    );
    assert_eq!(measured.error_percent(), Some(40.0));
    let of = measured.statements.iter();
    let of: Vec<_> = of
        .map(|it| (it.text.as_str(), it.latency.count, it.error_percent()))
        .collect();
    assert_eq!(
        of,
        [("select 2", 1, Some(0.0)), ("select 1", 2, Some(50.0))]
    );
}

#[test]
fn two_looks_tell_what_was_between() {
    let all = Statements::default();
    all.measure(LONG, 1);
    all.answered(Some((1, &text(1), 10 * MS)), Some("23505"));
    all.answered(Some((2, &text(2), 10 * MS)), None);
    let before = all.measured();
    all.answered(Some((1, &text(1), 30 * MS)), None);
    let since = all.measured().since(&before);
    assert_eq!((since.units, since.errors.len()), (1, 0));
    let [one] = &since.statements[..] else {
        panic!("{since:?}");
    };
    assert_eq!(one.latency.mean_ms(), Some(30.0));
    // Begun anew in between: nothing of before is taken off.
    all.stop();
    all.measure(LONG, 1);
    all.answered(Some((1, &text(1), 40 * MS)), None);
    let anew = all.measured();
    assert_eq!(anew.since(&before), anew);
    assert_eq!(Measured::default().error_percent(), None);
}

#[test]
fn measuring_ends_by_itself_and_is_not_cut_short() {
    let all = Statements::default();
    assert!(!all.is_on());
    all.measure(LONG, 1);
    all.answered(None, None);
    // Somebody else who wants less neither ends it earlier nor forgets what was counted.
    all.measure(MS, 1);
    assert!(all.left() > Some(LONG / 2));
    assert_eq!(all.measured().units, 1);
    all.stop();
    assert!(!all.is_on());
    assert_eq!(all.measured().units, 1);
    all.measure(Duration::ZERO, 0);
    assert!(!all.is_on());
    assert_eq!(all.one_in(), 1);
}

#[test]
fn neither_statements_nor_states_grow_without_bound() {
    let all = Statements::default();
    all.measure(LONG, 1);
    for number in 0..2000 {
        let state = format!("X{number:04}");
        all.answered(Some((number, &text(number), MS)), Some(&state));
    }
    let measured = all.measured();
    assert_eq!(measured.statements.len(), STATEMENTS_MAX + 1);
    assert_eq!(measured.errors.len(), STATES_MAX + 1);
    let (units, errors) = (
        measured.latency.count,
        measured.errors.values().sum::<u64>(),
    );
    assert_eq!((units, errors), (2000, 2000));
    let rest = measured.statements.iter();
    let rest: Vec<_> = rest.filter(|it| it.fingerprint == OTHER).collect();
    assert_eq!(rest[0].latency.count, 2000 - STATEMENTS_MAX as u64);
    assert!(rest[0].errors.len() <= STATES_MAX + 1);
    assert_eq!(measured.top(10).statements.len(), 10);
}
