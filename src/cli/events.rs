//! `pgdrain events`: what was done to traffic, by whom and why, and what is done now.

use std::time::Duration;

use clap::Args;

use super::arguments::Asking;
use super::client::{Client, ClientError};
use super::exit::Exit;
use super::output::{Format, line_if_read, note, plain, table};
use crate::admin::types::{Event, Events as Answer, ToldEvent};

/// How long one question waits for news; less than what an answer may take.
const WAIT: &str = "20s";

/// The pause before the next question when nobody answers.
const PAUSE: Duration = Duration::from_secs(1);

/// How many are shown if nothing else is said.
const LAST: usize = 20;

/// Show what was done to traffic: by whom, why, and what came of it
///
/// The numbers go on over restarts. pgdrain keeps the last thousand; all of them are in audit.jsonl in
/// its state directory.
#[derive(Args, Debug)]
pub(super) struct Events {
    /// Only of this database, and what is about all of them.
    #[arg(value_name = "DB")]
    database: Option<String>,
    /// Go on with what happens, a line an event, until Ctrl-C.
    #[arg(long, short)]
    follow: bool,
    /// Those behind the event with this number; the last 20 without it.
    #[arg(long, value_name = "N")]
    after: Option<u64>,
    #[command(flatten)]
    asking: Asking,
}

impl Events {
    pub(super) async fn run(self) -> anyhow::Result<Exit> {
        let client = self.asking.client()?;
        let mut answer = client.get(&path(self.after.unwrap_or(0), "0s")).await?;
        select(&mut answer, self.database.as_deref());
        if self.after.is_none() {
            let many = answer.events.len().saturating_sub(LAST);
            answer.events.drain(..many);
        }
        if !self.follow {
            self.asking.format().print(&answer, described)?;
            return Ok(Exit::SUCCESS);
        }
        tokio::select! {
            ended = self.go_on(&client, answer) => ended,
            _ = tokio::signal::ctrl_c() => Ok(Exit::INTERRUPTED),
        }
    }

    /// Shows an answer, and all that come, until nobody reads any more.
    async fn go_on(&self, client: &Client, mut answer: Answer) -> anyhow::Result<Exit> {
        loop {
            if answer.gap && self.after.is_some() {
                note("(earlier events are no longer kept; they are in audit.jsonl)");
            }
            for told in &answer.events {
                let text = match self.asking.format() {
                    Format::Json => serde_json::to_string(told)?,
                    Format::Text => sentence(told),
                };
                if !line_if_read(&text)? {
                    return Ok(Exit::SUCCESS);
                }
            }
            answer = news(client, answer.last).await?;
            select(&mut answer, self.database.as_deref());
        }
    }
}

/// Leaves what is about a database.
fn select(answer: &mut Answer, database: Option<&str>) {
    let wanted = |event: &Event| match (database, &event.database) {
        (None, _) | (_, None) => true,
        (Some(wanted), Some(of)) => wanted == of || of == "*",
    };
    answer.events.retain(|told| wanted(&told.event));
}

fn path(after: u64, wait: &str) -> String {
    format!("/v1/events?after={after}&wait={wait}")
}

/// Waits for events behind this one. When nobody answers that is said once, and asked on: a restart is
/// what one may be waiting for.
async fn news(client: &Client, after: u64) -> Result<Answer, ClientError> {
    let mut said = false;
    loop {
        match client.get(&path(after, WAIT)).await {
            Err(error) if error.is_no_answer() => {
                if !said {
                    note(&format!("{error}; asking on"));
                }
                said = true;
                tokio::time::sleep(PAUSE).await;
            }
            answer => return answer,
        }
    }
}

fn described(answer: &Answer) -> String {
    if answer.events.is_empty() {
        return format!("no events; the last is {}", answer.last);
    }
    let row = |told: &ToldEvent| {
        let event = &told.event;
        [
            told.id.to_string(),
            told.at.strftime("%m-%d %H:%M:%SZ").to_string(),
            event.kind.to_string(),
            event.database.clone().unwrap_or_else(|| "-".to_owned()),
            event.by.clone().unwrap_or_else(|| "-".to_owned()),
            outcome(event),
        ]
    };
    let header = ["no", "at", "event", "database", "by", "what came of it"];
    table(header, answer.events.iter().map(row))
}

/// From which mode to which, what came of it, and why.
fn outcome(event: &Event) -> String {
    let mut parts = Vec::new();
    match (&event.before, &event.after) {
        (Some(before), Some(after)) if before != after => {
            parts.push(format!("{before} to {after}"))
        }
        (None, Some(after)) => parts.push(after.clone()),
        (Some(_), Some(_) | None) | (None, None) => {}
    }
    parts.extend(event.outcome.clone());
    parts.extend(event.reason.as_ref().map(|reason| format!("\"{reason}\"")));
    parts.join(", ")
}

/// One event as a line.
fn sentence(told: &ToldEvent) -> String {
    let event = &told.event;
    let mut text = format!("{} {}", told.at.strftime("%m-%d %H:%M:%SZ"), event.kind);
    if let Some(database) = &event.database {
        text += &format!(" {database}");
    }
    if let Some(by) = &event.by {
        text += &format!(" by {by}");
    }
    if let Some(from) = &event.from {
        text += &format!(" from {from}");
    }
    let outcome = outcome(event);
    if !outcome.is_empty() {
        text += &format!(": {outcome}");
    }
    format!("{:>5} {}", told.id, plain(&text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::types::EventKind;

    fn told() -> ToldEvent {
        ToldEvent {
            id: 12,
            at: "2026-01-02T03:04:05Z".parse().expect("a time"),
            event: Event {
                by: Some("alice\u{1b}[2J".to_owned()),
                from: Some("127.0.0.1:5000".to_owned()),
                reason: Some("new index".to_owned()),
                before: Some("open".to_owned()),
                after: Some("hold".to_owned()),
                outcome: Some("done".to_owned()),
                ..Event::of(EventKind::Hold, "shop")
            },
        }
    }

    #[test]
    fn an_event_is_a_row_of_80_columns_and_a_line() {
        let answer = Answer {
            events: vec![told()],
            last: 12,
            gap: false,
        };
        let text = described(&answer);
        for part in ["12", "01-02 03:04:05Z", "hold", "shop", "\"new"] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
        assert!(
            text.lines().all(|line| line.chars().count() <= 80),
            "{text}"
        );
        assert_eq!(
            sentence(&told()),
            "   12 01-02 03:04:05Z hold shop by alice\\u{1b}[2J from 127.0.0.1:5000: open to hold, \
             done, \"new index\""
        );
    }

    #[test]
    fn what_is_about_all_databases_is_about_each() {
        let ask = |database: Option<&str>| {
            let all = [Some("shop"), Some("*"), None, Some("other")];
            let told = |(id, database): (usize, Option<&str>)| ToldEvent {
                id: id as u64,
                event: Event {
                    database: database.map(str::to_owned),
                    ..Event::here(EventKind::Open)
                },
                ..told()
            };
            let mut answer = Answer {
                events: all.into_iter().enumerate().map(told).collect(),
                last: 3,
                gap: false,
            };
            select(&mut answer, database);
            answer.events.iter().map(|told| told.id).collect::<Vec<_>>()
        };
        assert_eq!(ask(None), [0, 1, 2, 3]);
        assert_eq!(ask(Some("shop")), [0, 1, 2]);
    }
}
