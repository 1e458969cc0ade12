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

impl From<Exit> for std::process::ExitCode {
    fn from(Exit(code): Exit) -> Self {
        Self::from(code)
    }
}
