//! `pgdrain config`: looks at a configuration, with or without a running pgdrain, lets that read its own again,
//! and makes one of PgBouncer's.

use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Subcommand};
use hyper::Method;
use jiff::Timestamp;

use super::arguments::{Asking, operator};
use super::client::{ClientError, Patience, path};
use super::exit::Exit;
use super::output::{Format, line, note, plain, table};
use super::token::NewToken;
use super::wait_for;
use crate::admin::types::{
    ActionRequest, ConfigChecked, ConfigProblem, ConfigReloaded, ConfigView,
};
use crate::config::{Source, Surroundings, pgbouncer};

/// Show, check or reload a configuration, or make one from PgBouncer's
#[derive(Args, Debug)]
pub(super) struct Config {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Check(Check),
    Token(NewToken),
    Show(Show),
    Validate(Validate),
    Reload(Reload),
    FromPgbouncer(FromPgbouncer),
}

/// Read a configuration as `serve` and a reload would, with the variables of the environment, and name
/// everything that is wrong with its line and key
///
/// Ends with 0 if it can be used, with 5 if not.
#[derive(Args, Debug)]
struct Check {
    /// The configuration file.
    #[arg(long, value_name = "FILE", env = "PGDRAIN_CONFIG")]
    config: Option<PathBuf>,
}

/// Show the configuration that a running pgdrain uses; secrets are stars
#[derive(Args, Debug)]
struct Show {
    /// Only keys that begin so, such as hold.
    #[arg(value_name = "KEY")]
    key: Option<String>,
    #[command(flatten)]
    asking: Asking,
}

/// Ask a running pgdrain whether it could use a file, and what a reload with it would change
///
/// The variables of its environment and its flags count, as at a reload. Nothing is changed. Ends with 0
/// if it could be used, with 5 if not.
#[derive(Args, Debug)]
struct Validate {
    /// The configuration file, on this machine.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    asking: Asking,
}

/// Let a running pgdrain read its configuration again
///
/// Says which keys apply now and which need a restart. A configuration that cannot be used changes
/// nothing: everything that is wrong with it is named, and the command ends with 5.
#[derive(Args, Debug)]
struct Reload {
    /// Why, for the audit.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    asking: Asking,
}

/// Write a configuration that does what a pgbouncer.ini says
///
/// What has no counterpart stands at the end as comments, with what to do instead. Passwords are not
/// copied.
#[derive(Args, Debug)]
struct FromPgbouncer {
    /// The pgbouncer.ini.
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

impl Config {
    pub(super) fn run(self) -> anyhow::Result<Exit> {
        match self.command {
            Command::Check(check) => check.run(),
            Command::Token(token) => token.run(),
            Command::Show(show) => wait_for(show.run()),
            Command::Validate(validate) => wait_for(validate.run()),
            Command::Reload(reload) => wait_for(reload.run()),
            Command::FromPgbouncer(translation) => translation.run(),
        }
    }
}

impl Check {
    fn run(self) -> anyhow::Result<Exit> {
        let loaded = Source::new(self.config).load(&Surroundings::of_process())?;
        for warning in loaded.warnings {
            note(&format!("warning: {warning}"));
        }
        let (endings, now) = (loaded.config.endings(), Timestamp::now());
        for warning in endings.iter().filter_map(|ending| ending.warning(now)) {
            note(&format!("warning: {warning}"));
        }
        line("the configuration can be used")?;
        Ok(Exit::SUCCESS)
    }
}

impl Show {
    async fn run(self) -> anyhow::Result<Exit> {
        let client = self.asking.client()?;
        let mut config: ConfigView = client.get(&path(&["v1", "config"])).await?;
        if let Some(key) = &self.key {
            config
                .settings
                .retain(|it| it.key.starts_with(key.as_str()));
        }
        self.asking.format().print(&config, |config| {
            let rows = config.settings.iter().map(|it| {
                let applies = if it.reloads { "reload" } else { "restart" };
                [it.key.clone(), it.value.clone(), applies.to_owned()]
            });
            table(["key", "value", "changes at a"], rows)
        })?;
        Ok(Exit::SUCCESS)
    }
}

impl Validate {
    async fn run(self) -> anyhow::Result<Exit> {
        let named = || self.file.display().to_string();
        let text = std::fs::read_to_string(&self.file).with_context(named)?;
        let client = self.asking.client()?;
        let path = path(&["v1", "config", "validate"]);
        let checked: ConfigChecked = client.post_text(&path, text).await?;
        self.asking
            .format()
            .print(&checked, |checked| match checked.valid {
                true => changes(&checked.now, &checked.restart, "would apply"),
                false => listed(&checked.problems),
            })?;
        warn(&checked.warnings);
        Ok(if checked.valid {
            Exit::SUCCESS
        } else {
            Exit::USAGE
        })
    }
}

impl Reload {
    async fn run(self) -> anyhow::Result<Exit> {
        let request = ActionRequest {
            reason: self.reason,
            by: Some(operator()),
        };
        let client = self.asking.client()?;
        let path = path(&["v1", "config", "reload"]);
        let answer = client.send(Method::POST, &path, &request, Patience::Short);
        let reloaded: ConfigReloaded = match answer.await {
            Ok(reloaded) => reloaded,
            Err(ClientError::Refused { body, .. }) if body.error.code == "invalid_config" => {
                match self.asking.format() {
                    Format::Text => {
                        note(&body.error.message);
                        note(&listed(&body.problems));
                    }
                    json @ Format::Json => json.print(&body, |_| String::new())?,
                }
                return Ok(Exit::USAGE);
            }
            Err(error) => return Err(error.into()),
        };
        self.asking.format().print(&reloaded, |reloaded| {
            changes(&reloaded.now, &reloaded.restart, "apply")
        })?;
        warn(&reloaded.warnings);
        Ok(Exit::SUCCESS)
    }
}

/// Which keys changed, and when that counts.
fn changes(now: &[String], restart: &[String], apply: &str) -> String {
    if now.is_empty() && restart.is_empty() {
        return "nothing is written otherwise than it is".to_owned();
    }
    let mut text = String::new();
    for (keys, when) in [
        (now, format!("{apply} now")),
        (restart, "need a restart".to_owned()),
    ] {
        if !keys.is_empty() {
            text += &format!("{when}: {}\n", keys.join(", "));
        }
    }
    text
}

/// Everything that is wrong.
fn listed(problems: &[ConfigProblem]) -> String {
    let line = |it: &ConfigProblem| {
        let parts = [it.origin.as_deref().unwrap_or_default(), &it.key, &it.text];
        let parts = parts.into_iter().filter(|part| !part.is_empty());
        plain(&parts.collect::<Vec<_>>().join(": "))
    };
    let lines: Vec<_> = problems.iter().map(line).collect();
    lines.join("\n")
}

fn warn(warnings: &[String]) {
    for warning in warnings {
        note(&format!("warning: {}", plain(warning)));
    }
}

impl FromPgbouncer {
    fn run(self) -> anyhow::Result<Exit> {
        let named = || self.file.display().to_string();
        let text = std::fs::read_to_string(&self.file).with_context(named)?;
        line(pgbouncer::translate(&text).with_context(named)?.trim_end())?;
        Ok(Exit::SUCCESS)
    }
}
