//! The frame of `pgdrain top`: what is known, and the time, to cells. Reads nothing, asks nobody.
//!
//! From above: who is asked and whether it answers, the databases, all that is known of the chosen one,
//! and below what is asked or was said, and the keys. Without colours nothing is lost: what they show
//! stands there in words.

use jiff::Timestamp;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Cell, Paragraph, Row, Table, TableState, Wrap};

use super::detail;
use super::pane::{self, Pane};
use super::view::View;
use crate::admin::types::{DatabaseStatus, ModeName};
use crate::cli::describe::nobody;
use crate::cli::output::{broken, millis, millis_or_dash, plain};

/// More databases than these are scrolled.
const LISTED: usize = 8;

/// Lines that an answer may take.
const SAID: usize = 3;

/// How things look.
#[derive(Clone, Copy, Debug)]
pub(super) struct Looks {
    colours: bool,
}

impl Looks {
    fn in_colour(self, colour: Color) -> Style {
        match self.colours {
            true => Style::new().fg(colour),
            false => Style::new(),
        }
    }

    /// A mode: nothing to see, look, clients wait.
    pub(super) fn mode(self, mode: ModeName) -> Style {
        match mode {
            ModeName::Open => self.in_colour(Color::Green),
            ModeName::ReadOnly => self.in_colour(Color::Yellow).add_modifier(Modifier::BOLD),
            ModeName::Hold => self.in_colour(Color::Red).add_modifier(Modifier::BOLD),
        }
    }

    /// What is wrong.
    pub(super) fn wrong(self) -> Style {
        self.in_colour(Color::Red).add_modifier(Modifier::BOLD)
    }

    /// The name of a line.
    pub(super) fn label(self) -> Style {
        self.in_colour(Color::Cyan)
    }
}

/// Draws everything.
pub(super) fn draw(view: &View, now: Timestamp, frame: &mut Frame) {
    let looks = Looks {
        colours: view.colours,
    };
    let rows = view.databases().len().clamp(1, LISTED) + 1;
    let width = usize::from(frame.area().width);
    let said = broken(&plain(&view.said), width).len().clamp(1, SAID);
    let below = match view.asked {
        Some(_) => 4,
        None => u16::try_from(said).expect("a handful"),
    };
    let rows = u16::try_from(rows).expect("a handful");
    let lines = view.pane.keys();
    let keys_high = u16::try_from(lines.len()).expect("a handful");
    let [head, list, title, about, said, keys] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(rows),
        Constraint::Length(1),
        Constraint::Min(0),
        Constraint::Length(below),
        Constraint::Length(keys_high),
    ])
    .areas(frame.area());
    frame.render_widget(header(view, now, looks), head);
    databases(view, looks, frame, list);
    let chosen = plain(view.chosen.as_deref().unwrap_or("nothing"));
    let rule = format!("── {chosen} ── {}", view.pane.title());
    let rule = format!("{rule:─<width$}", width = usize::from(title.width));
    frame.render_widget(Line::styled(rule, looks.label()), title);
    let about_it = match &view.pane {
        Pane::All => detail::lines(view, now, looks, about.width.into()),
        Pane::Sessions { .. } => pane::session_lines(view, looks, about.height.into()),
        Pane::Precheck(_) => pane::precheck_lines(view, looks),
    };
    frame.render_widget(Paragraph::new(about_it), about);
    frame.render_widget(answer(view, looks), said);
    let dim = Style::new().add_modifier(Modifier::DIM);
    let lines: Vec<_> = lines.iter().map(|line| Line::styled(*line, dim)).collect();
    frame.render_widget(Paragraph::new(lines), keys);
}

/// Who is asked, and whether what is shown is true now.
fn header(view: &View, now: Timestamp, looks: Looks) -> Paragraph<'static> {
    if let Some(lost) = &view.lost {
        let text = format!(
            "NO ANSWER since {}; what is shown is from before. {}",
            clock(lost.since),
            plain(&lost.why)
        );
        return Paragraph::new(text).style(looks.wrong().add_modifier(Modifier::REVERSED));
    }
    let stopping = view.status.as_ref().and_then(|it| it.stopping.as_ref());
    if let Some(what) = stopping {
        let text = format!("IT IS STOPPING: {}", plain(what));
        return Paragraph::new(text).style(looks.wrong());
    }
    let Some(status) = &view.status else {
        return Paragraph::new(format!("asking {} ...", plain(&view.admin)));
    };
    let text = format!(
        "pgdrain {} up {}, {} -> {}, {}",
        plain(&status.version),
        millis(status.uptime_ms / 1000 * 1000),
        plain(&status.listen.join(" ")),
        plain(&status.upstream),
        clock(view.server_time(now)),
    );
    Paragraph::new(text).style(Style::new().add_modifier(Modifier::BOLD))
}

/// The list, with the chosen one marked and in sight.
fn databases(view: &View, looks: Looks, frame: &mut Frame, area: Rect) {
    if view.databases().is_empty() {
        let text = match &view.status {
            Some(status) => nobody(status),
            None => String::new(),
        };
        frame.render_widget(Paragraph::new(text), area);
        return;
    }
    let rows = view
        .databases()
        .iter()
        .map(|database| row(view, database, looks));
    let widths = [
        Constraint::Min(10),
        Constraint::Length(9),
        Constraint::Length(8),
        Constraint::Length(7),
        Constraint::Length(7),
        Constraint::Length(12),
        Constraint::Length(9),
    ];
    let header = [
        "database",
        "mode",
        "sessions",
        "in tx",
        "held",
        "longest wait",
        "tx/s",
    ];
    let header = Row::new(header).style(Style::new().add_modifier(Modifier::UNDERLINED));
    let table = Table::new(rows, widths)
        .header(header)
        .highlight_symbol("> ")
        .row_highlight_style(Style::new().add_modifier(Modifier::BOLD));
    let mut state = TableState::new().with_selected(view.place());
    frame.render_stateful_widget(table, area, &mut state);
}

fn row(view: &View, database: &DatabaseStatus, looks: Looks) -> Row<'static> {
    let rate = view.rates.get(&database.database).and_then(|it| it.now());
    let held = match database.held {
        0 => Style::new(),
        _ => looks.wrong(),
    };
    Row::new([
        Cell::from(plain(&database.database)),
        Cell::from(Span::styled(
            database.mode.to_string(),
            looks.mode(database.mode),
        )),
        Cell::from(database.sessions.to_string()),
        Cell::from(database.in_transaction.to_string()),
        Cell::from(Span::styled(database.held.to_string(), held)),
        Cell::from(millis_or_dash(database.oldest_wait_ms)),
        Cell::from(rate.map_or_else(|| "-".to_owned(), |rate| format!("{rate:.1}"))),
    ])
}

/// The question that a key has to answer, or what was said last.
fn answer(view: &View, looks: Looks) -> Paragraph<'static> {
    let asked = view.asked.as_ref().zip(view.current());
    let Some((order, database)) = asked else {
        return Paragraph::new(plain(&view.said)).wrap(Wrap { trim: false });
    };
    let question = format!("{}? ", plain(&order.name()));
    let lines = vec![
        Line::from(vec![
            Span::styled(question, looks.wrong()),
            Span::raw(plain(&order.consequence(database))),
        ]),
        Line::styled(
            "y does it, any other key does not",
            Style::new().add_modifier(Modifier::BOLD),
        ),
    ];
    Paragraph::new(lines).wrap(Wrap { trim: false })
}

/// A time of day in UTC.
pub(super) fn clock(at: Timestamp) -> String {
    at.strftime("%H:%M:%SZ").to_string()
}
