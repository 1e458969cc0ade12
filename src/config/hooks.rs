//! The part of the configuration that is about commands at the phases of a run, and who is told of it.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::quantity::{DurationOrNever, HumanDuration};
use super::secret::Secret;
use super::validate::Check;
use super::words::{Then, words};

/// How long a hook may take, if it does not say.
const TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// How often somebody is told of a phase that lasts, if the target does not say.
const EVERY: Duration = Duration::from_secs(15 * 60);

/// More targets than this would be a mistake.
const TARGETS_MAX: usize = 20;

words! {
    /// When a command of the operator runs.
    HookPhase {
        /// Before anything else: nothing is checked yet.
        BeforePreflight = "before_preflight",
        /// Before the database is backed up, where it is.
        BeforeBackup = "before_backup",
        /// Before each window is asked for.
        BeforeWindow = "before_window",
        /// In each window, before its first file.
        WindowOpen = "window_open",
        /// After the last file of the run, in the window if there is one.
        AfterLastFile = "after_last_file",
        /// Before each window lets traffic in again.
        BeforeReopening = "before_reopening",
        /// After each window has let traffic in again.
        AfterReopening = "after_reopening",
        /// At the end of a run that did not succeed.
        OnFailure = "on_failure",
    }
}

words! {
    /// What a webhook is sent.
    NotifyForm {
        /// All that is known, as one JSON object.
        Json = "json",
        /// A sentence as Slack and those like it read it.
        Slack = "slack",
    }
}

words! {
    /// Which phases somebody is told of.
    NotifyOf {
        /// Each of them.
        Phases = "phases",
        /// How the run ended.
        End = "end",
    }
}

/// A command that a run waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// When it runs.
    pub phase: HookPhase,
    /// What it is called in progress and reports.
    pub name: String,
    /// What the shell is given.
    pub command: String,
    /// How long it may take.
    pub timeout: Duration,
    /// What happens to traffic when it fails in a window; by its phase if it is not said.
    pub then: Option<Then>,
}

/// Somebody who is told how a run goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notify {
    /// What the target is called in progress and logs.
    pub name: String,
    /// How it is reached.
    pub to: NotifyTo,
    /// What it is told of.
    pub of: NotifyOf,
    /// How often it is told of a phase that lasts; `None` is not at all.
    pub every: Option<Duration>,
    /// Only told when nobody has acknowledged for so long that a run needs somebody.
    pub escalate_after: Option<Duration>,
}

/// How somebody is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotifyTo {
    /// By a POST.
    Webhook {
        /// Where; it may hold a token.
        url: Secret,
        /// What is sent.
        form: NotifyForm,
        /// The authorities that its certificate may be signed by; `None` is the system's.
        ca: Option<PathBuf>,
    },
    /// By what the shell is given.
    Command(String),
}

/// A hook as it is written.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawHook {
    phase: HookPhase,
    name: Option<String>,
    command: String,
    timeout: Option<HumanDuration>,
    then: Option<Then>,
}

/// A target as it is written.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawNotify {
    name: Option<String>,
    pub(super) url: Option<Secret>,
    form: Option<NotifyForm>,
    ca: Option<PathBuf>,
    command: Option<String>,
    of: Option<NotifyOf>,
    every: Option<DurationOrNever>,
    escalate_after: Option<HumanDuration>,
}

impl Check<'_> {
    pub(super) fn hooks(&mut self, raw: Option<Vec<RawHook>>) -> Vec<Hook> {
        let key = "migrate.hooks";
        let mut hooks = Vec::new();
        for (number, raw) in (1..).zip(raw.unwrap_or_default()) {
            let name = raw.name.unwrap_or_else(|| format!("hook {number}"));
            if raw.command.trim().is_empty() {
                self.wrong(key, format!("{name} has no command"));
            }
            let timeout = self.time(key, raw.timeout, TIMEOUT);
            let in_window = match raw.phase {
                HookPhase::WindowOpen | HookPhase::AfterLastFile | HookPhase::BeforeReopening => {
                    true
                }
                HookPhase::BeforePreflight
                | HookPhase::BeforeBackup
                | HookPhase::BeforeWindow
                | HookPhase::AfterReopening
                | HookPhase::OnFailure => false,
            };
            if raw.then.is_some() && !in_window {
                let text = format!("{name}: then is for hooks in a window, not {}", raw.phase);
                self.wrong(key, text);
            }
            hooks.push(Hook {
                phase: raw.phase,
                name,
                command: raw.command,
                timeout,
                then: raw.then,
            });
        }
        hooks
    }

    pub(super) fn notify(&mut self, raw: Option<Vec<RawNotify>>) -> Vec<Notify> {
        let key = "migrate.notify";
        let raw = raw.unwrap_or_default();
        if raw.len() > TARGETS_MAX {
            self.wrong(key, format!("more than {TARGETS_MAX} targets"));
        }
        let mut targets = Vec::new();
        for (number, raw) in (1..).zip(raw) {
            let name = raw.name.unwrap_or_else(|| format!("target {number}"));
            let to = match (raw.url, raw.command) {
                (Some(url), None) => {
                    // The URL may hold a token: it is not quoted.
                    if !is_web(url.expose()) {
                        self.wrong(key, format!("{name}: url is no http:// or https:// URL"));
                    }
                    NotifyTo::Webhook {
                        url,
                        form: raw.form.unwrap_or(NotifyForm::Json),
                        ca: raw.ca,
                    }
                }
                (None, Some(command)) if !command.trim().is_empty() => {
                    if raw.form.is_some() || raw.ca.is_some() {
                        self.wrong(key, format!("{name}: form and ca are for a url"));
                    }
                    NotifyTo::Command(command)
                }
                _ => {
                    self.wrong(key, format!("{name} needs a url or a command, not both"));
                    continue;
                }
            };
            let escalate_after = raw.escalate_after.map(|it| it.0);
            if escalate_after.is_some_and(|it| it.is_zero()) {
                self.wrong(
                    key,
                    format!("{name}: escalate_after must be longer than zero"),
                );
            }
            let every = raw
                .every
                .map_or(Some(EVERY), |DurationOrNever(every)| every);
            if every.is_some_and(|it| it.is_zero()) {
                self.wrong(
                    key,
                    format!("{name}: every must be longer than zero, or \"never\""),
                );
            }
            targets.push(Notify {
                name,
                to,
                of: raw.of.unwrap_or(NotifyOf::Phases),
                every,
                escalate_after,
            });
        }
        targets
    }
}

fn is_web(text: &str) -> bool {
    url::Url::parse(text)
        .is_ok_and(|it| matches!(it.scheme(), "http" | "https") && it.host_str().is_some())
}
