//! Exit codes: what a shell learns from a command.

/// How a command ended, for a shell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit(pub u8);

impl Exit {
    /// Done, or nothing to do.
    pub const SUCCESS: Self = Self(0);
    /// A check before a migration failed; nothing was changed.
    pub const PREFLIGHT: Self = Self(1);
    /// A migration failed, or it is not known how it ended.
    pub const MIGRATION: Self = Self(2);
    /// What was checked afterwards is not as it should be.
    pub const POSTFLIGHT: Self = Self(3);
    /// What was to lead back failed.
    pub const ROLLBACK: Self = Self(4);
    /// A mistake in the configuration or the command line, or nobody answers.
    pub const USAGE: Self = Self(5);
    /// A database could not be drained, or not be proved drained.
    pub const NOT_GRANTED: Self = Self(6);
    /// Ended by Ctrl-C, as shells count it: 128 and the number of SIGINT.
    pub const INTERRUPTED: Self = Self(130);
    /// Ended by SIGHUP, counted in the same way.
    pub const HUNG_UP: Self = Self(129);
    /// Ended by SIGTERM, counted in the same way.
    pub const TERMINATED: Self = Self(143);
}

impl Exit {
    /// Every code and what it means, as help, manual page and README have them.
    pub(super) const MEANINGS: &[(Self, &str)] = &[
        (Self::SUCCESS, "done, or nothing to do"),
        (
            Self::PREFLIGHT,
            "a check before a migration failed, precheck or gonogo says no, lint found an error; \
             nothing was done",
        ),
        (
            Self::MIGRATION,
            "a migration failed, or it is not known how it ended; a window was lost",
        ),
        (
            Self::POSTFLIGHT,
            "what was checked afterwards, or in a rehearsal, is not as it should be",
        ),
        (Self::ROLLBACK, "a way back failed: a down file, a restore"),
        (
            Self::USAGE,
            "the command or the configuration is wrong, or no pgdrain answers",
        ),
        (
            Self::NOT_GRANTED,
            "not granted: somebody is in the way, or nobody could prove that nobody is",
        ),
        (Self::HUNG_UP, "ended by SIGHUP"),
        (Self::INTERRUPTED, "ended by Ctrl-C"),
        (Self::TERMINATED, "ended by SIGTERM"),
    ];

    /// The same, for the end of `--help`.
    pub(super) fn help() -> String {
        let mut text = String::from("Exit codes:");
        for (Self(code), meaning) in Self::MEANINGS {
            text += &format!("\n  {code:>3}  {meaning}");
        }
        text + "\n\n`window exec` ends with the code of its command."
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(Exit(code): Exit) -> Self {
        Self::from(code)
    }
}
