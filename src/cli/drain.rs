//! The commands about what stands in the way: drain, precheck.

use std::fmt::Write;

use clap::Args;
use hyper::Method;

use super::arguments::{Asking, LadderArguments, operator, words};
use super::client::{ClientError, Patience, path};
use super::describe;
use super::exit::Exit;
use super::output::{millis, millis_or_dash, note, plain, table};
use crate::admin::types::{DrainRequest, Finding, ModeResults, Precheck as Answer, WindowMode};
use crate::config::{Bypass, Preset};

/// Change how far a drain under way goes, up or down again
///
/// Ends with 0 when the drain was told, and with 6 when none is under way.
#[derive(Args, Debug)]
pub(super) struct Drain {
    /// The database, or '*' for all.
    #[arg(value_name = "DB")]
    database: String,
    #[command(flatten)]
    ladder: LadderArguments,
    #[command(flatten)]
    asking: Asking,
}

impl Drain {
    pub(super) async fn run(self) -> anyhow::Result<Exit> {
        let request = DrainRequest {
            ladder: self.ladder.ladder,
            autocommit: self.ladder.autocommit,
            wait: self.ladder.wait,
            cancel: self.ladder.cancel,
            abort: self.ladder.abort,
            stuck: self.ladder.stuck,
            terminate: self.ladder.terminate,
            by: Some(operator()),
        };
        let path = path(&["v1", "databases", &self.database, "drain"]);
        let client = self.asking.client()?;
        let answer: Result<ModeResults, _> = client
            .send(Method::PUT, &path, &request, Patience::Short)
            .await;
        match answer {
            Ok(results) => {
                let describe = |results: &ModeResults| describe::results(&results.results);
                self.asking.format().print(&results, describe)?;
                Ok(Exit::SUCCESS)
            }
            Err(ClientError::Refused { body, .. }) if body.error.code == "not_draining" => {
                note(&body.error.message);
                Ok(Exit::NOT_GRANTED)
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// Show what would stand in the way of a window or of read-only mode, without holding anything
///
/// Ends with 0 for go and with 1 for no-go.
#[derive(Args, Debug)]
pub(super) struct Precheck {
    /// The database.
    #[arg(value_name = "DB")]
    database: String,
    /// Who is to wait: everybody, or who writes.
    #[arg(long, value_name = "MODE", value_parser = words::<WindowMode>(WindowMode::WORDS))]
    mode: Option<WindowMode>,
    /// How far the drain is to go.
    #[arg(long, value_name = "PRESET", value_parser = words::<Preset>(Preset::WORDS))]
    ladder: Option<Preset>,
    /// What is to be done about sessions that did not come through pgdrain.
    #[arg(long, value_name = "WHAT", value_parser = words::<Bypass>(Bypass::WORDS))]
    bypass: Option<Bypass>,
    /// Whether a fence could be raised.
    #[arg(long)]
    fence: bool,
    #[command(flatten)]
    asking: Asking,
}

impl Precheck {
    pub(super) async fn run(self) -> anyhow::Result<Exit> {
        let mut path = path(&["v1", "databases", &self.database, "precheck"]);
        let asked = [
            ("mode", self.mode.map(WindowMode::as_str)),
            ("ladder", self.ladder.map(Preset::as_str)),
            ("bypass", self.bypass.map(Bypass::as_str)),
            ("fence", self.fence.then_some("true")),
        ];
        let asked = asked
            .into_iter()
            .filter_map(|(key, word)| Some(format!("{key}={}", word?)));
        for (at, pair) in asked.enumerate() {
            let _infallible = write!(path, "{}{pair}", if at == 0 { '?' } else { '&' });
        }
        let answer: Answer = self.asking.client()?.get(&path).await?;
        self.asking.format().print(&answer, described)?;
        Ok(match answer.go {
            true => Exit::SUCCESS,
            false => Exit::PREFLIGHT,
        })
    }
}

fn described(answer: &Answer) -> String {
    let mut text = format!(
        "{}: {} ({}, ladder {}, bypass {})\n",
        plain(&answer.database),
        if answer.go { "go" } else { "no-go" },
        answer.mode,
        answer.ladder,
        answer.bypass
    );
    if answer.findings.is_empty() {
        text += "nothing is in the way\n";
    } else {
        let rows = answer.findings.iter().map(row);
        let header = ["", "what", "whose", "age", "gentle", "firm", "force"];
        let _infallible = writeln!(text, "\n{}", table(header, rows));
    }
    let expected = &answer.expected;
    let _infallible = write!(
        text,
        "\nfrom the last {} s: {} transactions a second; a drain takes {} (half of them),\n\
         {} (nine of ten), at most {}; {} {} of {} clients would wait then",
        expected.seconds,
        expected.transactions_per_second,
        millis(expected.drain_p50_ms),
        millis(expected.drain_p90_ms),
        millis(expected.drain_max_ms),
        match answer.mode {
            WindowMode::Exclusive => "some",
            // Which of them write is not known before.
            WindowMode::ReadOnly => "at most",
        },
        expected.held_after_p90,
        expected.sessions
    );
    text
}

fn row(finding: &Finding) -> [String; 7] {
    let sign = if finding.blocks { "!" } else { "" };
    [
        sign.to_owned(),
        format!("{}: {}", finding.kind, finding.what),
        finding.owner.clone(),
        millis_or_dash(finding.age_ms),
        finding.gentle.to_string(),
        finding.firm.to_string(),
        finding.force.to_string(),
    ]
}
