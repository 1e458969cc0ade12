//! Conversations of the login over two ends in memory.

use std::future::Future;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::time::timeout;

use super::messages::read_message;
use super::scram::{Derivation, Keys};
use crate::config::{Secret, Stored};
use crate::wire::startup::{First, Startup, parse};

mod binding;
mod prove;
mod verify;

const USER: &str = "anna";

/// One end of a connection, and messages on it.
struct Peer {
    stream: DuplexStream,
    bytes: BytesMut,
}

/// Two ends.
fn pair() -> (DuplexStream, Peer) {
    let (ours, theirs) = tokio::io::duplex(1 << 20);
    let peer = Peer {
        stream: theirs,
        bytes: BytesMut::new(),
    };
    (ours, peer)
}

/// Both sides of a conversation, which must not last.
async fn both<A, B>(ours: impl Future<Output = A>, theirs: impl Future<Output = B>) -> (A, B) {
    let both = async { tokio::join!(ours, theirs) };
    timeout(Duration::from_secs(30), both)
        .await
        .expect("an end of the conversation")
}

impl Peer {
    async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.expect("room");
    }

    async fn answer(&mut self, body: &[u8]) {
        self.send(&crate::wire::frontend::answer(body)).await;
    }

    /// The type and body of the next message.
    async fn read(&mut self) -> (u8, Vec<u8>) {
        let message = read_message(&mut self.stream, &mut self.bytes).await;
        let (tag, message) = message.expect("a message");
        (tag, message[5..].to_vec())
    }

    /// The code and data of the next message, which is an authentication request.
    async fn request(&mut self) -> (i32, Vec<u8>) {
        let (tag, body) = self.read().await;
        assert_eq!(tag, b'R');
        let (code, data) = body.split_first_chunk().expect("a code");
        (i32::from_be_bytes(*code), data.to_vec())
    }
}

/// A start-up packet of this minor version.
fn startup(minor: u16, more: &[u8]) -> Startup {
    let body = [b"user\0anna\0database\0shop\0", more, b"\0"].concat();
    let length = u32::try_from(body.len() + 8).expect("short");
    let [high, low] = minor.to_be_bytes();
    let packet = [&length.to_be_bytes()[..], &[0, 3, high, low], &body].concat();
    match parse(&packet) {
        Ok(First::Startup(startup)) => startup,
        other => panic!("{other:?}"),
    }
}

fn keys(password: &str, salt: &[u8], iterations: u32) -> Keys {
    let mut derivation = Derivation::new(password.as_bytes(), salt, iterations);
    let salted = derivation.advance(u32::MAX).expect("all of it");
    Keys::of(&salted, salt, iterations)
}

/// What a server keeps of `secret`.
fn scram_secret() -> Stored {
    Stored::Scram(keys("secret", b"0123456789abcdef", 16).verifier())
}

fn md5_secret() -> Stored {
    Stored::Md5(super::md5::hash(b"secret", USER))
}

fn plain_secret() -> Stored {
    Stored::Plain(Secret::new("secret"))
}
