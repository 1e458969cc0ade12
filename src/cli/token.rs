//! `pgdrain config token`: makes a token of the admin HTTP, and the lines of the configuration that know it.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use jiff::{Timestamp, Unit};

use super::arguments::words;
use super::exit::Exit;
use super::output::{line, note};
use crate::config::{AdminRole, Expires, HumanDuration, NoEnd, Secret, TokenHash, new_token};

/// Make a token for the admin HTTP
///
/// The lines that go to the end of the configuration file are printed; they hold its hash alone. The
/// token is shown this once, on the standard error, or written into a new file that nobody else can
/// read. `kill -HUP` lets a running pgdrain know it.
#[derive(Args, Debug)]
pub(super) struct NewToken {
    /// Who shows it; what they do stands in the audit log under this name.
    #[arg(value_name = "NAME")]
    name: String,
    /// What they may do: a viewer looks, an operator also holds and opens, a migrator also runs
    /// migrations, an admin does everything.
    #[arg(long, value_name = "ROLE", value_parser = words::<AdminRole>(AdminRole::WORDS))]
    role: AdminRole,
    /// A role of migrate.approvals that they may speak for; may be repeated.
    #[arg(long, value_name = "ROLE")]
    approves: Vec<String>,
    /// When it stops to count: a day such as 2027-01-01, a moment, or a time from now such as 90days.
    #[arg(long, value_name = "WHEN", value_parser = when)]
    expires: Option<Timestamp>,
    /// Write the token into this file, which must not be there yet.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

impl NewToken {
    pub(super) fn run(self) -> anyhow::Result<Exit> {
        let token = new_token();
        let hash = TokenHash::of(token.expose()).context("a token of another form")?;
        match &self.token_file {
            Some(path) => write(path, &token)
                .with_context(|| format!("{} cannot be written", path.display()))?,
            None => note(&format!(
                "the token of {}, which is shown this once:\n{}",
                self.name,
                token.expose()
            )),
        }
        line(&self.lines(&hash))?;
        Ok(Exit::SUCCESS)
    }

    fn lines(&self, hash: &TokenHash) -> String {
        let mut lines = format!(
            "\n[[admin.tokens]]\nname = {}\nrole = \"{}\"\nsha256 = \"{}\"",
            toml::Value::from(self.name.as_str()),
            self.role,
            hash.hex()
        );
        if !self.approves.is_empty() {
            let approves = toml::Value::from(self.approves.clone());
            lines.push_str(&format!("\napproves = {approves}"));
        }
        if let Some(end) = self.expires {
            lines.push_str(&format!("\nexpires = \"{end}\""));
        }
        lines
    }
}

/// A moment that is to come, to the second.
fn when(text: &str) -> Result<Timestamp, String> {
    let now = Timestamp::now();
    let end = match text.parse() {
        Ok(HumanDuration(time)) => now.checked_add(time).map_err(|error| error.to_string())?,
        Err(_no_duration) => {
            let Expires(end) = text.parse().map_err(|error: NoEnd| error.to_string())?;
            end
        }
    };
    match end > now {
        true => Ok(end.round(Unit::Second).unwrap_or(end)),
        false => Err(format!("{end} has passed")),
    }
}

/// For its user alone, and never in the place of another.
fn write(path: &Path, token: &Secret) -> std::io::Result<()> {
    let mut file = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(token.expose().as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_are_toml_whatever_the_name_holds() {
        let hash = TokenHash::of(new_token().expose()).expect("a token");
        for name in ["ci", "it's", "a \"b\"\\", "é"] {
            let made = NewToken {
                name: name.to_owned(),
                role: AdminRole::Migrator,
                approves: vec!["dba".to_owned()],
                expires: Some("2099-01-01T00:00:00Z".parse().expect("a moment")),
                token_file: None,
            };
            let read: toml::Table = made.lines(&hash).parse().expect(name);
            let token = &read["admin"]["tokens"][0];
            assert_eq!(token["name"].as_str(), Some(name));
            assert_eq!(token["role"].as_str(), Some("migrator"));
            assert_eq!(token["sha256"].as_str(), Some(hash.hex().as_str()));
            assert_eq!(token["approves"][0].as_str(), Some("dba"));
            assert_eq!(token["expires"].as_str(), Some("2099-01-01T00:00:00Z"));
        }
    }

    #[test]
    fn an_end_is_in_the_future() {
        let day = when("2099-01-01").expect("a day");
        assert_eq!(day, "2099-01-01T00:00:00Z".parse().expect("a moment"));
        let soon = when("90days").expect("a time");
        assert!(soon > Timestamp::now() && soon < day, "{soon}");
        for wrong in ["2020-01-01", "soon", ""] {
            assert!(when(wrong).is_err(), "{wrong}");
        }
    }
}
