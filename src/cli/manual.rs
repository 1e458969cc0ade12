//! `pgdrain completions` and `pgdrain man`: what shells and `man` read, made from the commands
//! themselves.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use clap_complete::Shell;

use super::exit::Exit;
use super::output::{line, note};

/// Print the completions for a shell
///
/// Such as: pgdrain completions bash > /usr/share/bash-completion/completions/pgdrain
#[derive(Args, Debug)]
pub(super) struct Completions {
    /// The shell.
    shell: Shell,
}

impl Completions {
    pub(super) fn run(self, mut commands: clap::Command) -> anyhow::Result<Exit> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut commands, "pgdrain", &mut script);
        line(String::from_utf8(script)?.trim_end())?;
        Ok(Exit::SUCCESS)
    }
}

/// Print the manual page, or write one for each command
#[derive(Args, Debug)]
pub(super) struct Man {
    /// Write pgdrain.1 and a page for each command into this directory.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

impl Man {
    pub(super) fn run(self, commands: clap::Command) -> anyhow::Result<Exit> {
        match self.dir {
            Some(dir) => {
                let named = || dir.display().to_string();
                clap_mangen::generate_to(commands, &dir).with_context(named)?;
                note(&format!("wrote the manual into {}", dir.display()));
            }
            None => {
                let mut page = Vec::new();
                clap_mangen::Man::new(commands).render(&mut page)?;
                line(String::from_utf8(page)?.trim_end())?;
            }
        }
        Ok(Exit::SUCCESS)
    }
}
