//! How TCP finds out that a peer is gone without a word.

use std::io;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

/// What the kernel is told about a connection (`tcp(7)`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TcpOptions {
    /// A connection that was quiet for so long is probed (`TCP_KEEPIDLE`, in whole seconds).
    pub keepalive_idle: Duration,
    /// The time from one probe to the next (`TCP_KEEPINTVL`, in whole seconds).
    pub keepalive_interval: Duration,
    /// After so many unanswered probes the peer is gone (`TCP_KEEPCNT`).
    pub keepalive_count: u32,
    /// How long sent bytes may stay unacknowledged, or the peer without room for more
    /// (`TCP_USER_TIMEOUT`); `None` leaves it to the kernel, which tries for a quarter of an hour.
    pub user_timeout: Option<Duration>,
}

impl Default for TcpOptions {
    /// A peer that is gone is noticed within two minutes, not after the system's two hours.
    fn default() -> Self {
        Self {
            keepalive_idle: Duration::from_secs(60),
            keepalive_interval: Duration::from_secs(10),
            keepalive_count: 6,
            user_timeout: None,
        }
    }
}

impl TcpOptions {
    /// Sets a connection up as both sides of a relay want it: small messages are sent at once,
    /// because somebody waits for each, and a peer that is gone is noticed.
    ///
    /// # Errors
    /// When the system does not take a setting, which it does on a socket that has just died.
    pub(super) fn apply(&self, stream: &TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let keepalive = TcpKeepalive::new()
            .with_time(self.keepalive_idle)
            .with_interval(self.keepalive_interval)
            .with_retries(self.keepalive_count);
        let socket = SockRef::from(stream);
        socket.set_tcp_keepalive(&keepalive)?;
        match self.user_timeout {
            Some(_) => socket.set_tcp_user_timeout(self.user_timeout),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_kernel_takes_every_option() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let stream = TcpStream::connect(address).await.expect("it listens");
        let options = TcpOptions {
            keepalive_idle: Duration::from_secs(7),
            keepalive_interval: Duration::from_secs(3),
            keepalive_count: 2,
            user_timeout: Some(Duration::from_millis(4500)),
        };
        options.apply(&stream).expect("a live socket");
        let socket = SockRef::from(&stream);
        assert!(stream.nodelay().expect("readable"));
        assert!(socket.keepalive().expect("readable"));
        let seconds = Duration::from_secs;
        assert_eq!(socket.tcp_keepalive_time().expect("readable"), seconds(7));
        assert_eq!(
            socket.tcp_keepalive_interval().expect("readable"),
            seconds(3)
        );
        assert_eq!(socket.tcp_keepalive_retries().expect("readable"), 2);
        let timeout = socket.tcp_user_timeout().expect("readable");
        assert_eq!(timeout, options.user_timeout);
    }
}
