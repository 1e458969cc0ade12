//! A relay that cuts one connection when the client sends certain bytes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// When to cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// The server never gets the bytes.
    Before,
    /// The server gets the bytes; whether it has acted on them is left open.
    After,
    /// The server gets the bytes and answers; the client does not get the answer.
    AfterAnswer,
}

/// Accepts until dropped; cuts once.
pub(crate) struct Cutter {
    port: u16,
    has_cut: Arc<AtomicBool>,
    _tasks: JoinSet<()>,
}

impl Cutter {
    pub(crate) async fn start(server: SocketAddr, trigger: &'static str, cut: Cut) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let has_cut = Arc::new(AtomicBool::new(false));
        let done = Arc::clone(&has_cut);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut relays = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(server).await.expect("the server");
                relays.spawn(relay(client, server, trigger, cut, Arc::clone(&done)));
            }
        });
        Self {
            port,
            has_cut,
            _tasks: tasks,
        }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn has_cut(&self) -> bool {
        self.has_cut.load(Ordering::SeqCst)
    }
}

async fn relay(
    mut client: TcpStream,
    mut server: TcpStream,
    trigger: &'static str,
    cut: Cut,
    done: Arc<AtomicBool>,
) {
    let (mut up, mut down) = (vec![0; 65536], vec![0; 65536]);
    loop {
        tokio::select! {
            read = client.read(&mut up) => {
                let Ok(read @ 1..) = read else { return };
                let bytes = &up[..read];
                let triggered = bytes.windows(trigger.len()).any(|it| it == trigger.as_bytes());
                if triggered && !done.swap(true, Ordering::SeqCst) {
                    if cut != Cut::Before {
                        server.write_all(bytes).await.expect("the server to read");
                    }
                    if cut == Cut::AfterAnswer {
                        let answer = server.read(&mut down).await.expect("an answer");
                        assert_ne!(answer, 0);
                    }
                    return;
                }
                server.write_all(bytes).await.expect("the server to read");
            }
            read = server.read(&mut down) => {
                let Ok(read @ 1..) = read else { return };
                if client.write_all(&down[..read]).await.is_err() {
                    return;
                }
            }
        }
    }
}
