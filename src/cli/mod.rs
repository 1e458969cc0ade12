//! The command line: what each command means, and the exit code it ends with.

mod account;
mod advice;
mod approvals;
mod arguments;
mod backups;
mod break_glass;
mod cap;
mod ci;
mod client;
mod colour;
mod config;
mod control;
pub mod demo;
mod describe;
#[cfg(test)]
mod documented;
mod drain;
mod drift;
mod events;
mod exit;
mod follow;
mod manual;
mod migrate;
mod new_migration;
mod objects;
mod output;
mod pace;
mod planning;
mod preflight;
mod read_only;
mod rehearse;
mod repair;
mod report_files;
mod running;
mod serve;
mod sessions;
mod statements;
mod timing;
mod token;
mod top;
mod verify;
mod watching;
mod window;

use std::ffi::OsString;
use std::future::Future;

use clap::{CommandFactory, Parser, Subcommand};

pub use exit::Exit;

/// Hold Postgres traffic at transaction boundaries, drain what runs, migrate alone, reopen.
///
/// `pgdrain demo` shows it at work. `pgdrain serve --upstream postgres://USER@HOST:PORT` carries traffic;
/// the other commands ask the pgdrain that serves. First looks: status, top, events; first aid:
/// `pgdrain open DB`.
#[derive(Debug, Parser)]
#[command(version, disable_help_subcommand = true, after_long_help = Exit::help())]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// The commands; each struct's comment is its help.
#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::Serve),
    Status(control::Status),
    Events(events::Events),
    Top(top::Top),
    Sessions(sessions::Sessions),
    Hold(control::Hold),
    ReadOnly(read_only::ReadOnly),
    Open(control::Open),
    Drain(drain::Drain),
    Precheck(drain::Precheck),
    Cap(cap::Cap),
    Statements(statements::Statements),
    Migrate(migrate::Migrate),
    Window(window::Window),
    Config(config::Config),
    Demo(demo::Demo),
    Completions(manual::Completions),
    Man(manual::Man),
}

/// Runs a command line and says how it ended; errors go to standard error.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> Exit {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(message) => {
            // Help and version are asked for; clap's own code for mistakes has another meaning here.
            let exit = if message.use_stderr() {
                Exit::USAGE
            } else {
                Exit::SUCCESS
            };
            let _nobody_reads = message.print();
            return exit;
        }
    };
    let ended = match cli.command {
        Command::Serve(command) => command.run(),
        Command::Status(command) => wait_for(command.run()),
        Command::Sessions(command) => wait_for(command.run()),
        Command::Events(command) => wait_for(command.run()),
        Command::Top(command) => wait_for(command.run()),
        Command::Hold(command) => wait_for(command.run()),
        Command::ReadOnly(command) => wait_for(command.run()),
        Command::Open(command) => wait_for(command.run()),
        Command::Drain(command) => wait_for(command.run()),
        Command::Precheck(command) => wait_for(command.run()),
        Command::Cap(command) => wait_for(command.run()),
        Command::Statements(command) => wait_for(command.run()),
        Command::Migrate(command) => wait_for(command.run()),
        Command::Window(command) => wait_for(command.run()),
        Command::Config(command) => command.run(),
        Command::Demo(command) => wait_for(command.run()),
        Command::Completions(command) => command.run(Cli::command()),
        Command::Man(command) => command.run(Cli::command()),
    };
    ended.unwrap_or_else(|error| {
        output::note(&format!("{} {error:#}", colour::error()));
        if let Some(step) = advice::next_step(&error) {
            output::note(&format!("next: {step}"));
        }
        Exit::USAGE
    })
}

/// Runs a command that asks a running pgdrain.
fn wait_for(command: impl Future<Output = anyhow::Result<Exit>>) -> anyhow::Result<Exit> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Command, clap::Error> {
        let words = line.split_whitespace();
        Cli::try_parse_from(std::iter::once("pgdrain").chain(words)).map(|cli| cli.command)
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_documented_line_is_understood() {
        for line in [
            "serve",
            "serve --config pgdrain.toml",
            "serve --listen 127.0.0.1:1 --listen unix:/run/x --upstream postgres://a@b --admin 127.0.0.1:2 --state-dir x",
            "status",
            "status --json --admin http://127.0.0.1:1",
            "sessions shop --json",
            "sessions shop --watch",
            "status --watch=500ms --json",
            "window list --watch=5s",
            "events",
            "events shop --follow --after 12 --json",
            "top",
            "top shop --every 2s",
            "sessions",
            "sessions shop --state held --user app --application web --address 10.0.0.0/8 \
             --longer-than 5s --sort held --limit 20",
            "sessions shop --running --watch",
            "status --pace --json",
            "sessions cancel 7 --reason slow --json",
            "sessions terminate 7",
            "sessions abort 7",
            "hold shop",
            "hold * --for 5m --then stay --blocked reject --ladder force --wait 30s --cancel 5s \
             --terminate 5s --bypass cancel --fence --reason maintenance --unproved --json",
            "read-only shop",
            "read-only * --writes reject --for 10m --then stay --reason backup --user app \
             --application web --client 10.0.0.0/8 --ladder firm --wait 30s --cancel 5s --stuck 5s \
             --abort 5s --terminate 5s --bypass wait --unproved --json",
            "open shop",
            "drain shop --ladder gentle --wait 5m",
            "precheck shop --ladder firm --bypass cancel --fence --json",
            "precheck shop --mode read_only",
            "hold shop --user app --application web --client 10.0.0.0/8 --blocked reject --sqlstate 57P03",
            "open * --user app",
            "cap shop 50% --for 5m --reason busy",
            "cap shop off",
            "statements shop",
            "statements shop --measure 10m --one-in 5",
            "statements shop --stop --json",
            "statements shop --limit 5",
            "config check --config pgdrain.toml",
            "config show hold --json",
            "config validate pgdrain.toml",
            "config reload --reason more",
            "config from-pgbouncer /etc/pgbouncer/pgbouncer.ini",
            "completions zsh",
            "man --dir man",
            "open * --force --state-dir /var/lib/pgdrain",
            "migrate up shop --dir migrations",
            "migrate up shop --dir migrations --measure 5m --watch 30m",
            "migrate up shop --dir migrations --canary application=web-canary,client=10.0.0.0/8",
            "migrate down shop --dir migrations --steps 2 --traffic exclusive --for 5m --ladder firm \
             --wait 30s --cancel 5s --terminate 5s --fence --lock-timeout 5s --statement-timeout 1h --json",
            "migrate status shop --dir migrations --json",
            "migrate attach shop",
            "migrate rehearse shop --dir migrations --data full --scale 1k,10k,50k --disabled \
             --limit-migration 30s --limit-index 10s --limit-rollback 20s --rls-role app --report out",
            "migrate rehearse shop --dir migrations --on postgres://a@b/c --no-record --steps 1 --json",
            "migrate ci --dir migrations --schema schema.sql --summary summary.md --report out \
             --warn-after 5m --pg-bin /usr/lib/postgresql/15/bin",
            "migrate ci --dir migrations --url postgres://a@b/c --strict --disabled",
            "migrate cancel shop",
            "window exec shop -- psql -f migration.sql",
            "window exec shop --for 10m --lease 30s --on-lost stay --on-failure stay --queue \
             --connections 3 --by application-name --user anna --reason r -- alembic upgrade head",
            "window exec shop --cap 50% --cap-before 1m --cap-after 10s -- true",
            "window hold shop --to key.sh",
            "window list",
            "window list shop --json",
            "window finish w0123456789abcdef --term 3",
            "window abort w0123456789abcdef --then reopen",
            "demo --pg-bin /usr/lib/postgresql/15/bin --keep",
        ] {
            assert!(parse(line).is_ok(), "{line}: {:?}", parse(line));
        }
    }

    #[test]
    fn a_mistake_names_what_may_be_written() {
        for (line, hint) in [
            ("hold", "<DB>"),
            ("hold shop --ladder brutal", "gentle, firm, force"),
            ("hold shop --then close", "open, stay"),
            ("hold shop --for 5", "is not a duration"),
            ("read-only shop --writes drop", "queue, reject"),
            ("read-only shop --blocked queue", "--blocked"),
            ("migrate up shop", "--dir"),
            ("sessions shop --state asleep", "in_transaction"),
            ("sessions cancel shop", "<ID>"),
            ("window exec shop psql", "--"),
            ("window exec shop --on-lost close -- psql", "reopen, stay"),
            ("migrate up shop --dir x --steps 0", "--steps"),
            (
                "migrate up shop --dir x --traffic closed",
                "auto, open, read_only, exclusive",
            ),
        ] {
            let error = parse(line).expect_err(line).to_string();
            assert!(error.contains(hint), "{line}: {error}");
        }
    }

    #[test]
    fn exit_codes_are_in_the_help_and_in_the_readme() {
        let mut help = Cli::command();
        let help = help.render_long_help().to_string();
        let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        for (Exit(code), meaning) in Exit::MEANINGS {
            let line = format!("{code} {meaning}");
            assert!(words(&help).contains(&line), "{line} in {help}");
        }
        let readme = include_str!("../../README.md");
        for (Exit(code), _) in Exit::MEANINGS.iter().filter(|(Exit(code), _)| *code < 128) {
            let first = |line: &str| line.split('|').nth(1).map(str::to_owned);
            let named = |cell: String| cell.split(',').any(|it| it.trim() == code.to_string());
            let row = readme.lines().filter_map(first).any(named);
            assert!(row, "{code} in the README");
        }
    }

    #[test]
    fn mistakes_of_usage_have_their_own_exit_code() {
        let run = |line: &str| run(line.split(' ').map(OsString::from));
        assert_eq!(run("pgdrain --no-such-flag"), Exit::USAGE);
        assert_eq!(run("pgdrain status --admin ftp://127.0.0.1:1"), Exit::USAGE);
        assert_eq!(run("pgdrain serve --config /nonexistent.toml"), Exit::USAGE);
        assert_eq!(run("pgdrain --version"), Exit::SUCCESS);
    }
}
