//! Everything that is known of one database, as lines: mode, rates, who waits, who is in the way, window,
//! migration.

use std::time::Duration;

use jiff::Timestamp;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::draw::{Looks, clock};
use super::rate::Rate;
use super::view::{Progress, View};
use crate::admin::types::{
    Blocker, DatabaseStatus, DrainReport, HoldStatus, ModeName, ScopeStatus, WindowView,
};
use crate::cli::output::{broken, millis_or_dash, plain};
use crate::config::HumanDuration;

/// Of more in the way than these the rest is counted.
const NAMED: usize = 8;

/// How wide the drawing of the rates is, and that of a migration's statements.
const BARS: usize = 40;
const STATEMENTS: usize = 20;

/// How wide the names of lines are, with the blank behind them.
const LABEL: usize = 10;

/// The lines about the chosen database, for so many columns.
pub(super) fn lines(view: &View, now: Timestamp, looks: Looks, width: usize) -> Vec<Line<'static>> {
    let Some(database) = view.current() else {
        return Vec::new();
    };
    let server_now = view.server_time(now);
    let mut page = Page {
        looks,
        width: width.saturating_sub(LABEL),
        lines: Vec::new(),
    };
    page.mode(database, server_now);
    let rate = view.rates.get(&database.database);
    page.line("rate", rates(rate));
    if database.held > 0 {
        let longest = millis_or_dash(database.oldest_wait_ms);
        let text = format!("{} clients wait, the longest for {longest}", database.held);
        page.styled("held", text, looks.wrong());
    }
    for hold in &database.holds {
        if let Some(drain) = &hold.drain {
            page.drain(drain);
        }
    }
    for scope in &database.scopes {
        page.scope(scope, server_now);
    }
    if let Some(window) = view.window() {
        page.window(view, window, now);
    }
    if let Some(progress) = view.progress.get(&database.database) {
        page.migration(progress);
    }
    page.lines
}

struct Page {
    looks: Looks,
    /// Of the texts behind the names.
    width: usize,
    lines: Vec<Line<'static>>,
}

impl Page {
    fn line(&mut self, label: &str, text: String) {
        self.styled(label, text, Style::new());
    }

    fn styled(&mut self, label: &str, text: String, style: Style) {
        let mut label = format!("{label:<LABEL$}");
        for line in broken(&text, self.width) {
            let name = Span::styled(label, self.looks.label());
            self.lines
                .push(Line::from(vec![name, Span::styled(line, style)]));
            label = " ".repeat(LABEL);
        }
    }

    fn mode(&mut self, database: &DatabaseStatus, now: Timestamp) {
        let style = self.looks.mode(database.mode);
        if database.holds.is_empty() {
            self.styled("mode", database.mode.to_string(), style);
        }
        for hold in &database.holds {
            self.styled("mode", held(hold, now), style);
            if let Some(why) = &hold.stays {
                self.styled("stays", plain(why), self.looks.wrong());
            }
        }
        if let Some(fence) = &database.fence {
            let text = format!(
                "the server lets superusers in alone, {} logins wait",
                fence.parked
            );
            self.line("fence", text);
        }
        if let Some(cap) = &database.cap {
            let until = cap.until.map(|at| format!(", {}", left_until(at, now)));
            let (most, by) = (cap.transactions, plain(&cap.by));
            let until = until.unwrap_or_default();
            self.line(
                "cap",
                format!("{most} transactions at once, by {by}{until}"),
            );
        }
    }

    fn drain(&mut self, drain: &DrainReport) {
        self.line(
            "drain",
            format!(
                "{}, step {}: {}",
                drain.outcome,
                drain.step,
                plain(&drain.detail)
            ),
        );
        let done = [
            ("cancelled", drain.cancelled.len()),
            ("freed", drain.freed.len()),
            ("aborted", drain.aborted.len()),
            ("terminated", drain.terminated.len()),
        ];
        let done = done.iter().filter(|(_, count)| *count > 0);
        let done: Vec<_> = done
            .map(|(what, count)| format!("{count} {what}"))
            .collect();
        if !done.is_empty() {
            self.line("", done.join(", "));
        }
        self.blockers("blocker", &drain.in_the_way);
        self.blockers("bypass", &drain.bypass);
        if let Some(unknown) = &drain.bypass_unknown {
            self.line("bypass", format!("not known: {}", plain(unknown)));
        }
    }

    fn blockers(&mut self, label: &str, blockers: &[Blocker]) {
        // Who is in a transaction for longest is most in the way.
        let mut oldest: Vec<_> = blockers.iter().collect();
        oldest.sort_by_key(|it| std::cmp::Reverse(it.transaction_age_ms));
        for blocker in oldest.iter().take(NAMED) {
            let pid = blocker
                .pid
                .map_or_else(|| "-".to_owned(), |it| it.to_string());
            let text = format!(
                "{pid} {} {} {} {} {}",
                blocker.user,
                blocker.application_name,
                blocker.client,
                blocker.state,
                millis_or_dash(blocker.transaction_age_ms.map(|ms| ms / 1000 * 1000)),
            );
            self.line(label, plain(&text));
        }
        if let Some(more) = blockers.len().checked_sub(NAMED + 1) {
            self.line(label, format!("and {} more", more + 1));
        }
    }

    fn scope(&mut self, scope: &ScopeStatus, now: Timestamp) {
        for hold in &scope.holds {
            let whom = plain(&scope.scope.to_string());
            let text = format!("{whom}: {}; {} wait", held(hold, now), scope.held);
            self.styled("scope", text, self.looks.mode(hold.mode));
        }
    }

    fn window(&mut self, view: &View, window: &WindowView, now: Timestamp) {
        let mut text = format!("{} {} by {}", window.id, window.state, plain(&window.by));
        if let Some(position) = window.position {
            text += &format!(", {position} before it");
        }
        if let Some(left) = view.left(window.left_ms, now) {
            text += &format!(", {} left", seconds(left));
        }
        if let Some(lease) = view.left(window.lease_left_ms, now) {
            text += &format!(", lease {}", seconds(lease));
        }
        if let Some(percent) = window.drained_percent {
            text += &format!(", drained {percent} %");
        }
        text += &format!(
            ", {} inside; lost: {}",
            window.connections_now, window.on_lost
        );
        self.line("window", text);
        if let Some(reason) = &window.reason {
            self.line("", format!("\"{}\"", plain(reason)));
        }
    }

    fn migration(&mut self, progress: &Progress) {
        let mut text = format!("{} {}", progress.id, progress.state);
        if let Some(file) = &progress.file {
            text += &format!(", {}", plain(file));
        }
        if let Some((done, all)) = progress.statements {
            text += &format!(" {} {done} of {all}", bar(done, all));
        }
        self.line("migrates", text);
        if !progress.last.is_empty() {
            self.line("", plain(&progress.last));
        }
    }
}

/// Since when, why and until when.
fn held(hold: &HoldStatus, now: Timestamp) -> String {
    let what = match hold.mode {
        ModeName::ReadOnly => "read-only",
        ModeName::Open | ModeName::Hold => "held",
    };
    let mut text = format!(
        "{what} since {} ({}) by {}",
        clock(hold.since),
        seconds(between(hold.since, now)),
        hold.holder
    );
    if !hold.by.is_empty() {
        text += &format!(" ({})", plain(&hold.by));
    }
    if !hold.reason.is_empty() {
        text += &format!(", \"{}\"", plain(&hold.reason));
    }
    match hold.until {
        _ if hold.overdue => text += ", OVERDUE: its end has passed and it stays",
        Some(until) => text += &format!(", {}, then {}", left_until(until, now), hold.then),
        None => {}
    }
    if let Some(counts) = &hold.enforcement {
        text += &format!("; enforced {}, pending {}", counts.enforced, counts.pending);
    }
    text
}

fn left_until(until: Timestamp, now: Timestamp) -> String {
    format!(
        "until {} ({} left)",
        clock(until),
        seconds(between(now, until))
    )
}

/// From one time to a later one, in milliseconds.
fn between(from: Timestamp, to: Timestamp) -> u64 {
    u64::try_from(to.as_millisecond() - from.as_millisecond()).unwrap_or(0)
}

/// Whole seconds, which is how often they are looked at.
fn seconds(ms: u64) -> String {
    HumanDuration(Duration::from_secs(ms / 1000)).to_string()
}

/// The last rates as bars, the newest at the right, and the last one in figures.
fn rates(rate: Option<&Rate>) -> String {
    const EIGHTHS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let Some((rate, now)) = rate.and_then(|rate| Some((rate, rate.now()?))) else {
        return "not known yet".to_owned();
    };
    let drawn = rate.drawn();
    let drawn = &drawn[drawn.len().saturating_sub(BARS)..];
    let most = drawn.iter().copied().max().unwrap_or(0).max(1);
    let bar = |value: &u64| {
        let eighths = (value * 8).div_ceil(most);
        EIGHTHS[usize::try_from(eighths).unwrap_or(8).min(8)]
    };
    let bars: String = drawn.iter().map(bar).collect();
    format!("{now:.1} transactions a second {bars}")
}

/// How much is done.
fn bar(done: u64, all: u64) -> String {
    let width = u64::try_from(STATEMENTS).unwrap_or(0);
    let full = done.min(all).saturating_mul(width) / all.max(1);
    let full = usize::try_from(full).unwrap_or(0);
    format!("[{}{}]", "#".repeat(full), ".".repeat(STATEMENTS - full))
}
