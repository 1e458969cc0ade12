//! `pgdrain top`: everything live on one screen, with keys to hold, to step the ladder and to open.
//!
//! [`view::View`] knows what is shown and what keys mean, [`draw`] makes a frame of it; both are pure.
//! Here they meet the terminal, pgdrain and the signals.

mod ask;
mod detail;
mod draw;
mod order;
mod pane;
mod rate;
mod screen;
#[cfg(test)]
mod tests;
mod view;

use std::collections::BTreeMap;
use std::future::Future;
use std::io::IsTerminal;
use std::pin::Pin;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use jiff::Timestamp;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{Interval, MissedTickBehavior, interval};

use self::order::Order;
use self::pane::Asked;
use self::screen::{Input, Screen};
use self::view::{News, View, Wish};
use super::arguments::Asking;
use super::client::{Client, ClientError};
use super::colour;
use super::exit::Exit;
use crate::config::HumanDuration;

/// Nobody reads faster.
const SHORTEST: Duration = Duration::from_millis(100);

/// Show everything live on one screen, with keys to hold, step the ladder and open
///
/// Per database: mode, since when, why and until when; transactions per second; who waits and since
/// when; who is in the way of a drain; the window and its countdown; how far a migration is. Arrows
/// choose a database; h holds, r lets reads in alone, o opens, O by force, against a window too; g, f,
/// t set the ladder of the drain to gentle, firm, force (t for terminate); c caps transactions at half
/// of what was usual, and takes a cap off; w ends the window, m the migration. s lists the sessions: c,
/// a, x cancel, abort, terminate the one that is marked. p says what would be in the way of holding.
/// Whatever does something asks first and says what clients will see. q leaves, and changes nothing.
#[derive(Args, Debug)]
pub(super) struct Top {
    /// The database that is chosen at first.
    #[arg(value_name = "DB")]
    database: Option<String>,
    /// How often it is looked.
    #[arg(long, value_name = "TIME", default_value = "1s")]
    every: HumanDuration,
    #[command(flatten)]
    asking: Asking,
}

impl Top {
    pub(super) async fn run(self) -> anyhow::Result<Exit> {
        if !std::io::stdout().is_terminal() {
            bail!(
                "pgdrain top needs a terminal; `pgdrain status --watch` shows the same as text, \
                 `--json` for programs"
            );
        }
        let client = self.asking.client()?;
        // Asked before the screen is taken: a mistake in the URL, or a refusal, is read as any error is.
        let first = ask::look(&client, &BTreeMap::new(), &Asked::Nothing).await;
        let mut view = View::new(
            client.admin(),
            self.database.clone(),
            colour::wanted(&std::io::stdout()),
            Timestamp::now(),
        );
        match first {
            Ok(news) => view.hear(news, Timestamp::now()),
            Err(error) => return Err(error.into()),
        }
        let HumanDuration(every) = self.every;
        let live = Live::begin(client, view, every.max(SHORTEST))?;
        live.run().await
    }
}

/// Something that was begun and will give a `T`.
type Pending<T> = Pin<Box<dyn Future<Output = T>>>;

/// What is under way while the screen is up.
struct Live {
    client: Client,
    view: View,
    ticks: Interval,
    keys: mpsc::Receiver<Input>,
    terminate: Signal,
    hang_up: Signal,
    looking: Option<Pending<Result<News, ClientError>>>,
    doing: Option<Pending<String>>,
    // Last: whatever ends before it is ended when the terminal is given back.
    screen: Screen,
}

/// What happened.
enum Happened {
    Tick,
    Input(Option<Input>),
    Looked(Result<Box<News>, ClientError>),
    Done(String),
    Signal(Exit),
}

impl Live {
    fn begin(client: Client, view: View, every: Duration) -> anyhow::Result<Self> {
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // In place before the screen is taken, so that there is no moment in which they would end us
        // and leave it taken.
        let terminate = signal(SignalKind::terminate())?;
        let hang_up = signal(SignalKind::hangup())?;
        let screen = Screen::take().context("the terminal cannot be used")?;
        Ok(Self {
            client,
            view,
            ticks,
            keys: screen::keys()?,
            terminate,
            hang_up,
            looking: None,
            doing: None,
            screen,
        })
    }

    async fn run(mut self) -> anyhow::Result<Exit> {
        loop {
            let (view, now) = (&self.view, Timestamp::now());
            self.screen.draw(|frame| draw::draw(view, now, frame))?;
            match self.next().await {
                Happened::Tick => self.look(),
                // A terminal that cannot be read is gone, and nobody looks any more.
                Happened::Input(None) => return Ok(Exit::HUNG_UP),
                Happened::Input(Some(Input::Resized)) => {}
                Happened::Input(Some(Input::Key(key))) => match self.view.press(key) {
                    Wish::Nothing => {}
                    Wish::Do(order) => self.carry_out(order),
                    Wish::Look => self.look(),
                    Wish::Quit => return Ok(Exit::SUCCESS),
                    Wish::Interrupted => return Ok(Exit::INTERRUPTED),
                },
                Happened::Looked(Ok(news)) => self.view.hear(*news, Timestamp::now()),
                Happened::Looked(Err(error)) => {
                    self.view.lose(error.to_string(), Timestamp::now());
                }
                Happened::Done(said) => {
                    self.view.answered(said);
                    self.look();
                }
                Happened::Signal(exit) => return Ok(exit),
            }
        }
    }

    /// Waits for what comes next. What was begun is kept if something else was first.
    async fn next(&mut self) -> Happened {
        tokio::select! {
            _ = self.terminate.recv() => Happened::Signal(Exit::TERMINATED),
            _ = self.hang_up.recv() => Happened::Signal(Exit::HUNG_UP),
            input = self.keys.recv() => Happened::Input(input),
            looked = ready(&mut self.looking) => Happened::Looked(looked.map(Box::new)),
            said = ready(&mut self.doing) => Happened::Done(said),
            _ = self.ticks.tick() => Happened::Tick,
        }
    }

    /// Begins to look, unless that goes on already.
    fn look(&mut self) {
        if self.looking.is_some() {
            return;
        }
        let client = self.client.clone();
        let progress = self.view.progress.values();
        let seen = progress.map(|it| (it.id.clone(), it.seen)).collect();
        let asked = self.view.pane.asks(self.view.chosen.as_deref());
        let look = async move { ask::look(&client, &seen, &asked).await };
        self.looking = Some(Box::pin(look));
    }

    /// Begins to carry an order out; one at a time.
    fn carry_out(&mut self, order: Order) {
        if self.doing.is_some() {
            self.view
                .answered("the last order is not answered yet; ask again then".to_owned());
            return;
        }
        let client = self.client.clone();
        self.doing = Some(Box::pin(async move { order.carry_out(&client).await }));
    }
}

/// The result of what was begun; without anything begun, never.
async fn ready<T>(pending: &mut Option<Pending<T>>) -> T {
    match pending {
        Some(begun) => {
            let result = begun.await;
            *pending = None;
            result
        }
        None => std::future::pending().await,
    }
}
