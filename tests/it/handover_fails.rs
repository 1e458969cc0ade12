//! A hand-over that breaks off, wherever it does: somebody serves, and somebody keeps the holds.

use std::collections::VecDeque;
use std::fs;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::Command;

use pgdrain::cli::demo::cluster::process::{self, Signal};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde_json::{Value, json};
use tokio::io::Interest;
use tokio::net::{UnixListener, UnixStream};

use crate::support::cluster::Postgres;
use crate::support::holds::DB;
use crate::support::poll::{PATIENCE, SOON, eventually, until, within};
use crate::support::proxy::Proxy;
use crate::support::windows::Ordered;

const ONE: &str = "SELECT 1";

/// One end of a hand-over, played by the test.
struct Party {
    stream: UnixStream,
    heard: Vec<u8>,
    sockets: VecDeque<OwnedFd>,
}

impl Party {
    fn new(stream: UnixStream) -> Party {
        Party {
            stream,
            heard: Vec::new(),
            sockets: VecDeque::new(),
        }
    }

    /// Begins to take over from a proxy.
    async fn newer(proxy: &Proxy) -> Party {
        let stream = UnixStream::connect(proxy.state_dir().join("handover.sock")).await;
        let mut party = Party::new(stream.expect("somebody to take over from"));
        party
            .say(json!({"hand_over": 1, "version": "x", "pid": std::process::id()}))
            .await;
        party
    }

    async fn say(&mut self, what: Value) {
        self.say_with(what, &[]).await;
    }

    async fn say_with(&mut self, what: Value, sockets: &[OwnedFd]) {
        let line = format!("{what}\n");
        let stream = &self.stream;
        let send = || {
            let sockets: Vec<_> = sockets.iter().map(AsFd::as_fd).collect();
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(16))];
            let mut along = SendAncillaryBuffer::new(&mut space);
            assert!(sockets.is_empty() || along.push(SendAncillaryMessage::ScmRights(&sockets)));
            let line = [IoSlice::new(line.as_bytes())];
            Ok(sendmsg(stream, &line, &mut along, SendFlags::NOSIGNAL)?)
        };
        let sent = stream.async_io(Interest::WRITABLE, send).await;
        assert_eq!(sent.expect("somebody listens"), line.len());
    }

    /// The next line; `None` when the other has gone.
    async fn hear(&mut self) -> Option<Value> {
        within("a line", PATIENCE, async {
            loop {
                if let Some(end) = self.heard.iter().position(|byte| *byte == b'\n') {
                    let rest = self.heard.split_off(end + 1);
                    let line = std::mem::replace(&mut self.heard, rest);
                    return Some(serde_json::from_slice(&line).expect("JSON"));
                }
                if self.receive().await == 0 {
                    return None;
                }
            }
        })
        .await
    }

    async fn receive(&mut self) -> usize {
        let Party {
            stream,
            heard,
            sockets,
        } = self;
        let receive = || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(16))];
            let mut along = RecvAncillaryBuffer::new(&mut space);
            let mut bytes = [0; 4096];
            let mut room = [IoSliceMut::new(&mut bytes)];
            let got = recvmsg(&*stream, &mut room, &mut along, RecvFlags::CMSG_CLOEXEC)?;
            for message in along.drain() {
                if let RecvAncillaryMessage::ScmRights(came) = message {
                    sockets.extend(came);
                }
            }
            heard.extend_from_slice(&bytes[..got.bytes]);
            Ok(got.bytes)
        };
        stream
            .async_io(Interest::READABLE, receive)
            .await
            .unwrap_or(0)
    }
}

/// The process goes on: it serves, and it can hold.
async fn assert_goes_on(proxy: &Proxy) {
    proxy.session(DB).await.execute(ONE).await;
    proxy.hold_drained(DB, json!({"for": "1h"})).await;
    let journal = fs::read_to_string(proxy.state_dir().join("journal.json")).expect("a journal");
    assert!(journal.contains(DB), "{journal}");
    proxy.open(DB).await;
    proxy.session(DB).await.execute(ONE).await;
}

async fn assert_not_handed_over(proxy: &Proxy, window: &Ordered) {
    let vain = proxy.take_over_in_vain(&[]).await;
    assert_ne!(vain.code, Some(0), "{vain:?}");
    let why = format!("window {} is open in {DB}", window.id);
    assert!(vain.stderr.contains(&why), "{vain:?}");
}

/// A window ends with the process that lends it: nothing is handed over while one is open, be it at work
/// or there for a person to look at.
#[tokio::test]
async fn an_open_window_is_not_handed_over() {
    let postgres = Postgres::start().await;
    let mut proxy = Proxy::start(&postgres).await;
    let window = proxy.exclusive(DB, json!({})).await;
    let mut inside = proxy.inside(&window).await;
    assert_not_handed_over(&proxy, &window).await;
    inside.execute("CREATE TABLE t (n int)").await;
    proxy.command_window(&window, "renew").await;
    assert_eq!(proxy.status(DB).await["mode"], "hold");

    let path = format!("/v1/windows/{}/abort", window.id);
    let stay = json!({"term": window.term, "then": "stay"});
    proxy.admin().post(&path, stay).await.expect(202);
    proxy.until_window(&window, "closed").await;
    assert_not_handed_over(&proxy, &window).await;
    assert_eq!(proxy.status(DB).await["mode"], "hold");

    proxy.open(DB).await;
    let mut former = proxy.take_over(&[]).await;
    former.ended().await;
    assert_goes_on(&proxy).await;
}

#[tokio::test]
async fn a_newer_process_that_dies_is_as_if_it_had_never_been() {
    let postgres = Postgres::start().await;
    let proxy = Proxy::start(&postgres).await;
    // Before it has the sockets.
    let stream = UnixStream::connect(proxy.state_dir().join("handover.sock")).await;
    drop(stream.expect("somebody to take over from"));
    assert_goes_on(&proxy).await;
    // With the sockets in hand: the lock is still the serving process's.
    let mut newer = Party::newer(&proxy).await;
    assert!(newer.hear().await.expect("an offer")["offer"].is_object());
    assert_eq!(newer.sockets.len(), 3, "listener, admin, lock");
    drop(newer);
    assert_goes_on(&proxy).await;
    // When nobody accepts any more but it.
    let mut newer = Party::newer(&proxy).await;
    newer.hear().await.expect("an offer");
    newer.say(json!("ready")).await;
    assert_eq!(newer.hear().await, Some(json!("yours")));
    let waiting = tokio::net::TcpStream::connect(proxy.addr()).await;
    drop(newer);
    assert_goes_on(&proxy).await;
    // Who came in between was in the kernel's queue.
    let mut waited = crate::support::wire::Wire::new(waiting.expect("a listening socket"));
    let login = waited.log_in(&[("user", "postgres"), ("database", DB)], None);
    login.await.expect("a login");
    // And another one takes over.
    let mut proxy = proxy;
    let mut former = proxy.take_over(&[]).await;
    drop(waited);
    assert!(former.ended().await.success());
    proxy.session(DB).await.execute(ONE).await;
}

#[tokio::test]
async fn another_version_of_the_protocol_is_refused_by_name() {
    let postgres = Postgres::start().await;
    let proxy = Proxy::start(&postgres).await;
    let stream = UnixStream::connect(proxy.state_dir().join("handover.sock")).await;
    let mut newer = Party::new(stream.expect("somebody to take over from"));
    newer
        .say(json!({"hand_over": 99, "version": "9.0", "pid": 1}))
        .await;
    let answer = newer.hear().await.expect("an answer");
    let why = answer["refused"]["why"].as_str().expect("a reason");
    assert!(why.contains("speaks version 99"), "{why}");
    assert_goes_on(&proxy).await;
}

/// Two at once: the second has its turn when the first has taken over, and nobody serves then who
/// could hand over to it.
#[tokio::test]
async fn two_at_once_take_their_turns() {
    let postgres = Postgres::start().await;
    let proxy = Proxy::start(&postgres).await;
    let mut first = Party::newer(&proxy).await;
    first.hear().await.expect("an offer");
    let second = proxy.take_over_in_vain(&[]);
    let first_ends = async {
        first.say(json!("ready")).await;
        assert_eq!(first.hear().await, Some(json!("yours")));
        first.say(json!("serving")).await;
        assert!(first.hear().await.expect("an end")["over"].is_object());
    };
    let (second, ()) = tokio::join!(second, first_ends);
    // The first one is the test, which serves nobody: the lock is in its hands.
    assert_ne!(second.code, Some(0), "{second:?}");
}

/// The test in the place of the process that serves.
async fn former_of(proxy: &Proxy) -> UnixListener {
    let state_dir = proxy.state_dir();
    fs::create_dir_all(&state_dir).expect("a directory");
    UnixListener::bind(state_dir.join("handover.sock")).expect("a free name")
}

fn lock_of(state_dir: &Path) -> OwnedFd {
    let lock = fs::File::create(state_dir.join("lock")).expect("a lock file");
    lock.lock().expect("nobody else's");
    lock.into()
}

#[tokio::test]
async fn what_a_former_process_says_no_to_is_said_by_the_newer_one() {
    let proxy = Proxy::not_started("postgres://postgres@127.0.0.1:1");
    let listener = former_of(&proxy).await;
    let refuse = async {
        let (stream, _) = listener.accept().await.expect("a newer process");
        let mut former = Party::new(stream);
        let hello = former.hear().await.expect("a hello");
        assert_eq!(hello["hand_over"], 1, "{hello}");
        former
            .say(json!({"refused": {"why": "a window is open in shop"}}))
            .await;
        former.hear().await
    };
    let (vain, last) = tokio::join!(proxy.take_over_in_vain(&[]), refuse);
    assert_eq!(last, None);
    assert_ne!(vain.code, Some(0));
    assert!(vain.stderr.contains("a window is open in shop"), "{vain:?}");
}

/// The sockets were offered and the offer breaks off, but the process lives (it is this test): the
/// newer one must not serve beside it.
#[tokio::test]
async fn a_former_process_that_lives_and_breaks_off_keeps_everything() {
    let proxy = Proxy::not_started("postgres://postgres@127.0.0.1:1");
    let listener = former_of(&proxy).await;
    let lock = lock_of(&proxy.state_dir());
    let offer = async {
        let (stream, _) = listener.accept().await.expect("a newer process");
        let mut former = Party::new(stream);
        former.hear().await.expect("a hello");
        let socket = || {
            std::net::TcpListener::bind("127.0.0.1:0")
                .expect("a port")
                .into()
        };
        let sockets = [socket(), socket(), lock];
        let offer = json!({"version": "x", "names": ["127.0.0.1:0"], "borrowed": false});
        former.say_with(json!({"offer": offer}), &sockets).await;
        assert_eq!(former.hear().await, Some(json!("ready")));
    };
    let (vain, ()) = tokio::join!(proxy.take_over_in_vain(&[]), offer);
    assert_ne!(vain.code, Some(0));
    assert!(vain.stderr.contains("broke off the hand-over"), "{vain:?}");
}

/// It is killed before it has answered: the newer one finds nobody, and begins as usual.
#[tokio::test]
async fn a_former_process_that_dies_before_its_offer_leaves_an_ordinary_start() {
    let postgres = Postgres::start().await;
    let mut proxy = Proxy::start(&postgres).await;
    proxy.hold(DB, json!({"for": "1h", "then": "stay"})).await;
    // Frozen: it cannot answer.
    proxy.signal(Signal::Stop);
    // The kernel shows the name under which it was made.
    let (pid, socket) = (proxy.pid(), proxy.state_dir().join("handover.new"));
    let kill = async move {
        until("the newer process to ask", SOON, async || {
            let sockets = fs::read_to_string("/proc/net/unix").expect("Linux");
            let path = socket.display().to_string();
            sockets.lines().filter(|line| line.ends_with(&path)).count() > 1
        })
        .await;
        process::send(Signal::Kill, &[pid]).expect("a shell");
    };
    let (former, ()) = tokio::join!(proxy.take_over(&[]), kill);
    drop(former);
    assert_eq!(proxy.status(DB).await["mode"], "hold");
    proxy.open(DB).await;
    assert_goes_on(&proxy).await;
}

/// Offers two sockets and the lock, and is gone when the newer process is ready.
const DIES: &str = r#"
import fcntl, json, os, socket, sys
state = sys.argv[1]
lock = open(state + "/lock", "w")
fcntl.flock(lock, fcntl.LOCK_EX)
listen, admin = socket.create_server(("127.0.0.1", 0)), socket.create_server(("127.0.0.1", 0))
open(state + "/port.new", "w").write(str(listen.getsockname()[1]))
door = socket.socket(socket.AF_UNIX)
door.bind(state + "/handover.sock")
door.listen()
os.rename(state + "/port.new", state + "/port")
newer, _ = door.accept()
newer.recv(4096)
offer = {"offer": {"version": "x", "names": ["127.0.0.1:0"], "borrowed": False}}
fds = [listen.fileno(), admin.fileno(), lock.fileno()]
socket.send_fds(newer, [json.dumps(offer).encode() + b"\n"], fds)
newer.recv(4096)
"#;

/// It dies when the newer one has its sockets: that one serves alone, on the same port.
#[tokio::test]
async fn a_former_process_that_dies_in_the_middle_is_succeeded() {
    let postgres = Postgres::start().await;
    let mut proxy = Proxy::not_started(&format!("postgres://postgres@{}", postgres.addr()));
    fs::create_dir_all(proxy.state_dir()).expect("a directory");
    let former = Command::new("python3")
        .args(["-c", DIES])
        .arg(proxy.state_dir())
        .spawn();
    let mut former = former.expect("python3");
    let port = eventually("the former process", SOON, async || {
        fs::read_to_string(proxy.state_dir().join("port")).ok()
    })
    .await;
    proxy.arg("--take-over");
    proxy.launch().await;
    assert_eq!(proxy.addr().port().to_string(), port);
    assert!(former.wait().expect("a child of ours").success());
    assert!(
        proxy.log().contains("it ended in the middle"),
        "{}",
        proxy.log()
    );
    assert_goes_on(&proxy).await;
    // The lock came along.
    let lock = fs::File::open(proxy.state_dir().join("lock")).expect("a lock file");
    assert!(matches!(lock.try_lock(), Err(fs::TryLockError::WouldBlock)));
}
