//! A recorder between the proxy and Postgres: what really went over that wire, in both directions.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::poll::{SOON, eventually};

/// Forwards every connection to a server and keeps a copy of all bytes.
pub(crate) struct Tap {
    addr: SocketAddr,
    recordings: Arc<Mutex<Vec<Recording>>>,
    _accepting: JoinSet<()>,
}

/// One connection, from its first byte.
#[derive(Debug, Clone, Default)]
pub(crate) struct Recording {
    /// What the server was sent.
    pub(crate) frontend: Vec<u8>,
    /// What the server sent.
    pub(crate) backend: Vec<u8>,
    /// Directions that have ended.
    ended: u8,
}

impl Tap {
    /// Listens on a free port of loopback, in front of `server`.
    pub(crate) async fn start(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a free port on loopback");
        let addr = listener.local_addr().expect("a listener has an address");
        let recordings = Arc::new(Mutex::new(Vec::new()));
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, server, Arc::clone(&recordings)));
        Self {
            addr,
            recordings,
            _accepting: accepting,
        }
    }

    /// Where it listens.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What the server was sent so far, by connection.
    pub(crate) fn heard(&self) -> Vec<Vec<u8>> {
        let recordings = self.recordings.lock().expect("not poisoned");
        let heard = recordings
            .iter()
            .map(|recording| recording.frontend.clone());
        heard.collect()
    }

    /// The connection in whose startup message `mark` occurs, once it has ended.
    pub(crate) async fn ended_connection(&self, mark: &str) -> Recording {
        eventually("the end of a recorded connection", SOON, async || {
            let recordings = self.recordings.lock().expect("not poisoned");
            recordings
                .iter()
                .find(|recording| recording.ended == 2 && recording.has(mark))
                .cloned()
        })
        .await
    }
}

impl Recording {
    /// What the client sent behind its startup message.
    pub(crate) fn after_startup(&self) -> &[u8] {
        let (length, _) = self
            .frontend
            .split_first_chunk()
            .expect("a startup message");
        &self.frontend[u32::from_be_bytes(*length) as usize..]
    }

    /// Only the startup message is searched: what follows may be long.
    fn has(&self, mark: &str) -> bool {
        let start = &self.frontend[..self.frontend.len().min(1000)];
        start
            .windows(mark.len())
            .any(|window| window == mark.as_bytes())
    }
}

async fn accept(listener: TcpListener, server: SocketAddr, recordings: Arc<Mutex<Vec<Recording>>>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let Ok(server) = TcpStream::connect(server).await else {
            continue;
        };
        let index = {
            let mut recordings = recordings.lock().expect("not poisoned");
            recordings.push(Recording::default());
            recordings.len() - 1
        };
        for stream in [&client, &server] {
            stream
                .set_nodelay(true)
                .expect("a connected socket takes options");
        }
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        let (one, two) = (Arc::clone(&recordings), Arc::clone(&recordings));
        connections.spawn(copy(from_client, to_server, move |bytes| {
            record(&one, index, bytes, |recording| &mut recording.frontend);
        }));
        connections.spawn(copy(from_server, to_client, move |bytes| {
            record(&two, index, bytes, |recording| &mut recording.backend);
        }));
    }
}

/// Notes bytes, or the end when there are none.
fn record(
    recordings: &Mutex<Vec<Recording>>,
    index: usize,
    bytes: &[u8],
    side: fn(&mut Recording) -> &mut Vec<u8>,
) {
    let recording = &mut recordings.lock().expect("not poisoned")[index];
    side(recording).extend(bytes);
    recording.ended += u8::from(bytes.is_empty());
}

/// Copies one direction to its end and passes the end on.
async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    note: impl Fn(&[u8]),
) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let length = from.read(&mut buffer).await.unwrap_or(0);
        note(&buffer[..length]);
        if length == 0 || to.write_all(&buffer[..length]).await.is_err() {
            break;
        }
    }
    drop(to.shutdown().await);
}
