//! What a pooler looks like from here: a server behind it whose process ids it makes up.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Forwards every connection to a server, and tells clients process ids that are nobody's.
pub(crate) struct Pooler {
    addr: SocketAddr,
    _accepting: JoinSet<()>,
}

impl Pooler {
    /// In front of `server`.
    pub(crate) async fn start(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let addr = listener.local_addr().expect("a listener has an address");
        let mut accepting = JoinSet::new();
        accepting.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                connections.spawn(relay(client, server));
            }
        });
        Self {
            addr,
            _accepting: accepting,
        }
    }

    /// Where it listens.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }
}

async fn relay(client: TcpStream, server: SocketAddr) {
    let Ok(server) = TcpStream::connect(server).await else {
        return;
    };
    let (mut from_client, to_client) = client.into_split();
    let (from_server, mut to_server) = server.into_split();
    let up = async move {
        drop(copy(&mut from_client, &mut to_server).await);
        drop(to_server.shutdown().await);
    };
    tokio::join!(up, down(from_server, to_client));
}

/// The login message by message, with another process id in it, and the rest as it comes.
async fn down(mut server: OwnedReadHalf, mut client: OwnedWriteHalf) {
    let mut tag = 0;
    while tag != b'Z' {
        let mut header = [0; 5];
        if server.read_exact(&mut header[..1]).await.is_err() {
            return;
        }
        tag = header[0];
        // The answer to a request for encryption is this byte alone.
        if tag == b'N' {
            if client.write_all(b"N").await.is_err() {
                return;
            }
            continue;
        }
        if server.read_exact(&mut header[1..]).await.is_err() {
            return;
        }
        let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]);
        let mut body = vec![0; length as usize - 4];
        if server.read_exact(&mut body).await.is_err() {
            return;
        }
        if tag == b'K' {
            body[0] ^= 0x40;
        }
        let message = [&header[..], &body].concat();
        if client.write_all(&message).await.is_err() {
            return;
        }
    }
    drop(copy(&mut server, &mut client).await);
}
