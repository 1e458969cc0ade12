//! One visitor from its greeting to its end.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use jiff::Timestamp;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use super::act::{self, Done, Who};
use super::command::{self, Command};
use super::complaint::Complaint;
use super::desk::{Desk, Place};
use super::orders::Order;
use super::parameters::Parameters;
use super::prepared::Prepared;
use super::reader::{Broken, Reader};
use super::value::{Column, Formats, Row, int, text, write_row};
use crate::admin::api::Api;
use crate::session::console::{Handle, Visitor};
use crate::tls::stream::Stream;
use crate::wire::asked;
use crate::wire::backend::{
    authentication_request, backend_key_data, command_complete, ready_for_query, request,
};
use crate::wire::frontend::tag;
use crate::wire::refusal::{Refusal, Said};
use crate::wire::rows::{EMPTY_QUERY, row_description};

/// How long somebody who is closed may take to hear why.
const FAREWELL: Duration = Duration::from_secs(1);

/// How much is gathered before it is sent.
const OUT_MAX: usize = 64 << 10;

/// Why a conversation is over.
pub(super) enum End {
    /// The client has left.
    Left,
    /// The connection broke.
    Lost(io::Error),
    /// We close, and say this.
    Closed(BytesMut),
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> End {
        End::Lost(error)
    }
}

/// Where a visitor stands with transactions, which it may begin and which change nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Block {
    None,
    Begun,
    Failed,
}

/// See the module.
pub(super) struct Talk<A> {
    pub(super) desk: Arc<Desk<A>>,
    stream: Stream,
    reader: Reader,
    pub(super) out: BytesMut,
    handle: Handle,
    who: Arc<Who>,
    parameters: Parameters,
    pub(super) prepared: Prepared,
    pub(super) block: Block,
    /// After an error in a batch, until its `Sync`.
    pub(super) skipping: bool,
}

impl<A: Api> Talk<A> {
    pub(super) fn begin(visitor: Visitor, desk: &Arc<Desk<A>>) -> Talk<A> {
        let admin = &desk.config.load().admin;
        Talk {
            desk: Arc::clone(desk),
            who: Arc::new(Who::of(&visitor, admin)),
            parameters: Parameters::of(&visitor.startup),
            stream: visitor.stream,
            reader: Reader::new(visitor.behind),
            out: BytesMut::new(),
            handle: visitor.handle,
            prepared: Prepared::default(),
            block: Block::None,
            skipping: false,
        }
    }

    pub(super) async fn serve(mut self) {
        let who = Arc::clone(&self.who);
        let most = self.desk.config.load().console.connections;
        let end = match self.desk.places.take(most, Instant::now()) {
            Some(place) => {
                tracing::debug!(%who, "console opened");
                match self.converse(&place).await {
                    Ok(never) => match never {},
                    Err(end) => end,
                }
            }
            None => End::Closed(Refusal::ConsoleFull.encode()),
        };
        match end {
            End::Left => tracing::debug!(%who, "console left"),
            End::Lost(error) => tracing::debug!(%who, %error, "console lost"),
            End::Closed(why) => {
                tracing::debug!(%who, "console closed");
                self.out.extend_from_slice(&why);
                let farewell = async {
                    self.stream.write_all(&self.out).await?;
                    self.stream.shutdown().await
                };
                // Who does not listen is not waited for.
                let _ = timeout(FAREWELL, farewell).await;
            }
        }
    }

    async fn converse(&mut self, place: &Place) -> Result<std::convert::Infallible, End> {
        self.greet();
        loop {
            let (tag, body) = self.next(place).await?;
            match tag {
                tag::TERMINATE => return Err(End::Left),
                tag::QUERY => self.query(&body, place).await?,
                tag::SYNC => self.sync(),
                _ if self.skipping => {}
                tag::PARSE => self.parse(&body)?,
                tag::BIND => self.bind(&body)?,
                tag::DESCRIBE => self.describe(&body)?,
                tag::EXECUTE => self.execute(&body, place).await?,
                tag::CLOSE => self.close(&body)?,
                tag::FLUSH => {}
                // What is left of a COPY that was never begun is passed over, as the server does.
                tag::COPY_DATA | tag::COPY_DONE | tag::COPY_FAIL => {}
                tag::FUNCTION_CALL => {
                    self.complain(&Complaint::unsupported("the console has no functions"));
                    self.ready();
                }
                other => return Err(protocol(format!("invalid frontend message type {other}"))),
            }
        }
    }

    fn greet(&mut self) {
        self.out
            .extend_from_slice(&authentication_request(request::OK, &[]));
        self.parameters.tell(&mut self.out);
        let key = backend_key_data(&self.handle.key);
        self.out.extend_from_slice(&key);
        self.ready();
    }

    pub(super) fn ready(&mut self) {
        let status = match self.block {
            Block::None => b'I',
            Block::Begun => b'T',
            Block::Failed => b'E',
        };
        self.out.extend_from_slice(&ready_for_query(status));
    }

    /// The next message.
    async fn next(&mut self, place: &Place) -> Result<(u8, BytesMut), End> {
        let stop = self.desk.tasks.shutdown_token();
        loop {
            match self.reader.next() {
                Ok(Some(message)) => return Ok(message),
                // It may wait for the answers before it says more.
                Ok(None) => self.flush().await?,
                Err(Broken::Length) => return Err(protocol("invalid message length".to_owned())),
                Err(Broken::TooLong) => {
                    let text = "the message is longer than the console takes";
                    return Err(closed("54000", text, None));
                }
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return Err(stopping(None)),
                () = place.given_away.cancelled() => return Err(given_away()),
                read = self.reader.fill(&mut self.stream) => {
                    if !read? {
                        return Err(End::Left);
                    }
                }
            }
        }
    }

    /// Sends what was gathered. Who takes nothing does not keep the program from stopping.
    pub(super) async fn flush(&mut self) -> Result<(), End> {
        if self.out.is_empty() {
            return Ok(());
        }
        let stop = self.desk.tasks.shutdown_token();
        tokio::select! {
            biased;
            written = self.stream.write_all(&self.out) => written?,
            () = stop.cancelled() => return Err(End::Left),
        }
        self.stream.flush().await?;
        self.out.clear();
        Ok(())
    }

    pub(super) fn complain(&mut self, complaint: &Complaint) {
        self.out.extend_from_slice(&complaint.encode());
        if self.block == Block::Begun {
            self.block = Block::Failed;
        }
    }

    async fn query(&mut self, body: &[u8], place: &Place) -> Result<(), End> {
        let text = asked::query(body).ok_or_else(|| bad_message("Query"))?;
        self.skipping = false;
        self.prepared.end_unnamed();
        match utf8(text).and_then(command::read) {
            Err(complaint) => self.complain(&complaint),
            Ok(commands) if commands.is_empty() => self.out.extend_from_slice(&EMPTY_QUERY),
            Ok(commands) => {
                for command in commands {
                    match self.run(&command, place).await? {
                        Ok(done) => self.answer(&command, done).await?,
                        Err(complaint) => {
                            self.complain(&complaint);
                            break;
                        }
                    }
                }
            }
        }
        self.ready();
        Ok(())
    }

    /// A whole answer to a simple query.
    async fn answer(&mut self, command: &Command, done: Done) -> Result<(), End> {
        self.notices(&done);
        let columns = columns(command);
        if let Some(columns) = &columns {
            let fields = columns.iter().map(|column| column.field(false));
            row_description(&mut self.out, fields);
        }
        let columns = columns.unwrap_or_default();
        for row in &done.rows {
            self.row(&columns, row, &Formats::default()).await?;
        }
        self.out.extend_from_slice(&command_complete(command.tag()));
        Ok(())
    }

    pub(super) fn notices(&mut self, done: &Done) {
        for notice in &done.notices {
            self.out.extend_from_slice(&notice.encode());
        }
    }

    pub(super) async fn row(
        &mut self,
        columns: &[Column],
        row: &Row,
        formats: &Formats,
    ) -> Result<(), End> {
        write_row(&mut self.out, columns, row, formats);
        if self.out.len() > OUT_MAX {
            self.flush().await?;
        }
        Ok(())
    }

    /// Carries a command out.
    pub(super) async fn run(
        &mut self,
        command: &Command,
        place: &Place,
    ) -> Result<Result<Done, Complaint>, End> {
        if self.block == Block::Failed && !matches!(command, Command::Commit | Command::Rollback) {
            let text = "current transaction is aborted, commands ignored until end of transaction \
                        block";
            return Ok(Err(Complaint::new("25P02", text)));
        }
        if self.block == Block::Begun && command.acts() {
            let text = format!("{} cannot run inside a transaction block", command.tag());
            let complaint = Complaint::new("25001", text);
            return Ok(Err(complaint.hint(
                "No rollback would take it back. Use autocommit, or COMMIT first.",
            )));
        }
        if let Err(complaint) = self.who.may(command) {
            return Ok(Err(complaint));
        }
        let done = match command {
            Command::Begin => {
                self.block = Block::Begun;
                Done::default()
            }
            Command::Commit | Command::Rollback => {
                self.block = Block::None;
                self.prepared.end_portals();
                Done::default()
            }
            Command::Set { name, value } => {
                let set = self.parameters.set(name, value, &mut self.out);
                return Ok(set.map(|()| Done::default()));
            }
            Command::Parameter(name) => Done::row(vec![self.parameters.get(name).into()]),
            Command::Number(number) => Done::row(vec![(*number).into()]),
            Command::Nothing(_) => Done::default(),
            Command::Show { .. }
            | Command::Mode { .. }
            | Command::Drain { .. }
            | Command::Cap { .. }
            | Command::Order(_) => return self.attend(command, place).await,
        };
        Ok(Ok(done))
    }

    /// Has a command carried out and waits for it, as long as the client does: it may cancel, or vanish.
    /// What it began goes on by itself.
    async fn attend(
        &mut self,
        command: &Command,
        place: &Place,
    ) -> Result<Result<Done, Complaint>, End> {
        // A late request was for another statement.
        self.handle.cancels.mark_unchanged();
        self.flush().await?;
        place.idle_since(None);
        let began = Timestamp::now();
        let (desk, who) = (Arc::clone(&self.desk), Arc::clone(&self.who));
        let work = act::carry_out(desk, who, command.clone());
        let mut work = self.desk.tasks.spawn("console command", work);
        let stop = self.desk.tasks.shutdown_token();
        // Whoever asks for the end gets the answer: it comes at once.
        let asks_for_it = matches!(command, Command::Order(Order::Shutdown(_)));
        let done = loop {
            tokio::select! {
                biased;
                done = &mut work => break done,
                () = stop.cancelled(), if !asks_for_it => return Err(stopping(Some(command))),
                _ = self.handle.cancels.changed() => {
                    work.abort();
                    // It may have come to its end meanwhile.
                    break (&mut work).await;
                }
                read = self.reader.fill(&mut self.stream), if self.reader.has_room() => {
                    if !read? {
                        tracing::info!(who = %self.who, command = command.tag(), "console left while it waited");
                        return Err(End::Left);
                    }
                }
            }
        };
        let outcome = match done {
            Ok(outcome) => outcome,
            Err(error) if error.is_cancelled() => {
                Err(act::given_up(&self.desk, &self.who, command, began).await)
            }
            // The panic is in the log.
            Err(_panicked) => Err(Complaint::new("XX000", "the command failed; see the log")),
        };
        place.idle_since(Some(Instant::now()));
        Ok(outcome)
    }
}

/// The columns of a command's table; `None` for one without a table.
pub(super) fn columns(command: &Command) -> Option<Vec<Column>> {
    match command {
        Command::Show { what, .. } => Some(what.columns().to_vec()),
        Command::Parameter(name) => Some(vec![text(name)]),
        Command::Number(_) => Some(vec![int("?column?")]),
        Command::Mode { .. }
        | Command::Drain { .. }
        | Command::Cap { .. }
        | Command::Order(_)
        | Command::Set { .. }
        | Command::Nothing(_)
        | Command::Begin
        | Command::Commit
        | Command::Rollback => None,
    }
}

pub(super) fn utf8(text: &[u8]) -> Result<&str, Complaint> {
    std::str::from_utf8(text)
        .map_err(|_bad| Complaint::new("22021", "invalid byte sequence for encoding \"UTF8\""))
}

/// A message whose body is not one of its type.
pub(super) fn bad_message(what: &str) -> End {
    protocol(format!("invalid {what} message"))
}

fn protocol(text: String) -> End {
    End::Closed(Refusal::Protocol(text).encode())
}

fn closed(sqlstate: &str, message: &str, detail: Option<&str>) -> End {
    let said = Said {
        severity: "FATAL",
        sqlstate,
        message,
        detail,
        hint: None,
    };
    End::Closed(said.encode())
}

fn given_away() -> End {
    let text = "terminating connection: a newer console needed its place";
    closed("57P01", text, None)
}

/// The program stops, or another process has taken over.
fn stopping(waited: Option<&Command>) -> End {
    let text = "terminating connection: pgdrain is stopping or was taken over";
    let detail = waited.filter(|command| command.acts()).map(|command| {
        let tag = command.tag();
        format!("{tag} was not waited for to its end. Connect again and see SHOW HOLDS.")
    });
    closed("57P01", text, detail.as_deref())
}
