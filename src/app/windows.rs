//! Windows for anybody, as the admin HTTP asks for them and tells of them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::App;
use crate::admin::sse::{Feed, Feeder, Gone, feed};
use crate::admin::types::{WindowCommand, WindowOrder, WindowTaken, WindowView, WindowViews};
use crate::admin::{ApiError, Caller, Databases};
use crate::clock;
use crate::config::{AskedCap, AskedLadder, Config};
use crate::drain::escalation::Ladder;
use crate::drain::report::{DrainReport, Outcome, millis};
use crate::window::lease::Term;
use crate::window::steps::{After, Command, Denied, Stage, WindowMode};
use crate::window::{CapAround, IfBusy, Lent, NotTaken, Order};

/// How long a lease lasts if that is not said.
const LEASE: Duration = Duration::from_secs(30);

/// How long traffic is capped before and after, if that is not said.
const CAP: Duration = Duration::from_secs(30);

/// The shortest lease: a holder must be able to renew it in time.
const LEASE_MIN: Duration = Duration::from_secs(1);

/// How long one wait for news is; the next begins at once.
const WAIT: Duration = Duration::from_secs(1);

impl App {
    /// Takes an order for a window.
    pub(super) async fn order_window(
        &self,
        database: String,
        mut body: WindowOrder,
        caller: Caller,
    ) -> Result<WindowTaken, ApiError> {
        let key = body.idempotency_key.take();
        let order = order(database, body, caller, &self.config.load())?;
        let taken = self.desk.ask(order, key.as_deref()).await;
        let taken = taken.map_err(not_taken)?;
        Ok(WindowTaken {
            key: taken
                .secret
                .map(|secret| format!("{}.{secret}", taken.window.id)),
            window: self.window_view(&taken.window),
        })
    }

    /// Every window that is remembered.
    pub(super) fn windows(&self, databases: &Databases) -> WindowViews {
        let name = match databases {
            Databases::All => None,
            Databases::One(name) => Some(name.as_str()),
        };
        let windows = self.desk.list(name);
        WindowViews {
            windows: windows
                .iter()
                .map(|window| self.window_view(window))
                .collect(),
        }
    }

    /// A window; waits for news behind `after`.
    pub(super) async fn window(
        &self,
        id: &str,
        after: u64,
        wait: Duration,
    ) -> Result<WindowView, ApiError> {
        let window = self.find_window(id)?;
        window.news(after, wait).await;
        Ok(self.window_view(&window))
    }

    /// The same until it is over, or the reader leaves, or the proxy stops.
    pub(super) fn follow_window(self: &Arc<Self>, id: &str) -> Result<Feed, ApiError> {
        let window = self.find_window(id)?;
        let (feeder, feed) = feed();
        let app = Arc::clone(self);
        let stop = self.tasks.shutdown_token();
        self.tasks.spawn("window events", async move {
            tokio::select! {
                _gone = app.feed_window(feeder, &window) => {}
                () = stop.cancelled() => {}
            }
        });
        Ok(feed)
    }

    /// Who is held and what time is left change without being news: told every second.
    async fn feed_window(&self, feeder: Feeder, window: &Lent) -> Result<(), Gone> {
        loop {
            let view = self.window_view(window);
            feeder.send(view.seq, view.state.as_str(), &view).await?;
            if view.state == Stage::Closed {
                return Ok(());
            }
            feeder.until(window.news(view.seq, WAIT)).await?;
        }
    }

    /// Renews a window, finishes it, or gives it up.
    pub(super) fn command_window(
        &self,
        id: &str,
        command: Command,
        body: &WindowCommand,
        caller: &Caller,
    ) -> Result<WindowView, ApiError> {
        let window = self.find_window(id)?;
        let by = body.by.as_deref().unwrap_or("unknown");
        let done = window.command(command, Term(body.term), (by, &caller.from));
        match done {
            Ok(()) => Ok(self.window_view(&window)),
            Err(denied) => {
                let code = match denied {
                    Denied::Late(_) => "late_term",
                    Denied::Over(_) => "over",
                };
                let message = format!("Nothing was done: {denied}.");
                Err(ApiError::conflict(code, message))
            }
        }
    }

    fn find_window(&self, id: &str) -> Result<Arc<Lent>, ApiError> {
        let window = self.desk.find(id);
        window.ok_or_else(|| ApiError::not_found(format!("There is no window {id} here.")))
    }

    fn window_view(&self, window: &Lent) -> WindowView {
        let order = &window.order;
        let (state, end, now) = (window.stage(), window.end(), clock::now());
        let (lease, own_end) = window.times();
        let left = |at: Instant| millis(at.saturating_duration_since(now));
        let open = !matches!(state, Stage::Ending | Stage::Closed);
        let drain = window.drain();
        let gate = self.controller.gates().find(&order.database);
        let (used, inside) = window.connections(self.desk.passes());
        WindowView {
            id: window.id.clone(),
            database: order.database.clone(),
            mode: order.mode,
            term: window.term().0,
            state,
            seq: window.seq(),
            by: order.by.clone(),
            reason: order.reason.clone(),
            since: window.since,
            position: self.desk.position(window).map(|before| before as u64),
            lease_left_ms: open.then(|| left(lease)),
            left_ms: own_end.filter(|_| open).map(left),
            on_lost: order.on_lost,
            why: end.map(|end| end.why),
            after: end.map(|end| end.after),
            detail: window.detail(),
            connections_allowed: order.connections,
            connections_used: used,
            connections_now: inside as u64,
            held: gate.map_or(0, |gate| gate.waiting().0 as u64),
            drained_percent: drain.as_ref().map(drained_percent),
            drain,
        }
    }
}

/// How much of what ran when traffic was held has ended.
fn drained_percent(drain: &DrainReport) -> u8 {
    let (all, left) = (drain.waited_for.len(), drain.in_the_way.len());
    let all = all.max(left);
    match drain.outcome {
        Outcome::Drained => 100,
        Outcome::Draining
        | Outcome::Writable
        | Outcome::Unproved
        | Outcome::Exhausted
        | Outcome::Ended => {
            let percent = ((all - left) * 100).checked_div(all).unwrap_or(100);
            // The server has not said yet that nothing runs.
            u8::try_from(percent).unwrap_or(100).min(99)
        }
    }
}

/// What the body leaves out, the configuration says.
fn order(
    database: String,
    body: WindowOrder,
    caller: Caller,
    config: &Config,
) -> Result<Order, ApiError> {
    let set = &config.hold;
    let asked = AskedLadder {
        preset: body.ladder,
        autocommit: body.autocommit,
        wait: body.wait,
        cancel: body.cancel,
        stuck: body.stuck,
        abort: body.abort,
        terminate: body.terminate,
    };
    let order = Order {
        database,
        mode: body.mode.unwrap_or(WindowMode::Exclusive),
        read_only_first: body.read_only_for.map(Duration::from),
        duration: body.duration.map_or(set.duration, Duration::from),
        lease: body.lease.map_or(LEASE, Duration::from),
        on_lost: body.on_lost.unwrap_or(After::Reopen),
        if_busy: body.if_busy.unwrap_or(IfBusy::Refuse),
        connections: body.connections,
        blocked: body.blocked.unwrap_or(match body.mode {
            Some(WindowMode::ReadOnly) => config.read_only.writes,
            Some(WindowMode::Exclusive) | None => set.blocked,
        }),
        client_deadline: set.client_deadline,
        ladder: Ladder::new(&set.ladder.with(&asked)),
        unproved: body.unproved,
        cap: body.cap.map(|at| CapAround {
            at,
            before: body.cap_before.map_or(CAP, Duration::from),
            after: body.cap_after.map_or(CAP, Duration::from),
        }),
        bypass: body.bypass.unwrap_or(set.bypass_of_window()),
        fence: match body.mode {
            Some(WindowMode::ReadOnly) => body.fence.unwrap_or(false),
            Some(WindowMode::Exclusive) | None => body.fence.unwrap_or(set.fence),
        },
        by: body.by.unwrap_or_else(|| "unknown".into()),
        from: caller.from,
        reason: body.reason,
    };
    if order.lease < LEASE_MIN {
        return Err(ApiError::bad_request("A lease lasts one second or more."));
    }
    if order.connections == Some(0) {
        return Err(ApiError::bad_request(
            "A window into which no connection may come is a hold.",
        ));
    }
    if order.cap.is_some_and(|cap| cap.at == AskedCap::Off) {
        return Err(ApiError::bad_request("A window without a cap names none."));
    }
    if order.mode == WindowMode::ReadOnly && order.read_only_first.is_some() {
        return Err(ApiError::bad_request(
            "In a read-only window reads go on for as long as it lasts: read_only_for is for one that \
             is exclusive.",
        ));
    }
    if order.mode == WindowMode::ReadOnly && order.fence {
        return Err(ApiError::bad_request(
            "A read-only window lets new sessions read: it has no fence.",
        ));
    }
    Ok(order)
}

fn not_taken(error: NotTaken) -> ApiError {
    let answer: fn(String) -> ApiError = match &error {
        NotTaken::Busy(_) => |message| ApiError::conflict("busy", message),
        NotTaken::TooMany => |message| ApiError::unavailable("too_many", message),
        NotTaken::OtherRequest => |message| ApiError::conflict("other_request", message),
        NotTaken::Journal(_) => |message| ApiError::unavailable("journal_failed", message),
    };
    // With its causes: which file of the journal, and why.
    answer(format!(
        "There is no window: {:#}.",
        anyhow::Error::new(error)
    ))
}
