//! How TCP finds out that a peer is gone without a word.

use std::io;
use std::os::fd::AsFd;
use std::sync::{Mutex, MutexGuard, PoisonError};
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
        self.set(&SockRef::from(stream))?;
        match self.user_timeout {
            Some(_) => SockRef::from(stream).set_tcp_user_timeout(self.user_timeout),
            None => Ok(()),
        }
    }

    fn set(&self, socket: &SockRef<'_>) -> io::Result<()> {
        socket.set_tcp_nodelay(true)?;
        let keepalive = TcpKeepalive::new()
            .with_time(self.keepalive_idle)
            .with_interval(self.keepalive_interval)
            .with_retries(self.keepalive_count);
        socket.set_tcp_keepalive(&keepalive)
    }

    /// The same for a listening socket, which may have had others.
    fn set_anew(&self, socket: &SockRef<'_>) -> io::Result<()> {
        self.set(socket)?;
        socket.set_tcp_user_timeout(self.user_timeout)
    }
}

/// What a listening socket was told: Linux gives each connection the options that the socket had when the
/// connection came (`sk_clone_lock` in the kernel). That saves five system calls for each client.
#[derive(Debug)]
pub struct HandedOn(Mutex<Told>);

#[derive(Debug)]
struct Told {
    options: Option<TcpOptions>,
    /// So many connections, at most, came before it was told and wait to be taken.
    before: u32,
}

impl HandedOn {
    /// Tells a socket that does not listen yet.
    ///
    /// # Errors
    /// When the system does not take a setting.
    pub fn from_the_start(socket: &impl AsFd, options: &TcpOptions) -> io::Result<HandedOn> {
        options.set_anew(&SockRef::from(socket))?;
        Ok(HandedOn(Mutex::new(Told {
            options: Some(options.clone()),
            before: 0,
        })))
    }

    /// Of a socket that somebody else may have told something.
    #[must_use]
    pub fn unknown() -> HandedOn {
        HandedOn(Mutex::new(Told {
            options: None,
            before: 0,
        }))
    }

    /// Somebody else may have told the socket something.
    pub fn doubt(&self) {
        self.told().options = None;
    }

    /// Sees to it that a connection that was taken just now has these options. At most `queue` connections
    /// wait to be taken.
    ///
    /// # Errors
    /// When the system does not take a setting, which it does on a connection that has just died.
    pub fn settle(
        &self,
        (listener, queue): (&impl AsFd, u32),
        taken: &impl AsFd,
        options: &TcpOptions,
    ) -> io::Result<()> {
        let mut told = self.told();
        if told.options.as_ref() != Some(options) {
            options.set_anew(&SockRef::from(listener))?;
            // This one, and those behind it: Linux lets one more wait than asked for, and one may just have
            // come.
            let before = queue.saturating_add(3);
            *told = Told {
                options: Some(options.clone()),
                before,
            };
        }
        if told.before == 0 {
            return Ok(());
        }
        told.before -= 1;
        drop(told);
        options.set_anew(&SockRef::from(taken))
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpSocket;

    use super::*;

    fn options(idle: u64, user_timeout: Option<Duration>) -> TcpOptions {
        TcpOptions {
            keepalive_idle: Duration::from_secs(idle),
            keepalive_interval: Duration::from_secs(3),
            keepalive_count: 2,
            user_timeout,
        }
    }

    /// What the kernel says that a connection has.
    fn has(stream: &TcpStream) -> TcpOptions {
        let socket = SockRef::from(stream);
        assert!(stream.nodelay().expect("readable"));
        assert!(socket.keepalive().expect("readable"));
        TcpOptions {
            keepalive_idle: socket.tcp_keepalive_time().expect("readable"),
            keepalive_interval: socket.tcp_keepalive_interval().expect("readable"),
            keepalive_count: socket.tcp_keepalive_retries().expect("readable"),
            user_timeout: socket.tcp_user_timeout().expect("readable"),
        }
    }

    fn socket() -> TcpSocket {
        let socket = TcpSocket::new_v4().expect("a socket");
        let any = "127.0.0.1:0".parse().expect("an address");
        socket.bind(any).expect("a free port");
        socket
    }

    #[tokio::test]
    async fn the_kernel_takes_every_option() {
        let listener = socket().listen(1).expect("it is bound");
        let address = listener.local_addr().expect("it is bound");
        let stream = TcpStream::connect(address).await.expect("it listens");
        let options = options(7, Some(Duration::from_millis(4500)));
        options.apply(&stream).expect("a live socket");
        assert_eq!(has(&stream), options);
    }

    #[tokio::test]
    async fn a_connection_has_the_options_of_its_listener_and_after_a_change_those() {
        let (first, second) = (
            options(7, Some(Duration::from_millis(4500))),
            options(9, None),
        );
        let socket = socket();
        let handed_on = HandedOn::from_the_start(&socket, &first).expect("a socket");
        let listener = socket.listen(8).expect("it is bound");
        let address = listener.local_addr().expect("it is bound");
        let connect = async || TcpStream::connect(address).await.expect("it listens");
        let take = async |options: &TcpOptions| {
            let (taken, _) = listener.accept().await.expect("one waits");
            let settled = handed_on.settle((&listener, 8), &taken, options);
            settled.expect("a live socket");
            has(&taken)
        };
        let _waiting = [connect().await, connect().await, connect().await];
        assert_eq!(take(&first).await, first);
        // Those that came before the change have the new ones too.
        assert_eq!(take(&second).await, second);
        assert_eq!(take(&second).await, second);
        let _later = connect().await;
        let (taken, _) = listener.accept().await.expect("one waits");
        assert_eq!(has(&taken), second);

        let inherited = HandedOn::unknown();
        let _next = connect().await;
        let (taken, _) = listener.accept().await.expect("one waits");
        let settled = inherited.settle((&listener, 8), &taken, &first);
        settled.expect("a live socket");
        assert_eq!(has(&taken), first);
    }
}
