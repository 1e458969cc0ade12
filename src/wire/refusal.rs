//! Every error of ours to a client: SQLSTATE, message, detail and hint.
//!
//! A text that crosses the wire is an interface. It says whether the statement was executed and
//! whether the connection lives on, names nothing secret, and is plain ASCII, so that it reads the
//! same in every client encoding.

use bytes::BytesMut;
use pgwire::error::ErrorInfo;
use pgwire::messages::Message;
use pgwire::messages::response::ErrorResponse;

/// A five-character SQLSTATE (Postgres documentation, appendix A).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sqlstate(pub &'static str);

/// Why a client is refused. `ERROR`s leave the connection usable, `FATAL`s end it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The statement waited at the gate until its deadline.
    HoldExpired,
    /// The hold rejects instead of queueing.
    HoldRejects,
    /// As many clients wait as may.
    TooManyHeld,
    /// The client cancelled a statement that was still held.
    HeldCancelled,
    /// The connection to the server was lost while the statement was held.
    ServerLost,
    /// A held statement cannot be answered alone, because the server has part of its message.
    HeldMidMessage,
    /// The proxy is stopping and the session was at a boundary.
    ShuttingDown,
    /// The proxy is stopping and the statement was still held.
    HeldShuttingDown,
    /// The proxy has stopped and the session was not at a boundary in time.
    CutOff,
    /// As many connections are open as may.
    TooManyConnections,
    /// No server could be reached.
    ServerUnreachable,
    /// The database is not one that the configuration lists.
    UnknownDatabase,
    /// The server let a remote client in without asking for proof.
    Unauthenticated,
    /// The client's connection is not encrypted, and has to be.
    EncryptionNeeded,
    /// The client showed no certificate, and has to.
    CertificateNeeded,
    /// Authentication was not finished in time.
    LoginTimeout,
    /// The client broke the protocol; the text says how.
    Protocol(String),
    /// The server broke the protocol, or is not one.
    ServerProtocol,
}

/// The fields of one error message.
struct Text {
    severity: &'static str,
    sqlstate: Sqlstate,
    message: String,
    detail: Option<&'static str>,
    hint: Option<&'static str>,
}

const NOT_EXECUTED: &str = "The statement was not executed.";

impl Refusal {
    /// The SQLSTATE that the client sees.
    #[must_use]
    pub fn sqlstate(&self) -> Sqlstate {
        self.text().sqlstate
    }

    /// Whether the connection ends with this refusal.
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        self.text().severity == "FATAL"
    }

    /// The whole `ErrorResponse` message.
    #[must_use]
    pub fn encode(&self) -> BytesMut {
        let text = self.text();
        let mut info = ErrorInfo::new(text.severity.into(), text.sqlstate.0.into(), text.message);
        info.severity_nonlocalized = Some(text.severity.into());
        info.detail = text.detail.map(Into::into);
        info.hint = text.hint.map(Into::into);
        let mut message = BytesMut::new();
        ErrorResponse::from(info)
            .encode(&mut message)
            .expect("texts of ours are short");
        message
    }

    fn text(&self) -> Text {
        match self {
            Self::HoldExpired => error("55P03", "traffic is held for maintenance")
                .detail("The statement waited for its full time and was not executed.")
                .hint("The connection is intact: run the transaction again later."),
            Self::HoldRejects => error("55P03", "traffic is closed for maintenance")
                .detail(NOT_EXECUTED)
                .hint("The connection is intact: run the transaction again later."),
            Self::TooManyHeld => error("53300", "too many clients are waiting already")
                .detail(NOT_EXECUTED)
                .hint("The connection is intact: run the transaction again later."),
            Self::HeldCancelled => {
                error("57014", "canceling statement due to user request").detail(NOT_EXECUTED)
            }
            Self::ServerLost => {
                fatal("57P01", "the connection to the server was lost").detail(NOT_EXECUTED)
            }
            Self::HeldMidMessage => fatal("57P01", "traffic is held for maintenance")
                .detail("The statement had been sent to the server in part and was not executed."),
            Self::ShuttingDown => fatal("57P01", "the proxy is shutting down")
                .detail("No statement of this session was left running."),
            Self::HeldShuttingDown => {
                fatal("57P01", "the proxy is shutting down").detail(NOT_EXECUTED)
            }
            Self::CutOff => fatal("57P01", "the proxy is shutting down").detail(
                "The transaction had not ended in time: it is rolled back, unless its end had been \
                 sent to the server.",
            ),
            Self::TooManyConnections => fatal("53300", "sorry, too many clients already"),
            Self::ServerUnreachable => fatal("57P03", "the database server cannot be reached")
                .hint("The connection was refused before it began; try again."),
            Self::UnknownDatabase => fatal("3D000", "the proxy does not serve this database"),
            Self::Unauthenticated => fatal("28000", "the server did not ask for proof of identity")
                .detail("The server trusts the address of the proxy, which is not the client's.")
                .hint("Let pg_hba.conf ask for a password, or set allow_unauthenticated = true."),
            Self::EncryptionNeeded => fatal("28000", "connections here must be encrypted")
                .hint("Connect with sslmode=require or more."),
            Self::CertificateNeeded => {
                fatal("28000", "connection requires a valid client certificate")
            }
            Self::LoginTimeout => fatal("08P01", "canceling authentication due to timeout"),
            Self::Protocol(what) => {
                let mut text = fatal("08P01", "");
                text.message = what.clone();
                text
            }
            Self::ServerProtocol => fatal("08P01", "the server did not answer as Postgres does"),
        }
    }
}

fn error(sqlstate: &'static str, message: &str) -> Text {
    let message = message.to_owned();
    Text {
        severity: "ERROR",
        sqlstate: Sqlstate(sqlstate),
        message,
        detail: None,
        hint: None,
    }
}

fn fatal(sqlstate: &'static str, message: &str) -> Text {
    Text {
        severity: "FATAL",
        ..error(sqlstate, message)
    }
}

impl Text {
    fn detail(mut self, detail: &'static str) -> Text {
        self.detail = Some(detail);
        self
    }

    fn hint(mut self, hint: &'static str) -> Text {
        self.hint = Some(hint);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expired_hold_says_that_nothing_was_executed_and_leaves_the_connection() {
        let message = Refusal::HoldExpired.encode();
        let text = String::from_utf8_lossy(&message);
        assert!(text.contains("SERROR\0") && text.contains("VERROR\0") && text.contains("C55P03"));
        assert!(text.contains("was not executed"));
        assert!(!Refusal::HoldExpired.is_fatal());
    }

    #[test]
    fn the_length_word_counts_the_message() {
        let message = Refusal::Protocol("bad".into()).encode();
        let length = u32::from_be_bytes([message[1], message[2], message[3], message[4]]);
        assert_eq!(length as usize + 1, message.len());
    }
}
