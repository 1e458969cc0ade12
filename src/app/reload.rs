//! The configuration while the proxy runs: shown, checked, and read again on a signal or a command.

use super::{App, supervisor};
use crate::admin::types::{ConfigChecked, ConfigProblem, ConfigReloaded, ConfigView, Setting};
use crate::audit::{Event, Kind};
use crate::config::{ConfigError, Loaded, Reloaded, Source, Surroundings, shown};
use crate::logging::Logging;
use crate::tasks::blocking;

/// Where the configuration comes from, and what of it is not asked for anew each time.
pub(super) struct Reloader {
    pub(super) source: Source,
    pub(super) logging: Logging,
}

impl App {
    /// Reads the configuration again and tells of it. One that cannot be used changes nothing.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub(super) fn reload(&self, asked: Event) -> Result<ConfigReloaded, ConfigError> {
        supervisor::tell(supervisor::State::Reloading);
        let reloaded = self.reload_now(asked);
        supervisor::tell(supervisor::State::Ready);
        reloaded
    }

    fn reload_now(&self, asked: Event) -> Result<ConfigReloaded, ConfigError> {
        let read = || self.reloader.source.load(&Surroundings::of_process());
        let Loaded { config, warnings } = match blocking(read) {
            Ok(loaded) => loaded,
            Err(error) => {
                tracing::error!("the configuration was not reloaded: {error}");
                self.metrics.reloaded(None);
                self.controller.audit().tell(Event {
                    outcome: Some("refused: the configuration cannot be used".into()),
                    ..asked
                });
                return Err(error);
            }
        };
        for warning in &warnings {
            tracing::warn!("{warning}");
        }
        let Reloaded { now, restart } = self.config.reload(config);
        self.metrics.reloaded(Some(restart.len()));
        let config = self.config.load();
        let pace = super::gates::pace(&config);
        self.controller.gates().set_pace(pace);
        self.controller.audit().tell(Event {
            outcome: Some(format!(
                "{} settings changed, {} will at a restart",
                now.len(),
                restart.len()
            )),
            ..asked
        });
        self.reloader.logging.set_level(config.log.level.into());
        self.say_ends();
        tracing::info!(?now, at_restart = ?restart, "configuration reloaded");
        Ok(ConfigReloaded {
            now: words(&now),
            restart: words(&restart),
            warnings,
        })
    }

    /// Reads it again on SIGHUP.
    pub(super) fn reload_on_signal(&self) {
        let asked = Event {
            from: Some("signal".into()),
            ..Event::here(Kind::Reload)
        };
        // The log says what is wrong.
        drop(self.reload(asked));
    }

    /// What a reload with this text in place of the file would come to.
    pub(super) fn check_config(&self, text: &str) -> ConfigChecked {
        let read = || {
            let source = &self.reloader.source;
            source.load_text(text, &Surroundings::of_process())
        };
        match blocking(read) {
            Ok(Loaded { config, warnings }) => {
                let Reloaded { now, restart } = self.config.would_change(&config);
                ConfigChecked {
                    valid: true,
                    problems: Vec::new(),
                    warnings,
                    now: words(&now),
                    restart: words(&restart),
                }
            }
            Err(error) => ConfigChecked {
                valid: false,
                problems: problems(&error),
                warnings: Vec::new(),
                now: Vec::new(),
                restart: Vec::new(),
            },
        }
    }

    /// What is in use.
    pub(super) fn config_view(&self) -> ConfigView {
        let file = self.reloader.source.file();
        let settings = shown(&self.config.load()).into_iter();
        ConfigView {
            file: file.map(|file| file.display().to_string()),
            settings: settings
                .map(|shown| Setting {
                    key: shown.key.to_owned(),
                    value: shown.value,
                    reloads: shown.reloads,
                })
                .collect(),
        }
    }
}

/// What is wrong, one by one.
pub(super) fn problems(error: &ConfigError) -> Vec<ConfigProblem> {
    match error {
        ConfigError::Invalid { problems, .. } => problems
            .iter()
            .map(|problem| ConfigProblem {
                key: problem.key.clone(),
                origin: problem.origin.as_ref().map(ToString::to_string),
                text: problem.text.clone(),
            })
            .collect(),
        ConfigError::Unreadable { source, .. } => vec![ConfigProblem {
            key: String::new(),
            origin: None,
            text: format!("{error}: {source}"),
        }],
    }
}

fn words(keys: &[&str]) -> Vec<String> {
    keys.iter().map(ToString::to_string).collect()
}
