//! What clients do: conversations that keep to the protocol, as drivers and pools have them.

use crate::dice::Dice;
use crate::model::script::Act;
use crate::model::server::Does;

fn does(dice: &mut Dice) -> Does {
    const ALL: [Does; 6] = [
        Does::Succeed,
        Does::Begin,
        Does::Commit,
        Does::Fail,
        Does::CopyOut,
        Does::Nothing,
    ];
    ALL[dice.weighted(&[8, 4, 5, 2, 1, 1])]
}

fn succeeds_mostly(dice: &mut Dice) -> Vec<Does> {
    vec![if dice.percent(90) {
        Does::Succeed
    } else {
        Does::Fail
    }]
}

/// Some messages in a row.
pub(crate) fn piece(dice: &mut Dice) -> Vec<Act> {
    let mut acts = match dice.weighted(&[8, 2, 5, 2, 2, 1]) {
        0 => vec![Act::Send(b'Q', vec![does(dice)])],
        1 => {
            let several = dice.between(2, 3);
            vec![Act::Send(b'Q', (0..several).map(|_| does(dice)).collect())]
        }
        2 => batch(dice),
        3 => copy(dice),
        4 => vec![Act::Send(b'F', succeeds_mostly(dice))],
        _ => vec![Act::Send(b'S', Vec::new())],
    };
    if dice.percent(15) {
        acts.insert(0, Act::Lengthen(dice.one_of(&[10, 100, 300])));
    }
    acts
}

/// Extended messages with a Sync behind them, rarely without.
fn batch(dice: &mut Dice) -> Vec<Act> {
    let mut acts = Vec::new();
    for _ in 0..dice.between(1, 2) {
        acts.push(Act::Send(b'P', succeeds_mostly(dice)));
        acts.push(Act::Send(b'B', succeeds_mostly(dice)));
        if dice.percent(50) {
            acts.push(Act::Send(b'D', succeeds_mostly(dice)));
        }
        acts.push(Act::Send(b'E', vec![does(dice)]));
    }
    if dice.percent(20) {
        acts.push(Act::Send(b'H', Vec::new()));
    }
    if dice.percent(90) {
        acts.push(Act::Send(b'S', Vec::new()));
    }
    acts
}

/// COPY IN by Query, its data at once or when it is asked for.
fn copy(dice: &mut Dice) -> Vec<Act> {
    let mut acts = vec![Act::Send(b'Q', vec![Does::CopyIn])];
    if dice.percent(60) {
        acts.push(Act::Wait);
    }
    for _ in 0..dice.below(3) {
        acts.push(Act::Send(b'd', succeeds_mostly(dice)));
    }
    let end = if dice.percent(75) { b'c' } else { b'f' };
    acts.push(Act::Send(end, vec![Does::Succeed]));
    acts
}
