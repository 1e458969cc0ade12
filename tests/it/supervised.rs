//! What systemd is told (`Type=notify`): that it may start what depends on us, that the configuration is read
//! again and when, that we live, and that we stop. The supervisor is a script of the test.

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;

use pgdrain::cli::demo::cluster::process::Signal;

use crate::support::certificates::text;
use crate::support::poll::SOON;
use crate::support::proxy::Proxy;

/// Where nobody listens: none of this needs a server.
const NOWHERE: &str = "postgres://postgres@127.0.0.1:1";

/// The socket that systemd listens on.
struct Supervisor {
    socket: UnixDatagram,
    _dir: tempfile::TempDir,
    path: String,
}

impl Supervisor {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).expect("a free name");
        socket.set_read_timeout(Some(SOON)).expect("a time");
        let path = text(&path).to_owned();
        Self {
            socket,
            _dir: dir,
            path,
        }
    }

    /// The next message that is no sign of life.
    fn told(&self) -> String {
        loop {
            let told = self.any();
            if told != "WATCHDOG=1\n" {
                return told;
            }
        }
    }

    fn any(&self) -> String {
        let mut bytes = [0; 256];
        let length = self.socket.recv(&mut bytes).expect("it is told in time");
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    }

    fn proxy(&self) -> Proxy {
        let mut proxy = Proxy::not_started(NOWHERE);
        proxy.set("NOTIFY_SOCKET", &self.path);
        proxy
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn systemd_is_told_of_start_reload_and_stop() {
    let supervisor = Supervisor::new();
    let dir = tempfile::tempdir().expect("a directory");
    let config = dir.path().join("pgdrain.toml");
    std::fs::write(&config, "").expect("writable");
    let mut proxy = supervisor.proxy();
    proxy.arg("--config");
    proxy.arg(text(&config));
    proxy.launch().await;
    assert_eq!(supervisor.told(), "READY=1\n");
    // A good file and a bad one: both are over when it says so.
    let mut before = 0;
    for file in ["[hold]\nfor = '7m'\n", "[hold]\nfor = 'soon'\n"] {
        std::fs::write(&config, file).expect("writable");
        proxy.signal(Signal::Hangup);
        let told = supervisor.told();
        let begun = told
            .strip_prefix("RELOADING=1\nMONOTONIC_USEC=")
            .expect(&told);
        let begun: u64 = begun.trim_end().parse().expect(&told);
        assert!(begun > before && begun <= now(), "{begun}");
        before = begun;
        assert_eq!(supervisor.told(), "READY=1\n");
    }
    assert!(proxy.log().contains("hold.for"), "{}", proxy.log());
    proxy.signal(Signal::Terminate);
    assert_eq!(supervisor.told(), "STOPPING=1\n");
    assert!(proxy.ended().await.success());
}

/// The clock of `MONOTONIC_USEC`, and a second, as the kernel writes it.
fn now() -> u64 {
    // Without a suspend in between it is the uptime.
    let uptime = std::fs::read_to_string(Path::new("/proc/uptime")).expect("Linux");
    let seconds: f64 = uptime
        .split(' ')
        .next()
        .and_then(|it| it.parse().ok())
        .expect(&uptime);
    u64::try_from(Duration::from_secs_f64(seconds + 1.0).as_micros()).expect("it fits")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watchdog_hears_that_it_lives() {
    let supervisor = Supervisor::new();
    let mut proxy = supervisor.proxy();
    proxy.set("WATCHDOG_USEC", "200000");
    proxy.launch().await;
    assert_eq!(supervisor.any(), "READY=1\n");
    for _ in 0..3 {
        assert_eq!(supervisor.any(), "WATCHDOG=1\n");
    }
    proxy.signal(Signal::Terminate);
    assert_eq!(supervisor.told(), "STOPPING=1\n");
    assert!(proxy.ended().await.success());
}
