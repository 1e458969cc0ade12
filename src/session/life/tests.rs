//! A session that panics leaves nothing behind, and the others do not notice.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, DuplexStream, ReadBuf, duplex};

use super::*;
use crate::audit::Audit;
use crate::config::{Source, Surroundings};
use crate::gate::Gate;
use crate::metrics::Metrics;
use crate::server::cancel::Cancels;
use crate::server::connect::{Endpoint, Route};
use crate::session::registry::Login;

/// One end of a pipe; reading it panics once the bomb is armed.
struct Pipe {
    inner: DuplexStream,
    bomb: Arc<AtomicBool>,
}

impl AsyncRead for Pipe {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let this = self.get_mut();
        assert!(!this.bomb.load(Ordering::Relaxed), "a bug in a session");
        Pin::new(&mut this.inner).poll_read(cx, buf)
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write(cx, buf)
    }
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}

impl Socket for Pipe {
    fn peer_has_closed(&self, _cx: &mut Context<'_>) -> bool {
        false
    }
    fn has_unsent(&self) -> bool {
        false
    }
}

/// What sessions share.
struct World {
    tasks: Tasks,
    sessions: Arc<Sessions>,
    common: Arc<Common>,
    gate: Arc<Gate>,
    rooms: Rooms,
    config: Arc<Config>,
}

/// The far ends of one session.
struct Peers {
    client: DuplexStream,
    server: DuplexStream,
    bomb: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<()>,
}

impl World {
    fn new() -> World {
        World::with(&[])
    }

    /// With settings, a key and a value each.
    fn with(settings: &[(&'static str, &str)]) -> World {
        let (tasks, metrics) = (Tasks::new(), Arc::new(Metrics::new()));
        let around = Surroundings::of_process();
        let source = Source::new(None)
            .flag("--upstream", "upstream.url", "postgres://db")
            .flag("--state-dir", "state_dir", "/nowhere");
        let source = settings
            .iter()
            .fold(source, |source, (key, value)| source.flag(key, key, *value));
        let common = Common {
            tasks: tasks.clone(),
            cancels: Cancels::new(1),
            metrics: Arc::clone(&metrics),
        };
        World {
            sessions: Arc::default(),
            common: Arc::new(common),
            gate: Arc::new(Gate::new(
                "shop",
                tasks.clone(),
                metrics,
                Arc::new(Audit::in_memory()),
            )),
            rooms: Rooms::default(),
            config: Arc::new(source.load(&around).expect("valid").config),
            tasks,
        }
    }

    /// A session that has logged in.
    fn session(&self, pid: i32) -> Peers {
        let bomb = Arc::new(AtomicBool::new(false));
        let pipe = || {
            let (inner, far) = duplex(1 << 16);
            let bomb = Arc::clone(&bomb);
            (Pipe { inner, bomb }, far)
        };
        let ((client, far_client), (server, far_server)) = (pipe(), pipe());
        let secret = Box::from(*b"abcd");
        let key = Some(CancelKey { pid, secret });
        let session = self.sessions.add(Login {
            database: "shop".into(),
            user: "anna".into(),
            application_name: "".into(),
            replication: None,
            held_by_holds: true,
            pass: None,
            client: Peer::Unix,
            route: Route::plain(Endpoint::Unix("/nowhere".into())),
            server_key: key.clone(),
            client_key: key,
        });
        let none = BytesMut::new;
        let relay = Relay::new(
            (client, none()),
            (server, none()),
            Arc::clone(&session),
            (Arc::clone(&self.gate), Vec::new()),
            Arc::clone(&self.config),
            Arc::clone(&self.common),
        );
        let farewell = Farewell {
            sessions: Arc::clone(&self.sessions),
            session,
            end: End::ServerLeft,
            _places: Places::for_tests(&self.rooms),
        };
        let settled = Settled { relay, farewell };
        Peers {
            client: far_client,
            server: far_server,
            bomb,
            task: self.tasks.spawn("session", settled),
        }
    }
}

const QUERY: &[u8] = b"Q\0\0\0\x0dSELECT 1\0";
const ANSWER: &[u8] = b"C\0\0\0\x0dSELECT 1\0Z\0\0\0\x05I";

impl Peers {
    async fn asks(&mut self) {
        self.client.write_all(QUERY).await.expect("served");
        let mut arrived = vec![0; QUERY.len()];
        self.server.read_exact(&mut arrived).await.expect("served");
        assert_eq!(arrived, QUERY);
    }

    async fn is_answered(&mut self) {
        self.server.write_all(ANSWER).await.expect("served");
        let mut arrived = vec![0; ANSWER.len()];
        self.client.read_exact(&mut arrived).await.expect("served");
        assert_eq!(arrived, ANSWER);
    }
}

#[tokio::test]
async fn one_sessions_panic_ends_that_session_alone() {
    let world = World::new();
    let (mut broken, mut healthy) = (world.session(7), world.session(8));
    broken.asks().await;
    healthy.asks().await;
    assert_eq!(world.gate.permits(), 2);
    assert_eq!(world.rooms.sessions.taken(), 2);

    broken.bomb.store(true, Ordering::Relaxed);
    // Wakes it; whether it still takes the bytes does not matter.
    drop(broken.client.write_all(b"Q").await);
    assert!(broken.task.await.is_err_and(|error| error.is_panic()));
    // Both of its peers are told, its permit and its places are back, and nobody finds it.
    assert_eq!(broken.client.read(&mut [0; 9]).await.expect("closed"), 0);
    assert_eq!(broken.server.read(&mut [0; 9]).await.expect("closed"), 0);
    assert_eq!(world.gate.permits(), 1);
    assert_eq!(world.rooms.sessions.taken(), 1);
    assert!(world.sessions.by_pid(7).is_none());
    assert_eq!(world.sessions.len(), 1);
    // Its backend may still run: a drain must ask for it.
    assert_eq!(world.sessions.departed_of("shop")[0].pid, 7);

    healthy.is_answered().await;
    assert_eq!(world.gate.permits(), 0);
    healthy.asks().await;
    healthy.is_answered().await;
    // One that comes later is served as ever.
    let mut later = world.session(9);
    later.asks().await;
    later.is_answered().await;
}

#[tokio::test(start_paused = true)]
async fn each_byte_that_a_client_takes_gives_it_the_whole_time_again() {
    let world = World::with(&[("limits.client_stalled", "10s"), ("client_gone", "never")]);
    let mut reader = world.session(7);
    reader.asks().await;
    // More than the pipe holds: a row of 100 KiB.
    let row = [&b"D\0\x01\x90\x04"[..], &[b'x'; 100 << 10]].concat();
    reader
        .server
        .write_all(&row[..90 << 10])
        .await
        .expect("taken");
    let mut byte = [0; 1];
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_secs(9)).await;
        let read = reader.client.read(&mut byte).await.expect("alive");
        assert_eq!(read, 1, "it reads slowly, and it reads");
    }
    assert!(!reader.task.is_finished());
    // It takes no more: the server is told, although the statement is never answered.
    let began = Instant::now();
    let mut rest = Vec::new();
    reader.server.read_to_end(&mut rest).await.expect("an end");
    assert!(began.elapsed() < Duration::from_secs(11));
    drop(reader.server);
    reader.task.await.expect("no panic");
    assert!(world.sessions.is_empty());
    assert_eq!(world.gate.permits(), 0);
}
