//! What can happen next, and how often it does.

use std::time::Duration;

use pgdrain::config::{AskedCap, Blocked, Then};
use pgdrain::window::steps::{After, Command};

use crate::conversation;
use crate::dice::Dice;
use crate::lent::Asks;
use crate::model::script::Act;
use crate::whom::{Client, Whom};

/// The databases.
pub(crate) const DATABASES: [&str; 2] = ["shop", "bank"];

/// One step. Sessions and windows are named by their place.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Connect {
        database: &'static str,
        client: Client,
        collects: bool,
    },
    Say(usize, Vec<Act>),
    Forward(usize, usize),
    Serve(usize, usize),
    Answer(usize, usize),
    Vanish(usize),
    Cancel(usize),
    Kill(usize),
    LoseServer(usize),
    /// Of every database where none is named.
    Hold {
        database: Option<&'static str>,
        whom: Whom,
        ask: Ask,
    },
    Open {
        database: Option<&'static str>,
        whom: Whom,
        force: bool,
    },
    /// At so many transactions at once.
    Cap {
        database: &'static str,
        at: AskedCap,
        lasts: Duration,
    },
    BreakGlass,
    BeginWindow {
        database: &'static str,
        ask: Ask,
    },
    GiveUp(usize),
    Finish(usize),
    StayHeld(usize),
    HolderDies(usize),
    Settle {
        reopen: bool,
    },
    /// A window of somebody else's.
    Order {
        database: &'static str,
        asks: Asks,
    },
    OrderAgain(usize),
    /// The term may be another's.
    Command(usize, Command, u64),
    /// A connection shows its key.
    Show(usize),
    /// The server has forgotten the connections that were closed.
    Forget,
    /// Milliseconds.
    Pass(u64),
    /// So many tasks and relays have their turn.
    Turn(usize),
    /// Everybody goes on until nobody can.
    Rest,
    Upkeep,
    Crash,
}

/// A hold as it is asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ask {
    pub(crate) lasts: Duration,
    pub(crate) then: Then,
    pub(crate) blocked: Blocked,
    pub(crate) client_deadline: Duration,
}

/// The longest [`Ask::client_deadline`].
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(30);

/// How often each step happens in one seed: a seed that has no windows, or hardly anything else,
/// comes further than one that has a little of all.
#[derive(Debug)]
pub(crate) struct Habits {
    each: [usize; KINDS],
    /// How many holds in a hundred are for some clients alone.
    narrow: usize,
}

/// Kinds of steps.
const KINDS: usize = 31;

impl Habits {
    pub(crate) fn new(dice: &mut Dice) -> Self {
        const USUAL: [usize; KINDS] = [
            6, 20, 14, 10, 10, 2, 3, 1, 1, 6, 2, 5, 2, 1, 4, 2, 4, 1, 1, 2, 10, 14, 8, 1, 1, 3, 4,
            1, 6, 4, 3,
        ];
        let mut habits = USUAL.map(|usual| usual * dice.one_of(&[0, 1, 1, 2, 4]));
        for needed in [0, 1, 2, 9, 22] {
            habits[needed] = habits[needed].max(USUAL[needed]);
        }
        // Which crashes are many enough.
        habits[24] = habits[24].min(2);
        Self {
            each: habits,
            narrow: dice.one_of(&[0, 30, 70]),
        }
    }

    /// What happens next among so many sessions and windows.
    pub(crate) fn next(
        &self,
        dice: &mut Dice,
        (sessions, windows, loans): (usize, usize, usize),
    ) -> Step {
        let session = dice.below(sessions.max(1));
        let window = dice.below(windows.max(1));
        let loan = dice.below(loans.max(1));
        let database = dice.one_of(&DATABASES);
        match dice.weighted(&self.each) {
            0 if sessions < 6 => Step::Connect {
                database,
                client: Client::new(dice),
                collects: dice.percent(20),
            },
            1..=8 if sessions == 0 => Step::Connect {
                database,
                client: Client::new(dice),
                collects: false,
            },
            1 => Step::Say(session, conversation::piece(dice)),
            2 => Step::Forward(session, some(dice)),
            3 => Step::Serve(session, dice.one_of(&[1, 1, 2, usize::MAX])),
            4 => Step::Answer(session, some(dice)),
            5 => Step::Vanish(session),
            6 => Step::Cancel(session),
            7 => Step::Kill(session),
            8 => Step::LoseServer(session),
            what @ (9 | 10) => Step::Hold {
                database: (what == 9).then_some(database),
                whom: Whom::new(dice, self.narrow),
                ask: Ask::new(dice),
            },
            what @ (11 | 12) => Step::Open {
                database: (what == 11).then_some(database),
                whom: Whom::new(dice, self.narrow),
                force: dice.percent(40),
            },
            13 => Step::BreakGlass,
            14 => Step::BeginWindow {
                database,
                ask: Ask::new(dice),
            },
            15..=18 if windows == 0 => Step::Turn(1),
            15 => Step::GiveUp(window),
            16 => Step::Finish(window),
            17 => Step::StayHeld(window),
            18 => Step::HolderDies(window),
            19 => Step::Settle {
                reopen: dice.percent(70),
            },
            26 => Step::Order {
                database,
                asks: Asks::new(dice),
            },
            27..=29 if loans == 0 => Step::Turn(1),
            27 => Step::OrderAgain(loan),
            28 => Step::Command(
                loan,
                dice.one_of(&[
                    Command::Renew,
                    Command::Renew,
                    Command::Finish,
                    Command::Abort(None),
                    Command::Abort(Some(After::Stay)),
                ]),
                dice.one_of(&[0, 0, 0, 1, u64::MAX]),
            ),
            29 => Step::Show(loan),
            30 => Step::Forget,
            20 => Step::Pass(100 * dice.one_of(&[1, 1, 10, 10, 25, 60, 200, 700])),
            22 => Step::Rest,
            23 => Step::Upkeep,
            24 => Step::Crash,
            25 => Step::Cap {
                database,
                at: dice.one_of(&[
                    AskedCap::Transactions(1),
                    AskedCap::Transactions(2),
                    AskedCap::Percent(50),
                    AskedCap::Off,
                ]),
                lasts: Duration::from_millis(dice.one_of(&[1_050, 10_050, 60_050])),
            },
            _ => Step::Turn(dice.between(1, 6)),
        }
    }
}

fn some(dice: &mut Dice) -> usize {
    dice.one_of(&[1, 5, 20, usize::MAX, usize::MAX])
}

impl Ask {
    /// Ends between the steps in which time passes, so that a restart, which reads the wall clock,
    /// ends it in the same one.
    fn new(dice: &mut Dice) -> Self {
        let lasts = dice.one_of(&[1_050, 3_050, 10_050, 60_050]);
        Self {
            lasts: Duration::from_millis(lasts),
            then: if dice.percent(80) {
                Then::Open
            } else {
                Then::Stay
            },
            blocked: if dice.percent(85) {
                Blocked::Queue
            } else {
                Blocked::Reject
            },
            client_deadline: dice.one_of(&[
                Duration::from_secs(2),
                Duration::from_secs(10),
                WAIT_MAX,
            ]),
        }
    }
}
