//! `--watch`: the same question again and again, until Ctrl-C.

use std::io::IsTerminal;
use std::time::Duration;

use clap::Args;
use jiff::Timestamp;
use serde::Serialize;

use super::arguments::Asking;
use super::client::{Client, ClientError};
use super::exit::Exit;
use super::output::{self, Format};
use crate::config::HumanDuration;

/// Nobody reads faster, and pgdrain has better things to do.
const SHORTEST: Duration = Duration::from_millis(100);

/// Whether an answer is shown once or again and again.
#[derive(Args, Clone, Copy, Debug, Default)]
pub(super) struct Watching {
    /// Show it again and again until Ctrl-C: every 2s, or as often as --watch=TIME says. With --json
    /// each answer is one line.
    #[arg(
        long,
        value_name = "TIME",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "2s"
    )]
    watch: Option<HumanDuration>,
}

impl Watching {
    /// Asks and shows the answer, once or until Ctrl-C.
    ///
    /// # Errors
    /// When there is no answer. While it watches that is shown, and it goes on asking: a proxy that
    /// is restarted is one that was watched all the time. A refusal ends it.
    pub(super) async fn show<T: Serialize>(
        self,
        asking: &Asking,
        ask: impl AsyncFn(&Client) -> Result<T, ClientError>,
        text: impl Fn(&T) -> String,
    ) -> anyhow::Result<Exit> {
        let client = asking.client()?;
        let format = asking.format();
        let Some(HumanDuration(every)) = self.watch else {
            format.print(&ask(&client).await?, text)?;
            return Ok(Exit::SUCCESS);
        };
        let page = Page::new(format, every.max(SHORTEST));
        tokio::select! {
            ended = watch(&client, ask, &page, text) => ended,
            _ = tokio::signal::ctrl_c() => Ok(Exit::INTERRUPTED),
        }
    }
}

async fn watch<T: Serialize>(
    client: &Client,
    ask: impl AsyncFn(&Client) -> Result<T, ClientError>,
    page: &Page,
    text: impl Fn(&T) -> String,
) -> anyhow::Result<Exit> {
    loop {
        let shown = match ask(client).await {
            Ok(answer) => match page.format {
                Format::Json => serde_json::to_string(&answer)?,
                Format::Text => text(&answer),
            },
            Err(error) if error.is_no_answer() => page.trouble(&error),
            Err(error) => return Err(error.into()),
        };
        if !page.turn(&shown)? {
            return Ok(Exit::SUCCESS);
        }
        tokio::time::sleep(page.every).await;
    }
}

/// Where one answer takes the place of the one before.
struct Page {
    format: Format,
    every: Duration,
    terminal: bool,
}

impl Page {
    fn new(format: Format, every: Duration) -> Self {
        Self {
            format,
            every,
            terminal: std::io::stdout().is_terminal(),
        }
    }

    /// Nobody answers: for programs an object with the one key of an error.
    fn trouble(&self, error: &ClientError) -> String {
        let message = error.to_string();
        match self.format {
            Format::Text => format!("no answer: {message}"),
            Format::Json => {
                let error = serde_json::json!({ "code": "no_answer", "message": message });
                serde_json::json!({ "error": error }).to_string()
            }
        }
    }

    /// Shows the next answer; false when nobody reads any more.
    fn turn(&self, text: &str) -> anyhow::Result<bool> {
        match (self.format, self.terminal) {
            (Format::Json, _) => output::line_if_read(text),
            (Format::Text, false) => output::line_if_read(&format!("{}\n\n", text.trim_end())),
            (Format::Text, true) => {
                let every = HumanDuration(self.every);
                let now = Timestamp::now().strftime("%H:%M:%SZ");
                let head = format!("every {every}, {now}; Ctrl-C ends");
                let rows = ratatui::crossterm::terminal::size().map_or(24, |(_, rows)| rows);
                output::line_if_read(&redrawn(&format!("{head}\n\n{text}"), rows.into()))
            }
        }
    }
}

/// A text drawn from the upper left corner over what was there, line by line, so that nothing flickers;
/// what does not fit on the screen is counted instead.
fn redrawn(text: &str, rows: usize) -> String {
    let lines: Vec<_> = text.trim_end().lines().collect();
    let room = rows.saturating_sub(1).max(1);
    let mut drawn = String::from("\x1b[H");
    let shown = if lines.len() > room {
        room - 1
    } else {
        lines.len()
    };
    for line in &lines[..shown] {
        drawn += line;
        // To the end of the line.
        drawn += "\x1b[K\n";
    }
    if shown < lines.len() {
        drawn += &format!("... {} more lines\x1b[K\n", lines.len() - shown);
    }
    // To the end of the screen.
    drawn + "\x1b[J"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_takes_the_place_of_the_one_before_and_fits_the_screen() {
        assert_eq!(redrawn("a\nb\n", 24), "\x1b[Ha\x1b[K\nb\x1b[K\n\x1b[J");
        let long: String = (0..30).map(|n| format!("{n}\n")).collect();
        let drawn = redrawn(&long, 10);
        assert_eq!(drawn.matches('\n').count(), 9);
        assert!(drawn.contains("... 22 more lines"), "{drawn}");
    }
}
