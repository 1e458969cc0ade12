//! A raw protocol peer: sends any bytes, and reads one message at a time.
//!
//! It serves as a client, and as a scripted server (messages after startup look alike both ways).
//! Every wait has a deadline, and every panic shows what came instead.

use std::collections::HashMap;
use std::net::SocketAddr;

use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::net::{TcpSocket, TcpStream};

use super::message::{self, Message};
use super::poll::{SOON, within};

/// No message of a test is longer; a longer length is a broken stream.
const LONGEST: u32 = 256 << 20;

/// One end of a connection.
#[derive(Debug)]
pub(crate) struct Wire<S = TcpStream> {
    stream: S,
    /// The messages of a successful login, up to and including ReadyForQuery.
    pub(crate) greeting: Vec<Message>,
}

impl Wire<TcpStream> {
    /// Connects and sends nothing.
    pub(crate) async fn connect(addr: SocketAddr) -> Self {
        let stream = within("a TCP connection", SOON, TcpStream::connect(addr)).await;
        let stream = stream.expect("the address accepts");
        stream
            .set_nodelay(true)
            .expect("a connected socket takes options");
        Self::new(stream)
    }

    /// A session that is ready for its first statement, without a password.
    pub(crate) async fn login(addr: SocketAddr, user: &str, database: &str) -> Self {
        let parameters = [("user", user), ("database", database)];
        match Self::login_with(addr, &parameters, None).await {
            Ok(wire) => wire,
            Err(error) => panic!("login refused: {error:?}"),
        }
    }

    /// A session with any startup parameters; the server's ErrorResponse if it refuses.
    pub(crate) async fn login_with(
        addr: SocketAddr,
        parameters: &[(&str, &str)],
        password: Option<&str>,
    ) -> Result<Self, Message> {
        let mut wire = Self::connect(addr).await;
        wire.log_in(parameters, password).await?;
        Ok(wire)
    }

    /// Connects from another address of this machine (all of 127.0.0.0/8 is), and sends nothing.
    pub(crate) async fn connect_from(from: [u8; 4], addr: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        let from = SocketAddr::from((from, 0));
        socket.bind(from).expect("an address of loopback");
        let stream = within("a TCP connection", SOON, socket.connect(addr)).await;
        let stream = stream.expect("the address accepts");
        stream
            .set_nodelay(true)
            .expect("a connected socket takes options");
        Self::new(stream)
    }

    /// Asks on a connection of its own to cancel what the session with this key runs, and returns
    /// once the peer has closed that connection.
    pub(crate) async fn cancel(addr: SocketAddr, (pid, secret): (u32, Vec<u8>)) {
        let mut wire = Self::connect(addr).await;
        wire.send(&message::cancel_request(pid, &secret)).await;
        let rest = wire.read_to_end().await;
        assert!(
            rest.is_empty(),
            "a cancel request is not answered, but: {rest:?}"
        );
    }

    /// Whether this is who we are connected to.
    pub(crate) fn peer_is(&self, addr: SocketAddr) -> bool {
        self.stream.peer_addr().is_ok_and(|peer| peer == addr)
    }
}

impl Wire<DuplexStream> {
    /// Two ends in memory: a stream for the code under test, and its peer.
    pub(crate) fn pair() -> (DuplexStream, Self) {
        let (ours, theirs) = tokio::io::duplex(64 << 10);
        (theirs, Self::new(ours))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    /// A peer on a stream that is connected.
    pub(crate) fn new(stream: S) -> Self {
        Self {
            stream,
            greeting: Vec::new(),
        }
    }

    /// Logs in on a connection on which nothing was said yet; the ErrorResponse if it is refused.
    pub(crate) async fn log_in(
        &mut self,
        parameters: &[(&str, &str)],
        password: Option<&str>,
    ) -> Result<(), Message> {
        self.send(&message::startup(parameters)).await;
        let user = parameters
            .iter()
            .find(|(name, _)| *name == "user")
            .map_or("", |(_, user)| user);
        self.authenticate(user, password).await
    }

    /// The socket itself, for tests of how connections end.
    pub(crate) fn into_stream(self) -> S {
        self.stream
    }

    /// Sends bytes as they are.
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes)
            .await
            .expect("the peer takes what we send");
    }

    /// Sends bytes to a peer that may refuse them by closing.
    pub(crate) async fn try_send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        within("the peer to take our bytes", SOON, async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        })
        .await
    }

    /// Closes our direction only.
    pub(crate) async fn close_write(&mut self) {
        // A peer that has closed already is fine.
        drop(self.stream.shutdown().await);
    }

    /// The next message, `None` when the peer has closed (also by a reset).
    ///
    /// Not cancel safe: a message that is read half is lost when the future is dropped.
    pub(crate) async fn try_read(&mut self) -> Option<Message> {
        within("a message", SOON, self.next()).await
    }

    /// Like [`Wire::try_read`], but for an idle peer: waits for ever.
    pub(crate) async fn next(&mut self) -> Option<Message> {
        let tag = self.stream.read_u8().await.ok()?;
        let length = self.stream.read_u32().await.ok()?;
        assert!(
            (4..LONGEST).contains(&length),
            "length {length} after type {tag}"
        );
        let mut body = vec![0; length as usize - 4];
        self.stream.read_exact(&mut body).await.ok()?;
        Some(Message { tag, body })
    }

    /// A packet of the startup phase, without its length; waits for ever.
    pub(crate) async fn next_startup(&mut self) -> Option<Vec<u8>> {
        let length = self.stream.read_u32().await.ok()?;
        assert!(
            (8..10_000).contains(&length),
            "startup packet of {length} bytes"
        );
        let mut body = vec![0; length as usize - 4];
        self.stream.read_exact(&mut body).await.ok()?;
        Some(body)
    }

    /// The next message.
    pub(crate) async fn read(&mut self) -> Message {
        self.try_read()
            .await
            .expect("a message, but the connection was closed")
    }

    /// The next message, which has to be of this type.
    pub(crate) async fn expect(&mut self, tag: u8) -> Message {
        let message = self.read().await;
        assert_eq!(char::from(message.tag), char::from(tag), "got {message:?}");
        message
    }

    /// The next bytes, which have to be these.
    pub(crate) async fn expect_bytes(&mut self, bytes: &[u8]) {
        let mut found = vec![0; bytes.len()];
        let read = within("bytes", SOON, self.stream.read_exact(&mut found)).await;
        read.unwrap_or_else(|error| panic!("no \"{}\": {error}", bytes.escape_ascii()));
        assert_eq!(
            found.escape_ascii().to_string(),
            bytes.escape_ascii().to_string()
        );
    }

    /// All messages up to and including ReadyForQuery.
    pub(crate) async fn read_until_ready(&mut self) -> Vec<Message> {
        let mut messages = Vec::new();
        loop {
            match self.try_read().await {
                Some(message) => messages.push(message),
                None => panic!("the connection was closed after {messages:?}"),
            }
            if messages.last().is_some_and(|message| message.tag == b'Z') {
                return messages;
            }
        }
    }

    /// Sends bytes in one write and returns the answers up to so many ReadyForQuery.
    pub(crate) async fn units(&mut self, bytes: &[u8], count: usize) -> Vec<Message> {
        self.send(bytes).await;
        let mut messages = Vec::new();
        for _ in 0..count {
            messages.extend(self.read_until_ready().await);
        }
        messages
    }

    /// Sends bytes in one write and returns the answer up to the first message of this type.
    pub(crate) async fn up_to(&mut self, tag: u8, bytes: &[u8]) -> Vec<Message> {
        self.send(bytes).await;
        let mut messages = Vec::new();
        while messages.last().is_none_or(|last: &Message| last.tag != tag) {
            messages.push(self.read().await);
        }
        messages
    }

    /// All messages of a login: up to ReadyForQuery, or until the peer closes.
    pub(crate) async fn read_login(&mut self) -> Vec<Message> {
        let mut messages: Vec<Message> = Vec::new();
        while messages.last().is_none_or(|message| message.tag != b'Z') {
            match self.try_read().await {
                Some(message) => messages.push(message),
                None => break,
            }
        }
        messages
    }

    /// All messages until the peer closes.
    pub(crate) async fn read_to_end(&mut self) -> Vec<Message> {
        let mut messages = Vec::new();
        while let Some(message) = self.try_read().await {
            messages.push(message);
        }
        messages
    }

    /// The next byte, `None` when the peer has closed.
    pub(crate) async fn try_read_byte(&mut self) -> Option<u8> {
        within("a byte", SOON, self.stream.read_u8()).await.ok()
    }

    /// Every byte until the peer closes, be it messages or not.
    pub(crate) async fn read_raw_to_end(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        // A reset is an end too.
        drop(
            within(
                "the peer to close",
                SOON,
                self.stream.read_to_end(&mut bytes),
            )
            .await,
        );
        bytes
    }

    /// Nothing has come. For after another sign that the peer has done its work; it waits for none.
    pub(crate) async fn assert_silent(&mut self) {
        tokio::task::yield_now().await;
        let read = tokio::time::timeout(std::time::Duration::ZERO, self.stream.read_u8()).await;
        assert!(read.is_err(), "silence was expected, but got {read:?}");
    }

    /// Sends a simple query and returns its answer up to and including ReadyForQuery.
    pub(crate) async fn query(&mut self, sql: &str) -> Vec<Message> {
        self.send(&message::query(sql)).await;
        self.read_until_ready().await
    }

    /// The first column of the first row of a simple query.
    pub(crate) async fn query_one(&mut self, sql: &str) -> String {
        let answer = self.query(sql).await;
        let row = answer.iter().find(|message| message.tag == b'D');
        let row = row.unwrap_or_else(|| panic!("{sql}: no row in {answer:?}"));
        row.columns()
            .swap_remove(0)
            .unwrap_or_else(|| panic!("{sql}: NULL"))
    }

    /// Sends a simple query that has to succeed.
    pub(crate) async fn execute(&mut self, sql: &str) {
        let answer = self.query(sql).await;
        let error = answer.iter().find(|message| message.tag == b'E');
        assert!(error.is_none(), "{sql}: {error:?}");
    }

    /// Process id and secret of this session, as the peer told them.
    pub(crate) fn key(&self) -> (u32, Vec<u8>) {
        let key = self.greeting.iter().find(|message| message.tag == b'K');
        let (pid, secret) = key
            .expect("a session after login")
            .body
            .split_first_chunk()
            .expect("a process id");
        (u32::from_be_bytes(*pid), secret.to_vec())
    }

    /// The last value reported for each parameter during login.
    pub(crate) fn parameters(&self) -> HashMap<String, String> {
        let reports = self.greeting.iter().filter(|message| message.tag == b'S');
        reports
            .map(|message| {
                let text = String::from_utf8_lossy(&message.body).into_owned();
                let (name, value) = text.split_once('\0').expect("a name and a value");
                (name.to_owned(), value.trim_end_matches('\0').to_owned())
            })
            .collect()
    }

    /// Answers what the server asks for until it is ready; everything it sent is in `greeting`.
    pub(crate) async fn authenticate(
        &mut self,
        user: &str,
        password: Option<&str>,
    ) -> Result<(), Message> {
        let secret = password.unwrap_or_default();
        let mut scram = ScramSha256::new(secret.as_bytes(), ChannelBinding::unsupported());
        loop {
            let message = self.read().await;
            self.greeting.push(message.clone());
            match message.tag {
                b'E' => return Err(message),
                b'Z' => return Ok(()),
                b'R' => self.answer(&message.body, user, secret, &mut scram).await,
                _ => {}
            }
        }
    }

    async fn answer(&mut self, body: &[u8], user: &str, secret: &str, scram: &mut ScramSha256) {
        let (kind, data) = body.split_first_chunk().expect("a kind of authentication");
        let plain = |text: &str| [text.as_bytes(), &[0]].concat();
        let answer = match u32::from_be_bytes(*kind) {
            0 => return,
            3 => plain(secret),
            5 => {
                let salt = data.try_into().expect("a salt of four bytes");
                plain(&md5_hash(user.as_bytes(), secret.as_bytes(), salt))
            }
            10 => {
                let first = scram.message();
                let length = u32::try_from(first.len()).expect("a short message");
                [
                    plain("SCRAM-SHA-256").as_slice(),
                    &length.to_be_bytes(),
                    first,
                ]
                .concat()
            }
            11 => {
                scram.update(data).expect("a good server-first message");
                scram.message().to_vec()
            }
            12 => {
                return scram
                    .finish(data)
                    .expect("a server that knows the password");
            }
            other => panic!("authentication {other} is not supported here"),
        };
        self.send(&message::password(&answer)).await;
    }
}
