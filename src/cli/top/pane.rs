//! What the lower half of the screen is about instead of the whole database: its sessions, or what would
//! be in the way of holding it.

use ratatui::style::{Modifier, Style};
use ratatui::text::Line;

use super::draw::Looks;
use super::view::View;
use crate::admin::types::{Precheck, SessionView};
use crate::cli::output::{millis, millis_or_dash, plain};

/// Sessions that are listed: the oldest transactions, and then the others.
pub(super) const SESSIONS: usize = 200;

/// What the lower half is about.
#[derive(Debug, Default)]
pub(super) enum Pane {
    /// Everything about the database.
    #[default]
    All,
    /// Its sessions, one of which is marked.
    Sessions {
        sessions: Vec<SessionView>,
        marked: Option<u64>,
    },
    /// What would be in the way of holding it, once that is known.
    Precheck(Option<Box<Precheck>>),
}

/// What has to be asked besides the status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Nothing,
    /// The sessions of this database.
    Sessions(String),
    /// The precheck of this database.
    Precheck(String),
}

/// What was answered to it.
#[derive(Debug)]
pub(super) enum Told {
    Nothing,
    Sessions(Vec<SessionView>),
    Precheck(Box<Precheck>),
}

impl Pane {
    /// The sessions, as nothing is known of them yet.
    pub(super) fn sessions() -> Self {
        Self::Sessions {
            sessions: Vec::new(),
            marked: None,
        }
    }

    /// What it needs to know of this database.
    pub(super) fn asks(&self, database: Option<&str>) -> Asked {
        match (self, database) {
            (Self::All, _) | (_, None) => Asked::Nothing,
            (Self::Sessions { .. }, Some(name)) => Asked::Sessions(name.to_owned()),
            // Asked once: the server is looked at closely for it.
            (Self::Precheck(Some(known)), Some(name)) if known.database == name => Asked::Nothing,
            (Self::Precheck(_), Some(name)) => Asked::Precheck(name.to_owned()),
        }
    }

    /// Takes what was answered, unless it is about something else by now.
    pub(super) fn hear(&mut self, told: Told) {
        match (self, told) {
            (Self::Sessions { sessions, marked }, Told::Sessions(all)) => {
                let here = |id: u64| all.iter().any(|it| it.id == id);
                if !marked.is_some_and(here) {
                    // Whoever takes its place is not meant by a key that is pressed now.
                    *marked = None;
                }
                *sessions = all;
            }
            (Self::Precheck(known), Told::Precheck(precheck)) => *known = Some(precheck),
            (Self::All | Self::Sessions { .. } | Self::Precheck(_), _) => {}
        }
    }

    /// Marks another session, by so many places.
    pub(super) fn choose(&mut self, step: isize) {
        let Self::Sessions { sessions, marked } = self else {
            return;
        };
        let place = sessions.iter().position(|it| Some(it.id) == *marked);
        let place = match place {
            None => 0,
            Some(place) => place.saturating_add_signed(step),
        };
        let last = sessions.len().saturating_sub(1);
        *marked = sessions.get(place.min(last)).map(|it| it.id);
    }

    /// What the title says of it.
    pub(super) fn title(&self) -> &'static str {
        match self {
            Self::All => "",
            Self::Sessions { .. } => "sessions ── ",
            Self::Precheck(_) => "precheck ── ",
        }
    }

    /// The lines of the keys.
    pub(super) fn keys(&self) -> &'static [&'static str] {
        match self {
            Self::All => &[
                "↑↓ choose  h hold  r read-only  o open  drain: g gentle f firm t force  q quit",
                "O open by force  c cap  w end window  m end migration  s sessions  p precheck",
            ],
            Self::Sessions { .. } => {
                &["↑↓ choose  c cancel  a abort  x terminate  Esc back  q quit"]
            }
            Self::Precheck(_) => &["↑↓ choose a database  Esc back  q quit"],
        }
    }
}

/// The lines of the sessions, with the marked one in sight.
pub(super) fn session_lines(view: &View, looks: Looks, height: usize) -> Vec<Line<'static>> {
    let Pane::Sessions { sessions, marked } = &view.pane else {
        return Vec::new();
    };
    if sessions.is_empty() {
        return vec![Line::raw("no sessions")];
    }
    let place = sessions.iter().position(|it| Some(it.id) == *marked);
    let room = height.saturating_sub(1).max(1);
    let above = place.unwrap_or(0).saturating_sub(room - 1);
    let head = Line::styled(
        format!("  {:>6} {:>7} {:14} {:>9} who", "id", "pid", "state", "for"),
        looks.label(),
    );
    let rows = sessions.iter().skip(above).take(room).map(|session| {
        let is_marked = Some(session.id) == *marked;
        let style = match is_marked {
            true => Style::new().add_modifier(Modifier::BOLD | Modifier::REVERSED),
            false => Style::new(),
        };
        Line::styled(row(session, is_marked), style)
    });
    std::iter::once(head).chain(rows).collect()
}

fn row(session: &SessionView, is_marked: bool) -> String {
    let pid = session
        .pid
        .map_or_else(|| "-".to_owned(), |pid| pid.to_string());
    let age = session.held_ms.or(session.transaction_age_ms);
    let who = format!(
        "{} {} {}",
        session.user, session.application_name, session.client
    );
    format!(
        "{} {:>6} {pid:>7} {:14} {:>9} {}",
        if is_marked { ">" } else { " " },
        session.id,
        session.state.as_str(),
        millis_or_dash(age.map(|ms| ms / 1000 * 1000)),
        plain(&who)
    )
}

/// The lines of the precheck.
pub(super) fn precheck_lines(view: &View, looks: Looks) -> Vec<Line<'static>> {
    let Pane::Precheck(Some(precheck)) = &view.pane else {
        return vec![Line::raw("asking ...")];
    };
    let (verdict, style) = match precheck.go {
        true => ("go", Style::new().add_modifier(Modifier::BOLD)),
        false => ("no-go", looks.wrong()),
    };
    let mut lines = vec![Line::styled(
        format!(
            "{verdict}: {}, ladder {}, bypass {}",
            precheck.mode, precheck.ladder, precheck.bypass
        ),
        style,
    )];
    if precheck.findings.is_empty() {
        lines.push(Line::raw("nothing is in the way"));
    }
    lines.extend(precheck.findings.iter().map(|it| {
        let sign = if it.blocks { "!" } else { " " };
        let text = format!("{sign} {}: {} {}", it.kind, it.what, it.owner);
        let age = it
            .age_ms
            .map(|ms| format!(" {}", millis(ms)))
            .unwrap_or_default();
        let text = plain(&(text + &age));
        Line::styled(
            text,
            if it.blocks {
                looks.wrong()
            } else {
                Style::new()
            },
        )
    }));
    let expected = &precheck.expected;
    lines.push(Line::raw(format!(
        "a drain takes {} (half of them), {} (nine of ten), at most {}",
        millis(expected.drain_p50_ms),
        millis(expected.drain_p90_ms),
        millis(expected.drain_max_ms)
    )));
    lines
}
