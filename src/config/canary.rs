//! The part of validation that is about canaries.

use std::time::Duration;

use super::quantity::HumanDuration;
use super::raw::RawCanary;
use super::scope::Scope;
use super::validate::Check;
use super::words::{Then, words};

/// How long the command of a canary may take, if it is not said.
const TIMEOUT: Duration = Duration::from_secs(60);

words! {
    /// What becomes of the files that are applied when a canary fails.
    #[derive(Default)]
    OnCanaryFailure {
        /// They stay, and `then` says what traffic does.
        #[default]
        Hold = "hold",
        /// They are taken back in the same window, and traffic is let in.
        Down = "down",
    }
}

/// `[migrate.canary]`: who is let in, and what is tried, before a window lets everybody in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Canary {
    /// Whose new connections are let in; `None` is nobody's.
    pub scope: Option<Scope>,
    /// What is tried, as the shell is given it; `None` is nothing.
    pub command: Option<String>,
    /// How long the scope is let in at least.
    pub lasting: Duration,
    /// How long the command may take.
    pub timeout: Duration,
    /// What happens to traffic when the command fails.
    pub then: Then,
    /// What becomes of the files that are applied when it fails.
    pub on_failure: OnCanaryFailure,
}

impl Default for Canary {
    fn default() -> Self {
        Self {
            scope: None,
            command: None,
            lasting: Duration::ZERO,
            timeout: TIMEOUT,
            then: Then::Stay,
            on_failure: OnCanaryFailure::default(),
        }
    }
}

impl Canary {
    /// Whether there is one.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        self.scope.is_some() || self.command.is_some()
    }
}

/// Reads a scope as it is typed: `application=NAME`, `user=NAME`, `client=CIDR`, several parted by commas.
///
/// # Errors
/// What is wrong with it, in a sentence.
pub fn typed_scope(text: &str) -> Result<Scope, String> {
    let mut scope = Scope::default();
    for part in text.split(',') {
        let wrong = || format!("\"{part}\" is not application=NAME, user=NAME or client=CIDR");
        let (key, value) = part.split_once('=').ok_or_else(wrong)?;
        let value = value.trim();
        match key.trim() {
            _ if value.is_empty() => return Err(wrong()),
            "application" => scope.application_name = Some(value.to_owned()),
            "user" => scope.user = Some(value.to_owned()),
            "client" => scope.client = Some(value.parse().map_err(|_error| wrong())?),
            _ => return Err(wrong()),
        }
    }
    Ok(scope)
}

impl Check<'_> {
    pub(super) fn canary(&mut self, raw: RawCanary) -> Canary {
        let default = Canary::default();
        let scope = Scope {
            user: raw.user,
            application_name: raw.application_name,
            client: raw.client,
        };
        let command = raw.command;
        self.not_empty("migrate.canary.command", command.as_ref());
        let HumanDuration(lasting) = raw.lasting.unwrap_or(HumanDuration(default.lasting));
        Canary {
            scope: (!scope.is_whole()).then_some(scope),
            command,
            lasting,
            timeout: self.time("migrate.canary.timeout", raw.timeout, default.timeout),
            then: raw.then.unwrap_or(default.then),
            on_failure: raw.on_failure.unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_is_read_as_it_is_typed() {
        let scope = typed_scope("application=web canary, client=10.0.0.0/8").expect("a scope");
        assert_eq!(
            scope.to_string(),
            "application \"web canary\", client 10.0.0.0/8"
        );
        assert!(typed_scope("user=app").is_ok_and(|it| it.user.as_deref() == Some("app")));
        for wrong in [
            "",
            "web",
            "application=",
            "client=everywhere",
            "host=a",
            "user=a,,",
        ] {
            assert!(typed_scope(wrong).is_err(), "{wrong}");
        }
    }
}
