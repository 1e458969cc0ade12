//! The closed sets of words that a setting may take, each an enum with one spelling.

use tracing::level_filters::LevelFilter;

/// A word that is not one of the set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{found}\" is not one of {}", allowed.join(", "))]
pub struct UnknownWord {
    /// What was written.
    pub found: String,
    /// What may be written.
    pub allowed: &'static [&'static str],
}

/// Declares an enum whose variants are spelled the same in files, flags, JSON and logs.
macro_rules! words {
    ($(#[$about:meta])* $name:ident {
        $($(#[$meaning:meta])* $variant:ident = $word:literal,)+
    }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        pub enum $name {
            $($(#[$meaning])* #[serde(rename = $word)] $variant,)+
        }

        impl $name {
            /// Every word of the set, in the order of the variants.
            pub const WORDS: &'static [&'static str] = &[$($word),+];

            /// The word of this variant.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::config::UnknownWord;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                match text {
                    $($word => Ok(Self::$variant),)+
                    _ => Err($crate::config::UnknownWord {
                        found: text.to_owned(),
                        allowed: Self::WORDS,
                    }),
                }
            }
        }
    };
}
pub(crate) use words;

words! {
    /// What becomes of holds when the proxy starts again after it was killed or stopped.
    AfterRestart {
        /// They go on, with what is left of their time.
        Resume = "resume",
        /// They go on and stay until a person opens.
        Hold = "hold",
        /// They are over; only what a migration may have left half-done stays held.
        Open = "open",
    }
}

words! {
    /// What becomes of reads of a session that cannot read from a standby, because of what its server
    /// holds for it.
    Stateful {
        /// They stay at its server.
        Stay = "stay",
        /// They wait until traffic is open.
        Wait = "wait",
    }
}

words! {
    /// How a backup is looked at before it counts.
    Verify {
        /// Not at all.
        None = "none",
        /// Its table of contents can be read, and its files are those that were written.
        List = "list",
        /// It is restored into a scratch database, and schema and rows are compared.
        Restore = "restore",
    }
}

words! {
    /// Of which objects the definitions are saved before a run.
    #[derive(Default)]
    SaveObjects {
        /// Of none.
        None = "none",
        /// Of those that the files touch, and what depends on them.
        #[default]
        Touched = "touched",
        /// Of the whole database.
        All = "all",
    }
}

words! {
    /// Which tables a file is to leave with as many rows as they had, unless it says otherwise.
    #[derive(Default)]
    CountRows {
        /// Those that a file touches, where nobody else writes.
        Touched = "touched",
        /// Those that a file names.
        #[default]
        Declared = "declared",
        /// None.
        Off = "off",
    }
}

words! {
    /// What a hold does when its own end comes.
    Then {
        /// Lets the held clients go on.
        Open = "open",
        /// Stays held and says that it is overdue.
        Stay = "stay",
    }
}

words! {
    /// What happens to a transaction that may not start.
    Blocked {
        /// It waits, up to the client's deadline.
        Queue = "queue",
        /// It is refused at once.
        Reject = "reject",
    }
}

words! {
    /// Who goes when more clients wait than may.
    WhenFull {
        /// The one that comes.
        Newest = "newest",
        /// The one that waits longest.
        Oldest = "oldest",
    }
}

words! {
    /// How far a drain goes to end what still runs.
    Preset {
        /// Waits for transactions to end.
        Gentle = "gentle",
        /// Waits, cancels statements, then aborts idle transactions in place.
        Firm = "firm",
        /// The same, then terminates sessions.
        Force = "force",
    }
}

words! {
    /// What a drain does about sessions that did not come through us and are in a transaction.
    Bypass {
        /// They are named, and nothing else.
        Ignore = "ignore",
        /// They are waited for.
        Wait = "wait",
        /// What they run is cancelled; who sits idle in a transaction is waited for.
        Cancel = "cancel",
        /// They are terminated.
        Terminate = "terminate",
    }
}

words! {
    /// What clients of a listener must do about encryption; the words are PgBouncer's.
    ClientTls {
        /// Encryption is declined.
        Disable = "disable",
        /// They may encrypt.
        Allow = "allow",
        /// They must encrypt.
        Require = "require",
        /// They must encrypt and show a certificate that `tls.client_ca` signed.
        VerifyCa = "verify-ca",
        /// The same, and the certificate must be one of the user they log in as.
        VerifyFull = "verify-full",
    }
}

words! {
    /// What a hold does to replication connections.
    ReplicationHold {
        /// They go on, and no drain waits for them.
        Exempt = "exempt",
        /// They are held as every session is.
        Hold = "hold",
    }
}

words! {
    /// How a client has to prove who it is.
    AuthMethod {
        /// To the server; we only watch.
        PassThrough = "pass-through",
        /// By SCRAM-SHA-256, and to us, as with those that follow.
        ScramSha256 = "scram-sha-256",
        /// By an MD5 hash, or by SCRAM where its secret is a SCRAM verifier.
        Md5 = "md5",
        /// By sending its password as it is.
        Password = "password",
        /// By a certificate.
        Cert = "cert",
        /// Not at all.
        Trust = "trust",
        /// It cannot.
        Reject = "reject",
    }
}

words! {
    /// How log lines are written.
    LogFormat {
        /// For people.
        Text = "text",
        /// One JSON object a line.
        Json = "json",
    }
}

words! {
    /// The least important log lines that are written.
    LogLevel {
        /// What a person should look at.
        Error = "error",
        /// What may need a person soon.
        Warn = "warn",
        /// What an operator did and what came of it.
        Info = "info",
        /// The life of each session.
        Debug = "debug",
        /// Everything.
        Trace = "trace",
    }
}

impl From<LogLevel> for LevelFilter {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Error => Self::ERROR,
            LogLevel::Warn => Self::WARN,
            LogLevel::Info => Self::INFO,
            LogLevel::Debug => Self::DEBUG,
            LogLevel::Trace => Self::TRACE,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_reads_back_the_same_everywhere() {
        for word in Preset::WORDS {
            let preset: Preset = word.parse().expect("its own word");
            assert_eq!(preset.to_string(), *word);
            let json = serde_json::to_string(&preset).expect("a word is JSON");
            assert_eq!(json, format!("\"{word}\""));
            assert_eq!(serde_json::from_str::<Preset>(&json).ok(), Some(preset));
        }
    }

    #[test]
    fn an_unknown_word_is_answered_with_the_known_ones() {
        let error = "brutal".parse::<Preset>().expect_err("no such preset");
        assert_eq!(
            error.to_string(),
            "\"brutal\" is not one of gentle, firm, force"
        );
    }
}

words! {
    /// What a schema does that is no longer what the last run left.
    #[derive(Default)]
    OnDrift {
        /// It stops a run, unless it is accepted or forced.
        #[default]
        Stop = "stop",
        /// It is told.
        Tell = "tell",
    }
}

words! {
    /// A check of preflight that may be switched off.
    PreflightCheck {
        /// Roles that files name exist, and we may become them.
        Owners = "owners",
        /// What files change belongs to the role that they run as.
        Ownership = "ownership",
        /// Extensions that are needed can be had.
        Extensions = "extensions",
        /// Nobody has been in a transaction for long.
        LongTransactions = "long_transactions",
        /// Nobody sits idle in a transaction.
        IdleInTransaction = "idle_in_transaction",
        /// Nobody waits for a lock.
        BlockingLocks = "blocking_locks",
        /// No prepared transaction holds what files need.
        PreparedTransactions = "prepared_transactions",
        /// No autovacuum that will not make way.
        Autovacuum = "autovacuum",
        /// No backup is being taken.
        Backups = "backups",
        /// There is room for connections.
        Connections = "connections",
        /// Standbys keep up.
        Replication = "replication",
        /// Replication slots keep up.
        Slots = "slots",
        /// WAL is archived.
        Archiver = "archiver",
        /// There is room on the disk.
        Disk = "disk",
        /// No invalid index on what files change.
        Indexes = "indexes",
        /// What files validate can be validated.
        Constraints = "constraints",
        /// No row without the row that it refers to.
        Orphans = "orphans",
        /// The schema is what the last run left.
        Drift = "drift",
        /// What somebody wrote down as required is there.
        Required = "required",
        /// No row leads nowhere by a relation without a foreign key.
        Relations = "relations",
        /// What a run does to queries can be seen.
        Monitoring = "monitoring",
        /// The server is of staging's major version.
        Version = "version",
        /// There is a fresh backup that was verified.
        Backup = "backup",
        /// Commands of the operator end well.
        Commands = "commands",
    }
}
