//! Following a migration by long poll: a bar on a terminal, plain lines elsewhere, or JSON.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use jiff::Timestamp;
use serde_json::Value;

use super::client::{Client, ClientError, path};
use super::output::{self, Format, plain};
use crate::runner::types::{Event, EventKind, RunView};

/// How long one request waits for news.
const WAIT: &str = "10s";

/// How often a request is tried again when nobody answers, and the pause before each: a moment of
/// trouble should not look like the end.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_millis(500);

/// What happens in one migration, piece by piece.
pub(super) struct News<'a> {
    client: &'a Client,
    id: &'a str,
    /// The last event that was given.
    seen: u64,
}

impl<'a> News<'a> {
    pub(super) fn new(client: &'a Client, id: &'a str) -> Self {
        Self {
            client,
            id,
            seen: 0,
        }
    }

    /// Waits for what has not been given yet; without any events, nothing happened for a while.
    ///
    /// # Errors
    /// When nobody can tell any more how it goes.
    pub(super) async fn next(&mut self) -> Result<RunView, ClientError> {
        let (id, seen) = (self.id, self.seen);
        let path = path(&["v1", "migrations", id]) + &format!("?after={seen}&wait={WAIT}");
        let mut tries = 0;
        let news: RunView = loop {
            tries += 1;
            match self.client.get(&path).await {
                Err(error) if error.is_no_answer() && tries < TRIES => {
                    tokio::time::sleep(PAUSE).await;
                }
                answer => break answer?,
            }
        };
        self.seen = news.events.last().map_or(seen, |last| last.seq);
        Ok(news)
    }
}

/// Follows one migration.
pub(super) struct Follower<'a> {
    news: News<'a>,
    view: View,
}

impl<'a> Follower<'a> {
    pub(super) fn new(client: &'a Client, format: Format, id: &'a str) -> Self {
        let terminal = std::io::stdout().is_terminal() && std::io::stderr().is_terminal();
        let view = match format {
            Format::Json => View::Json,
            Format::Text if terminal => View::Bar(bar()),
            Format::Text => View::Lines,
        };
        let news = News::new(client, id);
        Self { news, view }
    }

    /// Shows every event until the migration is over, and gives its last view; `None` when Ctrl-C
    /// ended the following before.
    ///
    /// # Errors
    /// When nobody can tell any more how it goes.
    pub(super) async fn follow(mut self) -> anyhow::Result<Option<RunView>> {
        loop {
            let seen = self.news.seen;
            let news = tokio::select! {
                news = self.news.next() => news?,
                _ = tokio::signal::ctrl_c() => {
                    self.view.end();
                    return Ok(None);
                }
            };
            if let Some(first) = news.events.first().filter(|first| first.seq > seen + 1) {
                self.view.missed(first.seq - seen - 1)?;
            }
            for event in &news.events {
                self.view.show(event)?;
            }
            if news.exit_code.is_some() {
                self.view.end();
                return self.finish(news).map(Some);
            }
        }
    }

    /// The report, for programs; people have read it as the last event.
    fn finish(&self, news: RunView) -> anyhow::Result<RunView> {
        let last = RunView {
            events: Vec::new(),
            ..news
        };
        match self.view {
            View::Json => output::line(&serde_json::to_string(&last)?)?,
            View::Bar(_) | View::Lines => {}
        }
        Ok(last)
    }
}

/// How events are shown.
enum View {
    /// Lines above a bar that moves with the statements of the file.
    Bar(ProgressBar),
    /// A line an event.
    Lines,
    /// A JSON document an event.
    Json,
}

impl View {
    fn show(&self, event: &Event) -> anyhow::Result<()> {
        match self {
            Self::Json => output::line(&serde_json::to_string(event)?),
            Self::Lines => output::line(&sentence(event)),
            Self::Bar(bar) => {
                advance(bar, event);
                match event.kind {
                    // The bar shows them.
                    EventKind::Statement
                    | EventKind::Batch
                    | EventKind::Watch
                    | EventKind::Progress => Ok(()),
                    EventKind::State
                    | EventKind::Check
                    | EventKind::FileStarted
                    | EventKind::FileDone
                    | EventKind::Failure
                    | EventKind::Notice
                    | EventKind::Note => bar.suspend(|| output::line(&sentence(event))),
                }
            }
        }
    }

    /// Says that events were too many to be kept.
    fn missed(&self, count: u64) -> anyhow::Result<()> {
        let text = format!("({count} earlier events are no longer kept)");
        match self {
            Self::Json => Ok(()),
            Self::Lines => output::line(&text),
            Self::Bar(bar) => bar.suspend(|| output::line(&text)),
        }
    }

    fn end(&self) {
        match self {
            Self::Bar(bar) => bar.finish_and_clear(),
            Self::Lines | Self::Json => {}
        }
    }
}

/// A bar that turns from the start, so that waiting is seen to be alive.
fn bar() -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {elapsed} {wide_msg} {pos}/{len}")
        .expect("the template is well formed");
    let bar = ProgressBar::new(0).with_style(style);
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

/// Moves the bar as an event says.
fn advance(bar: &ProgressBar, event: &Event) {
    let number = |key| event.data.get(key).and_then(Value::as_u64);
    match event.kind {
        EventKind::FileStarted => {
            bar.set_position(0);
            bar.set_length(number("statements").unwrap_or(0));
            bar.set_message(plain(&event.text));
        }
        EventKind::Statement => bar.set_position(number("statement").unwrap_or(0)),
        EventKind::State | EventKind::Batch | EventKind::Watch | EventKind::Progress => {
            bar.set_message(plain(event.text.lines().next().unwrap_or("")));
        }
        EventKind::Check
        | EventKind::FileDone
        | EventKind::Failure
        | EventKind::Notice
        | EventKind::Note => {}
    }
}

/// An event as a line, or as several: the time stands before the first.
pub(super) fn sentence(event: &Event) -> String {
    let lines: Vec<_> = event.text.lines().map(plain).collect();
    let at: Timestamp = event.at;
    format!(
        "{} {}",
        at.strftime("%H:%M:%SZ"),
        lines.join("\n          ")
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(kind: EventKind, text: &str, data: Value) -> Event {
        Event {
            seq: 1,
            at: "2026-01-02T03:04:05Z".parse().expect("a time"),
            kind,
            text: text.to_owned(),
            data,
        }
    }

    #[test]
    fn an_event_is_a_line_with_its_time() {
        let note = event(EventKind::Note, "first\nsecond \u{1b}[2J", Value::Null);
        assert_eq!(
            sentence(&note),
            "03:04:05Z first\n          second \\u{1b}[2J"
        );
    }

    #[test]
    fn the_bar_follows_the_statements_of_a_file() {
        let bar = ProgressBar::hidden();
        let data = json!({ "file": "1_x.up.sql", "statements": 3 });
        advance(&bar, &event(EventKind::FileStarted, "1_x.up.sql", data));
        advance(
            &bar,
            &event(EventKind::Statement, "", json!({ "statement": 2, "of": 3 })),
        );
        assert_eq!((bar.position(), bar.length()), (2, Some(3)));
        advance(
            &bar,
            &event(
                EventKind::FileStarted,
                "2_y.up.sql",
                json!({ "statements": 1 }),
            ),
        );
        assert_eq!((bar.position(), bar.length()), (0, Some(1)));
    }
}
