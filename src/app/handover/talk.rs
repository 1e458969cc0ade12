//! What two processes say to one another when one takes over: lines of JSON on a Unix socket, and
//! sockets along with one of them.

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::window::generations::Standing;

/// The version of this language. A process that speaks another is refused.
pub(super) const PROTOCOL: u32 = 1;

/// The most sockets that one message carries (`SCM_MAX_FD`).
pub(super) const SOCKETS_MAX: usize = 253;

/// The longest line: the names of so many sockets and databases.
const LINE_MAX: usize = 1 << 20;

/// The first line of the newer process.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Hello {
    /// [`PROTOCOL`]; the word says what this connection is for.
    pub(super) hand_over: u32,
    pub(super) version: String,
    pub(super) pid: u32,
    /// How long the former process may serve what it has.
    pub(super) old_for_ms: Option<u64>,
}

/// What the newer process says then.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Newer {
    /// It has all it needs, and could serve.
    Ready,
    /// It accepts clients.
    Serving,
}

/// What the former process says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Former {
    /// It goes on as if nothing had been.
    Refused { why: String },
    /// Here are the sockets by their names, then the admin's, then the lock of the directory.
    Offer {
        version: String,
        names: Vec<String>,
        /// Whether they are systemd's, which keeps their files.
        borrowed: bool,
    },
    /// It accepts nobody and writes nothing any more: go on.
    Yours,
    /// It is the former process from now on.
    Over(Standing),
}

/// One end of the conversation.
#[derive(Debug)]
pub(super) struct Talk {
    stream: UnixStream,
    heard: Vec<u8>,
    sockets: VecDeque<OwnedFd>,
}

impl Talk {
    pub(super) fn new(stream: UnixStream) -> Talk {
        Talk {
            stream,
            heard: Vec::new(),
            sockets: VecDeque::new(),
        }
    }

    pub(super) async fn say(&mut self, what: &impl Serialize) -> io::Result<()> {
        self.stream.write_all(&line(what)?).await
    }

    /// Says something that comes with sockets.
    pub(super) async fn say_with(
        &mut self,
        what: &impl Serialize,
        sockets: &[OwnedFd],
    ) -> io::Result<()> {
        let line = line(what)?;
        let stream = &self.stream;
        let send = || {
            let sockets: Vec<BorrowedFd<'_>> = sockets.iter().map(AsFd::as_fd).collect();
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS_MAX))];
            let mut along = SendAncillaryBuffer::new(&mut space);
            if !along.push(SendAncillaryMessage::ScmRights(&sockets)) {
                return Err(io::Error::other("too many listening sockets to pass on"));
            }
            let bytes = [IoSlice::new(&line)];
            let sent = sendmsg(stream, &bytes, &mut along, SendFlags::NOSIGNAL);
            sent.map_err(io::Error::from)
        };
        let sent = stream.async_io(Interest::WRITABLE, send).await?;
        self.stream.write_all(&line[sent..]).await
    }

    /// The next line; `None` when the other has gone.
    pub(super) async fn hear<T: DeserializeOwned>(
        &mut self,
        patience: Duration,
    ) -> io::Result<Option<T>> {
        let next = timeout(patience, self.next_line()).await??;
        let Some(line) = next else { return Ok(None) };
        Ok(Some(serde_json::from_slice(&line)?))
    }

    /// The sockets that came so far.
    pub(super) fn sockets(&mut self) -> VecDeque<OwnedFd> {
        std::mem::take(&mut self.sockets)
    }

    async fn next_line(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(end) = self.heard.iter().position(|byte| *byte == b'\n') {
                let rest = self.heard.split_off(end + 1);
                return Ok(Some(std::mem::replace(&mut self.heard, rest)));
            }
            if self.heard.len() > LINE_MAX {
                return Err(io::ErrorKind::InvalidData.into());
            }
            match self.receive().await {
                Ok(0) => return Ok(None),
                Ok(_) => {}
                // It went with a line of ours unread.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }

    async fn receive(&mut self) -> io::Result<usize> {
        let Talk {
            stream,
            heard,
            sockets,
        } = self;
        let receive = || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS_MAX))];
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
        stream.async_io(Interest::READABLE, receive).await
    }
}

fn line(what: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(what)?;
    line.push(b'\n');
    Ok(line)
}
