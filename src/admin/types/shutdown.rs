//! How pgdrain is told to stop by a command.

/// What becomes of clients when pgdrain is told to stop; what ends it sooner comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shutdown {
    /// They are ended at once (57P01), wherever they are: what was not committed is undone.
    Now,
    /// As on SIGTERM: each may end its transaction first, for half a minute.
    AfterTransactions,
    /// They may stay for as long as they like; nobody new is let in, and the process ends with the last
    /// of them.
    AfterClients,
}

impl Shutdown {
    /// What is done, in a sentence.
    #[must_use]
    pub fn what(self) -> &'static str {
        match self {
            Self::Now => "clients are ended at once",
            Self::AfterTransactions => "nobody new is let in, and transactions get 30s to end",
            Self::AfterClients => "nobody new is let in, and it ends with the last client",
        }
    }
}
