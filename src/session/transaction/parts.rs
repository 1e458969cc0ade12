//! What a session has sent and the server has not answered.

/// What ends a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Query or FunctionCall: swallowed when an extended message before it fails.
    Query,
    /// Sync: ends the skipping.
    Sync,
}

/// What COPY the server is in, as far as we know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Copy {
    No,
    /// It reads CopyData and ignores Sync and Flush; some of the data may have been sent.
    In(Data),
    /// Replication: both directions stream.
    Both,
}

impl Copy {
    /// One that reads data, of which so much has been sent.
    pub(super) fn of(sent: Data) -> Copy {
        match sent {
            Data::Ended => Copy::No,
            Data::None | Data::Some => Copy::In(sent),
        }
    }
}

/// How far the data of a COPY has been sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Data {
    #[default]
    None,
    /// The server may have found an error in it, and have answered Syncs since.
    Some,
    /// A CopyDone or CopyFail.
    Ended,
}

/// Extended messages in front of the end of a unit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Batch {
    /// Messages that the server answers one by one: Parse, Bind, Describe, Execute, Close.
    pub(super) expected: u32,
    /// What came behind the last of them.
    pub(super) data: Data,
    /// A CopyDone or CopyFail came behind any of them.
    pub(super) copy_end: bool,
    /// The server skips everything up to the Sync that is still to come.
    pub(super) skipping: bool,
    /// Something of it may have done work: a Bind or an Execute.
    pub(super) runs: bool,
    /// How many of them are Execute.
    pub(super) executes: u32,
}

impl Batch {
    /// Whether it is as it was at the start. What else is noted of a batch comes with a message of it.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        let empty = self.expected == 0 && !self.skipping;
        debug_assert_eq!(empty, *self == Batch::default());
        empty
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unit {
    pub(super) batch: Batch,
    pub(super) end: End,
    /// What came behind it, before anything else.
    pub(super) data_behind: Data,
}

impl Unit {
    /// A Sync with nothing in front of it.
    pub(super) fn is_bare_sync(&self) -> bool {
        self.end == End::Sync && self.batch.is_empty()
    }
}
