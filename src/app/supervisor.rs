//! What a supervisor is told that asks for it (systemd's `Type=notify` and `notify-reload`, sd_notify(3)): that
//! clients are served, that the configuration is read again, that pgdrain stops, and, where `WatchdogSec` is
//! set, that it lives. One datagram each, to the socket that `NOTIFY_SOCKET` names.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::Duration;

use super::App;

/// What there is to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Clients are served, and the admin HTTP answers.
    Ready,
    /// The configuration is being read again; `Ready` ends it.
    Reloading,
    /// It was told to stop, and lets transactions end.
    Stopping,
    /// Its threads do what they are asked.
    Alive,
}

/// Tells it, if somebody asked. That it cannot be told is said in the log: systemd would wait in vain.
pub(super) fn tell(state: State) {
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET") else {
        return;
    };
    if let Err(error) = send(&socket, &text(state)) {
        tracing::warn!(%error, ?socket, ?state, "the supervisor cannot be told");
    }
}

fn text(state: State) -> String {
    match state {
        State::Ready => "READY=1\n".to_owned(),
        State::Reloading => {
            // By it systemd knows that the answer is to its own signal and not to an earlier one.
            let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
            let microseconds = now.tv_sec * 1_000_000 + now.tv_nsec / 1000;
            format!("RELOADING=1\nMONOTONIC_USEC={microseconds}\n")
        }
        State::Stopping => "STOPPING=1\n".to_owned(),
        State::Alive => "WATCHDOG=1\n".to_owned(),
    }
}

/// How often somebody wants to hear that we live, if that is us: sd_watchdog_enabled(3).
pub(super) fn watchdog() -> Option<Duration> {
    let variable = |name: &str| std::env::var(name).ok();
    interval(variable("WATCHDOG_USEC"), variable("WATCHDOG_PID"))
}

fn interval(microseconds: Option<String>, pid: Option<String>) -> Option<Duration> {
    let meant = pid.is_none_or(|pid| pid.parse() == Ok(std::process::id()));
    let microseconds: u64 = microseconds?.parse().ok()?;
    (meant && microseconds > 0).then(|| Duration::from_micros(microseconds))
}

impl App {
    /// Says that all threads live, for as long as they do, twice in the time in which it has to be said.
    pub(super) fn tell_alive(self: &Arc<Self>) {
        let Some(interval) = watchdog() else {
            return;
        };
        let app = Arc::clone(self);
        let stop = self.tasks.shutdown_token();
        self.tasks.spawn("watchdog", async move {
            let mut due = tokio::time::interval(interval / 2);
            loop {
                tokio::select! {
                    _ = due.tick() => {}
                    () = stop.cancelled() => return,
                }
                // A worker that does not come round keeps its clients waiting: then nothing is said, and the
                // supervisor does what it was told to.
                tokio::select! {
                    () = app.workers_come_round() => tell(State::Alive),
                    () = stop.cancelled() => return,
                }
            }
        });
    }

    async fn workers_come_round(&self) {
        for worker in self.workers.all() {
            // One that is lost ends the process by itself.
            let _ = self.tasks.spawn_on(worker, "alive", async {}).await;
        }
    }
}

fn send(socket: &OsStr, text: &str) -> io::Result<()> {
    let address = match socket.as_bytes() {
        // A name in the abstract namespace, unix(7).
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(socket)?,
    };
    let datagram = UnixDatagram::unbound()?;
    // A supervisor that does not read holds nobody up.
    datagram.set_nonblocking(true)?;
    datagram
        .send_to_addr(text.as_bytes(), &address)
        .map(|_sent| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_of_either_kind_is_told() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("notify");
        let name = format!("pgdrain-test-{}", std::process::id());
        let abstract_name = SocketAddr::from_abstract_name(&name).expect("a name");
        for (address, written) in [
            (
                SocketAddr::from_pathname(&path).expect("a path"),
                path.into_os_string(),
            ),
            (abstract_name, format!("@{name}").into()),
        ] {
            let supervisor = UnixDatagram::bind_addr(&address).expect("a free name");
            send(&written, "READY=1\n").expect("somebody listens");
            let mut text = [0; 32];
            let length = supervisor.recv(&mut text).expect("it was sent");
            assert_eq!(&text[..length], b"READY=1\n");
        }
        assert!(send(OsStr::new("/nonexistent/notify"), "READY=1\n").is_err());
    }

    #[test]
    fn a_watchdog_is_ours_only_if_it_says_so() {
        let us = std::process::id().to_string();
        let some = |text: &str| Some(text.to_owned());
        let second = Some(Duration::from_secs(1));
        assert_eq!(interval(some("1000000"), None), second);
        assert_eq!(interval(some("1000000"), Some(us)), second);
        assert_eq!(interval(some("1000000"), some("1")), None);
        for wrong in [None, some(""), some("0"), some("soon")] {
            assert_eq!(interval(wrong, None), None);
        }
    }

    #[test]
    fn a_reload_says_when_it_began_by_the_clock_of_systemd() {
        let microseconds = || {
            let text = text(State::Reloading);
            let lines: Vec<_> = text.lines().map(str::to_owned).collect();
            assert_eq!(lines[0], "RELOADING=1");
            let number = lines[1].strip_prefix("MONOTONIC_USEC=").expect("a time");
            number.parse::<u64>().expect("microseconds")
        };
        let first = microseconds();
        assert!(first > 0 && microseconds() >= first);
    }
}
