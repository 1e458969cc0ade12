//! Conversations at random, as clients hold them.

use std::fmt;

use proptest::collection::vec;
use proptest::prelude::*;

use super::server::Does;

/// What a client does next.
#[derive(Clone)]
pub(super) enum Step {
    /// Sends a message of this type, which makes the server do that.
    Send(u8, Does),
    /// Sends CopyData and how it ends, at once or when it has been asked for; a client that was
    /// refused sends nothing. Then a Sync, if there has to be one.
    Copy {
        waits: bool,
        data: Vec<Does>,
        end: u8,
        sync: bool,
    },
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Send(tag, Does::Succeed) => write!(f, "{}", char::from(*tag)),
            Step::Send(tag, does) => write!(f, "{} {does:?}", char::from(*tag)),
            Step::Copy {
                waits,
                data,
                end,
                sync,
            } => {
                let (end, sync) = (char::from(*end), if *sync { "S" } else { "" });
                write!(f, "data {data:?} {end} {sync} (waits: {waits})")
            }
        }
    }
}

fn does() -> impl Strategy<Value = Does> {
    prop_oneof![
        4 => Just(Does::Succeed),
        1 => Just(Does::Fail),
        1 => Just(Does::Begin),
        1 => Just(Does::Commit),
        1 => Just(Does::CopyOut),
        1 => Just(Does::Suspend),
        1 => Just(Does::Nothing),
    ]
}

fn succeeds_mostly() -> impl Strategy<Value = Does> {
    prop_oneof![8 => Just(Does::Succeed), 1 => Just(Does::Fail), 1 => Just(Does::Nothing)]
}

/// The data of a COPY, and how it ends.
fn copy(sync: bool) -> impl Strategy<Value = Step> {
    let data = vec(succeeds_mostly(), 0..4);
    let end = prop_oneof![3 => Just(b'c'), 1 => Just(b'f')];
    (any::<bool>(), data, end).prop_map(move |(waits, data, end)| Step::Copy {
        waits,
        data,
        end,
        sync,
    })
}

fn send(tag: u8, does: Does) -> Step {
    Step::Send(tag, does)
}

/// Extended messages, mostly with a Sync behind them.
fn batch() -> impl Strategy<Value = Vec<Step>> {
    let one = prop_oneof![
        3 => succeeds_mostly().prop_map(|does| send(b'P', does)),
        3 => succeeds_mostly().prop_map(|does| send(b'B', does)),
        2 => succeeds_mostly().prop_map(|does| send(b'D', does)),
        3 => does().prop_map(|does| send(b'E', does)),
        1 => Just(send(b'C', Does::Succeed)),
        1 => Just(send(b'H', Does::Succeed)),
        1 => does().prop_map(|does| send(b'Q', does)),
    ];
    let sync = prop_oneof![4 => Just(true), 1 => Just(false)];
    (vec(one, 0..6), sync).prop_map(|(mut steps, sync)| {
        if sync {
            steps.push(send(b'S', Does::Succeed));
        }
        steps
    })
}

/// COPY IN by Execute: libpq sends a Sync behind the Execute, which the server ignores, and another
/// one behind the data.
fn extended_copy() -> impl Strategy<Value = Vec<Step>> {
    let parse = prop_oneof![4 => Just(Does::Succeed), 1 => Just(Does::Fail)];
    (parse, 0..3usize, copy(true)).prop_map(|(parse, syncs, copy)| {
        let mut steps = vec![
            send(b'P', parse),
            send(b'B', Does::Succeed),
            send(b'E', Does::CopyIn),
        ];
        steps.extend(vec![send(b'S', Does::Succeed); syncs]);
        steps.push(copy);
        steps
    })
}

pub(super) fn conversation() -> impl Strategy<Value = Vec<Step>> {
    let part = prop_oneof![
        3 => does().prop_map(|does| vec![send(b'Q', does)]),
        1 => succeeds_mostly().prop_map(|does| vec![send(b'F', does)]),
        4 => batch(),
        3 => (0..3usize, copy(false)).prop_map(|(syncs, copy)| {
            let mut steps = vec![send(b'S', Does::Succeed); syncs];
            steps.insert(0, send(b'Q', Does::CopyIn));
            steps.push(copy);
            steps
        }),
        2 => extended_copy(),
        1 => Just(vec![send(b'S', Does::Succeed)]),
        1 => Just(vec![send(b'd', Does::Succeed)]),
    ];
    vec(part, 1..8).prop_map(|parts| parts.concat())
}
