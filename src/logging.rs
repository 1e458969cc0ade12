//! Log lines to standard error, as text for people or as JSON for programs.
//!
//! Levels have a meaning, so that an alert on `error` stays useful:
//!
//! | level | who reads it |
//! | --- | --- |
//! | `error` | a person should look: a promise could not be kept, or there is a bug |
//! | `warn` | a person may have to look soon: an overdue hold, a server that is away |
//! | `info` | what an operator did and what came of it |
//! | `debug` | the life of each session; a client that is lost is told here |
//! | `trace` | everything else |

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::IsTerminal;

use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{Layer, Registry, reload};

/// How a line is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people; in colour on a terminal, unless `NO_COLOR` is set.
    Text,
    /// One JSON object a line.
    Json,
}

/// The installed log; it can change its level.
#[derive(Clone, Debug)]
pub struct Logging {
    filter: reload::Handle<Targets, Registry>,
}

/// Sends the log lines of the whole process to standard error, panics among them.
///
/// # Errors
/// When this was done before: the log is the one thing that belongs to the whole process.
pub fn install(format: Format, level: LevelFilter) -> Result<Logging, TryInitError> {
    let (filter, handle) = reload::Layer::new(filter(level));
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    tracing_subscriber::registry()
        .with(filter)
        .with(lines(format, colour, std::io::stderr))
        .try_init()?;
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        let backtrace = Backtrace::capture();
        let backtrace = (backtrace.status() == BacktraceStatus::Captured).then_some(backtrace);
        tracing::error!(
            place,
            panic = panic.payload_as_str(),
            backtrace = backtrace.as_ref().map(tracing::field::display),
            "panicked"
        );
    }));
    Ok(Logging { filter: handle })
}

impl Logging {
    /// Changes the level from the next line on.
    pub fn set_level(&self, level: LevelFilter) {
        // It fails only when the log is gone, and then nobody reads it.
        let _gone = self.filter.reload(filter(level));
    }
}

/// Our own lines from the level on; those of libraries only where they are trouble, or all of them
/// when everything is asked for.
fn filter(level: LevelFilter) -> Targets {
    let libraries = match level {
        LevelFilter::TRACE => level,
        _ => level.min(LevelFilter::WARN),
    };
    Targets::new()
        .with_default(libraries)
        .with_target(env!("CARGO_CRATE_NAME"), level)
}

/// What writes the lines.
fn lines<S, W>(format: Format, colour: bool, writer: W) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(writer)
        // A full disk behind standard error must not become a panic of ours.
        .log_internal_errors(false);
    match format {
        Format::Text => lines.with_ansi(colour).boxed(),
        Format::Json => lines.json().flatten_event(true).boxed(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was written while `act` ran.
    fn written(format: Format, level: LevelFilter, act: impl FnOnce()) -> String {
        let log = tempfile::NamedTempFile::new().expect("a temporary file");
        let writer = log.reopen().expect("it was just made");
        let subscriber = tracing_subscriber::registry()
            .with(filter(level))
            .with(lines(format, false, writer));
        tracing::subscriber::with_default(subscriber, act);
        std::fs::read_to_string(log.path()).expect("readable")
    }

    #[test]
    fn a_json_line_carries_the_fields_of_its_event_and_span() {
        let text = written(Format::Json, LevelFilter::INFO, || {
            let _session = tracing::info_span!("session", id = 7).entered();
            tracing::info!(database = "shop", "held");
        });
        let line: serde_json::Value = serde_json::from_str(&text).expect("one JSON object");
        assert_eq!(line["message"], "held");
        assert_eq!(line["database"], "shop");
        assert_eq!(line["span"]["id"], 7);
        assert_eq!(line["level"], "INFO");
    }

    #[test]
    fn the_level_is_for_our_own_lines_and_libraries_are_quieter() {
        let text = written(Format::Text, LevelFilter::DEBUG, || {
            tracing::debug!("ours");
            tracing::trace!("too fine");
            tracing::info!(target: "hyper", "theirs");
            tracing::warn!(target: "hyper", "their trouble");
        });
        let kept: Vec<_> = ["ours", "too fine", "theirs", "their trouble"]
            .into_iter()
            .filter(|part| text.contains(part))
            .collect();
        assert_eq!(kept, ["ours", "their trouble"], "{text}");
        assert!(!text.contains('\x1b'), "no colour: {text}");
    }
}
