//! Every error of ours to a client: SQLSTATE, message, detail and hint.
//!
//! A text that crosses the wire is an interface. It says whether the statement was executed and
//! whether the connection lives on, names nothing secret, and is plain ASCII, so that it reads the
//! same in every client encoding.

use bytes::BytesMut;
use pgwire::error::ErrorInfo;
use pgwire::messages::Message;
use pgwire::messages::response::{ErrorResponse, NoticeResponse};

use super::backend::error_field;
use super::startup::BadPacket;

pub use super::sqlstate::{BadSqlstate, Sqlstate};

/// The `NoticeResponse` to a client that has waited for a while, once for each wait. Some drivers
/// print it.
#[must_use]
pub fn notice_held(waited: std::time::Duration) -> BytesMut {
    let severity = "NOTICE";
    let message = format!(
        "traffic is held for maintenance; the statement has waited for {} s",
        waited.as_secs()
    );
    let mut info = ErrorInfo::new(severity.into(), "00000".into(), message);
    info.severity_nonlocalized = Some(severity.into());
    info.detail = Some("It goes on by itself when traffic is reopened.".into());
    let mut notice = BytesMut::new();
    NoticeResponse::from(info)
        .encode(&mut notice)
        .expect("texts of ours are short");
    notice
}

/// What the console says about a command, or to whom it closes.
#[derive(Debug, Clone, Copy)]
pub struct Said<'a> {
    /// `FATAL`, `ERROR`, `WARNING` or `NOTICE`.
    pub severity: &'static str,
    /// The SQLSTATE.
    pub sqlstate: &'a str,
    /// What is the case.
    pub message: &'a str,
    /// More about it.
    pub detail: Option<&'a str>,
    /// What to do.
    pub hint: Option<&'a str>,
}

impl Said<'_> {
    /// The whole message: an `ErrorResponse`, or a `NoticeResponse` where it is no error. It speaks to
    /// operators in UTF-8, as its `client_encoding` says; a zero would end a field and becomes a blank.
    #[must_use]
    pub fn encode(&self) -> BytesMut {
        let text = |text: &str| text.replace('\0', " ");
        let (severity, sqlstate) = (self.severity.to_owned(), text(self.sqlstate));
        let mut info = ErrorInfo::new(severity.clone(), sqlstate, text(self.message));
        info.severity_nonlocalized = Some(severity);
        info.detail = self.detail.map(text);
        info.hint = self.hint.map(text);
        let mut message = BytesMut::new();
        let encoded = match self.severity {
            "NOTICE" | "WARNING" => NoticeResponse::from(info).encode(&mut message),
            _ => ErrorResponse::from(info).encode(&mut message),
        };
        encoded.expect("texts of ours are short");
        message
    }
}

/// Why a client is refused. `ERROR`s leave the connection usable, `FATAL`s end it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The statement waited at the gate until its deadline.
    HoldExpired,
    /// The hold rejects instead of queueing, with this SQLSTATE if one was asked for.
    HoldRejects(Option<Sqlstate>),
    /// As many clients wait as may.
    TooManyHeld,
    /// It waited longest when one more came than may wait.
    HeldEvicted,
    /// The client cancelled a statement that was still held.
    HeldCancelled,
    /// Traffic is read-only, and writes are refused: what kind of statement it is.
    WriteRejected(&'static str),
    /// The transaction had begun to read while traffic was read-only, and then wrote.
    LateWrite,
    /// The client began the transaction as read-only, and then wrote.
    WriteInReadOnly,
    /// The transaction sat idle, and was aborted in place by a drain or an operator.
    AbortedInPlace,
    /// The same as the server says of each further statement of a failed transaction.
    InFailedTransaction,
    /// The transaction was to be aborted in place, and the server did not do as it was told.
    AbortFailed,
    /// Read-only mode has ended, and the server did not do as it was told.
    ReadOnlyStays,
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
    /// An operator has ended the session.
    Terminated,
    /// As many connections are open as may.
    TooManyConnections,
    /// As many connections are open to this database as may.
    TooManyInDatabase(String),
    /// As many connections are open of this user as may.
    TooManyOfUser(String),
    /// As many connections are open from this address as may.
    TooManyFromAddress,
    /// As many consoles are open as may, and each of them waits for what it asked for.
    ConsoleFull,
    /// The database was closed to new sessions for as long as a login may wait.
    Fenced,
    /// The server is full because of our fence, which this connection has to get past.
    FencedOut,
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
    /// The client's first packet is not one that a server takes.
    BadPacket(BadPacket),
    /// The client broke the protocol; the text says how.
    Protocol(String),
    /// The server broke the protocol, or is not one.
    ServerProtocol,
    /// The client shows the key of a window, and it is not one that lets it in now and here.
    WindowKey,
    /// The window through which the session went has ended.
    WindowEnded,
    /// The client has not shown us who it is.
    NotProved(NotProved),
    /// We cannot show the server who the client is.
    NotPassedOn(NotPassedOn),
}

/// Why a client was not let in by us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotProved {
    /// The password is wrong, or there is no such user: nobody is told which.
    Password(String),
    /// The client's certificate is not this user's.
    Certificate(String),
    /// A message of SCRAM is none; the detail says why.
    ScramMessage(&'static str),
    /// The client's last message of SCRAM belongs to another exchange.
    ScramNonce,
    /// The client wants a part of SCRAM that Postgres does not have either.
    ScramUnsupported(&'static str),
    /// The client did not see that SCRAM-SHA-256-PLUS was offered.
    BindingDowngrade,
    /// The client is bound to another certificate than ours.
    BindingMismatch,
    /// No rule speaks of the client.
    NoRule(Origin),
    /// A rule turns the client away.
    RuleRejects(Origin),
    /// The client's secret could not be asked for.
    LookupFailed,
    /// It wants the console from another machine, and nobody is listed who may.
    ConsoleUnlisted,
}

/// Why the server could not be told who a client is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotPassedOn {
    /// The client could bind a channel that ends here and not in the server.
    Binding,
    /// The server's verifier is not the one that we checked the client against.
    VerifierDiffers,
    /// The server asks for a proof that we cannot give; the text says which.
    NoCredential(&'static str),
    /// The server asks for more iterations of SCRAM than anybody should wait for.
    Iterations,
    /// The server did not show that it knows the password.
    ServerNotProved,
}

impl From<NotProved> for Refusal {
    fn from(why: NotProved) -> Refusal {
        Refusal::NotProved(why)
    }
}

impl From<NotPassedOn> for Refusal {
    fn from(why: NotPassedOn) -> Refusal {
        Refusal::NotPassedOn(why)
    }
}

/// Where a client comes from and what it wants, as the texts of rules tell it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// Its address; `[local]` for a Unix socket.
    pub host: String,
    /// The user it names.
    pub user: String,
    /// The database it names.
    pub database: String,
    /// Whether its connection is encrypted.
    pub tls: bool,
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Origin {
            host,
            user,
            database,
            tls,
        } = self;
        let tls = if *tls {
            "SSL encryption"
        } else {
            "no encryption"
        };
        let (user, database) = (plain(user), plain(database));
        write!(
            f,
            "host \"{host}\", user \"{user}\", database \"{database}\", {tls}"
        )
    }
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
        let mut info = ErrorInfo::new(
            text.severity.into(),
            text.sqlstate.to_string(),
            text.message,
        );
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
            Self::HoldRejects(sqlstate) => {
                let mut text = error("55P03", "traffic is closed for maintenance")
                    .detail(NOT_EXECUTED)
                    .hint("The connection is intact: run the transaction again later.");
                text.sqlstate = sqlstate.unwrap_or(text.sqlstate);
                text
            }
            Self::HeldEvicted => error("53300", "too many clients came to wait after this one")
                .detail("The statement had waited longest and was not executed.")
                .hint("The connection is intact: run the transaction again later."),
            Self::TooManyHeld => error("53300", "too many clients are waiting already")
                .detail(NOT_EXECUTED)
                .hint("The connection is intact: run the transaction again later."),
            Self::HeldCancelled => {
                error("57014", "canceling statement due to user request").detail(NOT_EXECUTED)
            }
            Self::WriteRejected(what) => error("25006", "traffic is read-only for maintenance")
                .detail(what)
                .hint("The connection is intact: run the transaction again later."),
            Self::LateWrite => error(
                "40001",
                "could not write in a transaction that began while traffic was read-only",
            )
            .detail("Traffic is read-only for maintenance. The statement was not executed.")
            .hint(
                "Nothing of the transaction was committed: run the whole transaction again. It \
                 waits until it may write.",
            ),
            Self::WriteInReadOnly => {
                error("25006", "cannot write in a read-only transaction").detail(NOT_EXECUTED)
            }
            Self::AbortedInPlace => error("40001", "the transaction was aborted for maintenance")
                .detail("It sat idle, and was in the way of maintenance.")
                .hint("Nothing of it was committed: run the whole transaction again."),
            Self::InFailedTransaction => error(
                "25P02",
                "current transaction is aborted, commands ignored until end of transaction block",
            ),
            Self::AbortFailed => fatal("57P01", "the transaction was aborted for maintenance")
                .detail("It sat idle, and was in the way of maintenance.")
                .hint("Nothing of it was committed: connect and run the whole transaction again."),
            Self::ReadOnlyStays => fatal(
                "57P01",
                "the connection could not be taken out of read-only mode",
            )
            .detail(NOT_EXECUTED)
            .hint("Connect again: nothing is lost."),
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
            Self::Terminated => fatal(
                "57P01",
                "terminating connection due to administrator command",
            )
            .detail("What it ran is rolled back, unless its end had been sent to the server."),
            Self::TooManyConnections => fatal("53300", "sorry, too many clients already"),
            Self::Fenced => fatal(
                "57P03",
                "the database is closed to new sessions for maintenance",
            )
            .detail("The login waited for its full time and was not sent to the server.")
            .hint("Connect again later."),
            Self::FencedOut => fatal(
                "53300",
                "the database is closed to new sessions for maintenance",
            )
            .detail(
                "The window has a fence (CONNECTION LIMIT 0): the server lets superusers in alone, \
                 and this connection's role is none.",
            )
            .hint("Go through the window as a superuser, or open it without a fence."),
            Self::ConsoleFull => fatal("53300", "too many consoles are open already")
                .hint("console.connections says how many may be."),
            Self::TooManyInDatabase(name) => {
                named(fatal("53300", "too many connections for database"), name)
            }
            Self::TooManyOfUser(name) => {
                named(fatal("53300", "too many connections for role"), name)
            }
            Self::TooManyFromAddress => fatal("53300", "too many connections from this address"),
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
            Self::BadPacket(bad) => {
                let sqlstate = match bad {
                    BadPacket::Version(..) => "0A000",
                    BadPacket::NoUser => "28000",
                    BadPacket::Length | BadPacket::Layout => "08P01",
                };
                fatal(sqlstate, &bad.to_string())
            }
            Self::Protocol(what) => fatal("08P01", what),
            Self::ServerProtocol => fatal("08P01", "the server did not answer as Postgres does"),
            Self::WindowKey => fatal(
                "28000",
                "the maintenance window does not let this connection in",
            )
            .detail(
                "The window is not exclusive now, or its key is wrong, used up, or for another \
                     database.",
            ),
            Self::WindowEnded => fatal("57P01", "the maintenance window has ended").detail(
                "A transaction that was open is rolled back, unless its end had been sent to the \
                 server.",
            ),
            Self::NotProved(why) => why.text(),
            Self::NotPassedOn(why) => why.text(),
        }
    }
}

impl NotProved {
    /// What Postgres has a text for is said in its words.
    fn text(&self) -> Text {
        match self {
            Self::Password(user) => named(
                fatal("28P01", "password authentication failed for user"),
                user,
            ),
            Self::Certificate(user) => named(
                fatal("28000", "certificate authentication failed for user"),
                user,
            ),
            Self::ScramMessage(detail) => fatal("08P01", "malformed SCRAM message").detail(detail),
            Self::ScramNonce => {
                fatal("08P01", "invalid SCRAM response").detail("Nonce does not match.")
            }
            Self::ScramUnsupported(text) => fatal("0A000", text),
            Self::BindingDowngrade => fatal("28000", "SCRAM channel binding negotiation error")
                .detail(
                    "The client supports SCRAM channel binding but thinks the server does not. \
                     However, this server does support channel binding.",
                ),
            Self::BindingMismatch => fatal("28000", "SCRAM channel binding check failed"),
            Self::NoRule(origin) => {
                fatal("28000", &format!("no rule of the proxy is for {origin}"))
            }
            Self::RuleRejects(origin) => fatal(
                "28000",
                &format!("a rule of the proxy rejects connection for {origin}"),
            ),
            Self::LookupFailed => fatal("08006", "the proxy cannot check passwords at the moment")
                .hint("The connection was refused before it began; try again."),
            Self::ConsoleUnlisted => fatal(
                "28000",
                "the console of the proxy lets only clients of its own machine in",
            )
            .hint("[console.users] lists users, who may come from elsewhere by a password."),
        }
    }
}

impl NotPassedOn {
    fn text(self) -> Text {
        match self {
            Self::Binding => fatal(
                "28000",
                "channel binding cannot be passed through the proxy",
            )
            .detail(
                "Both connections are encrypted, and the client can bind its password to \
                         the certificate it sees, which is the proxy's and not the server's.",
            )
            .hint(
                "Let the proxy check the password: [[auth.rules]] method = \
                         \"scram-sha-256\". Or connect with channel_binding=disable.",
            ),
            Self::VerifierDiffers => fatal(
                "28000",
                "the proxy cannot log in to the server with the client's password",
            )
            .detail(
                "The password was right, but the verifier that the proxy checked it against has \
                 another salt or iteration count than the server's.",
            )
            .hint(
                "Copy rolpassword of the server's pg_authid into auth.users_file, or put the \
                 password into auth.server_passfile.",
            ),
            Self::NoCredential(detail) => fatal(
                "28000",
                "the proxy cannot prove to the server who the client is",
            )
            .detail(detail)
            .hint("Put the password into auth.server_passfile."),
            Self::Iterations => fatal(
                "28000",
                "the server asks for an impossible number of SCRAM iterations",
            ),
            Self::ServerNotProved => fatal(
                "28000",
                "the server did not prove that it knows the password",
            )
            .detail("It may be another server that pretends to be it."),
        }
    }
}

/// Whether the body of a server's `ErrorResponse` says that no more connections are let in.
#[must_use]
pub fn says_full(body: &[u8]) -> bool {
    error_field(body, b'C') == Some(b"53300")
}

/// Whether the body of a server's `ErrorResponse` says that a read-only transaction wrote. The session goes
/// on behind it.
#[must_use]
pub fn says_read_only(body: &[u8]) -> bool {
    error_field(body, b'C') == Some(b"25006") && error_field(body, b'V') == Some(b"ERROR")
}

/// Whether a server's error says that it takes no connections yet (`cannot_connect_now`).
#[must_use]
pub fn says_starting(body: &[u8]) -> bool {
    error_field(body, b'C') == Some(b"57P03")
}

fn error(sqlstate: &'static str, message: &str) -> Text {
    let message = message.to_owned();
    Text {
        severity: "ERROR",
        sqlstate: Sqlstate::of(sqlstate),
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

/// Adds a name in quotes, as the server does. Whoever reads it sent it, in an encoding that nobody
/// knows yet.
fn named(mut text: Text, name: &str) -> Text {
    text.message.extend([" \"", &plain(name), "\""]);
    text
}

fn plain(name: &str) -> String {
    let plain = |c: char| {
        if c.is_ascii() && !c.is_ascii_control() {
            c
        } else {
            '?'
        }
    };
    name.chars().map(plain).collect()
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
    fn a_name_is_shown_in_plain_ascii() {
        let refusal = Refusal::TooManyInDatabase("caf\u{e9}\n\"x".into());
        let text = String::from_utf8_lossy(&refusal.encode()).into_owned();
        assert!(
            text.contains("Mtoo many connections for database \"caf??\"x\"\0"),
            "{text:?}"
        );
    }

    #[test]
    fn a_wrong_password_is_told_in_the_servers_words() {
        let message = Refusal::from(NotProved::Password("anna".into())).encode();
        let text = String::from_utf8_lossy(&message);
        let expected =
            "SFATAL\0VFATAL\0C28P01\0Mpassword authentication failed for user \"anna\"\0";
        assert!(text[5..].starts_with(expected), "{text}");
    }

    #[test]
    fn the_length_word_counts_the_message() {
        let message = Refusal::Protocol("bad".into()).encode();
        let length = u32::from_be_bytes([message[1], message[2], message[3], message[4]]);
        assert_eq!(length as usize + 1, message.len());
    }
}
