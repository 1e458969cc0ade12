//! What a supervisor is told that asks for it (systemd's `Type=notify`, sd_notify(3)): that clients are
//! served, and that pgdrain stops. One datagram each, to the socket that `NOTIFY_SOCKET` names.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// What there is to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Clients are served, and the admin HTTP answers.
    Ready,
    /// It was told to stop, and lets transactions end.
    Stopping,
}

/// Tells it, if somebody asked. That it cannot be told is said in the log: systemd would wait in vain.
pub(super) fn tell(state: State) {
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET") else {
        return;
    };
    let text = match state {
        State::Ready => "READY=1\n",
        State::Stopping => "STOPPING=1\n",
    };
    if let Err(error) = send(&socket, text) {
        tracing::warn!(%error, ?socket, ?state, "the supervisor cannot be told");
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
}
