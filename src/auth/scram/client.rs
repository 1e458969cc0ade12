//! The side that proves itself. It trusts nothing that the server sends, before the server has
//! proved itself too.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use subtle::ConstantTimeEq;

use super::message::{Reader, is_nonce};
use super::{Key, Keys, hmac, sha256, xor};
use crate::config::ITERATIONS_MAX;
use crate::wire::refusal::{NotPassedOn, Refusal};

/// What a client says of channel binding.
#[derive(Debug, Clone, Copy)]
pub enum Binding<'a> {
    /// `n`: it cannot.
    Impossible,
    /// `y`: it could, but the server did not offer it.
    NotOffered,
    /// `p`: to the certificate with this `tls-server-end-point`.
    EndPoint(&'a [u8]),
}

impl Binding<'_> {
    fn header(&self) -> &'static str {
        match self {
            Binding::Impossible => "n,,",
            Binding::NotOffered => "y,,",
            Binding::EndPoint(_) => "p=tls-server-end-point,,",
        }
    }

    fn attribute(&self) -> String {
        let data: &[u8] = match self {
            Binding::Impossible | Binding::NotOffered => &[],
            Binding::EndPoint(end_point) => end_point,
        };
        STANDARD.encode([self.header().as_bytes(), data].concat())
    }
}

/// A client that has sent its first message.
pub struct Begun<'a> {
    binding: Binding<'a>,
    nonce: String,
}

/// A client that knows what it is asked.
pub struct Challenged {
    /// The salt that the server has.
    pub salt: Box<[u8]>,
    /// The iterations that the server has: 1 to [`ITERATIONS_MAX`].
    pub iterations: u32,
    /// The messages so far, and the last one without its proof.
    messages: Vec<u8>,
    without_proof: String,
}

/// A client that waits for the server's proof.
pub struct Answered {
    signature: Key,
}

impl<'a> Begun<'a> {
    /// Begins; `nonce` must never have been used before.
    #[must_use]
    pub fn new(nonce: String, binding: Binding<'a>) -> Begun<'a> {
        Begun { binding, nonce }
    }

    /// The first message. The name in it is empty: the start-up packet has said who we are.
    #[must_use]
    pub fn message(&self) -> Vec<u8> {
        format!("{}{}", self.binding.header(), self.bare()).into_bytes()
    }

    fn bare(&self) -> String {
        format!("n=,r={}", self.nonce)
    }

    /// Reads the server's first message.
    ///
    /// # Errors
    /// When it is none, does not answer ours, or asks for more work than anybody should.
    pub fn challenged(self, message: &[u8]) -> Result<Challenged, Refusal> {
        let bad = |_malformed| Refusal::ServerProtocol;
        let mut reader = Reader::new(message).map_err(bad)?;
        let nonce = reader.attribute(b'r').map_err(bad)?;
        let salt = reader.attribute(b's').map_err(bad)?;
        let iterations = reader.attribute(b'i').map_err(bad)?;
        while !reader.rest().is_empty() {
            reader.any().map_err(bad)?;
        }
        let extends = nonce.starts_with(self.nonce.as_bytes()) && nonce.len() > self.nonce.len();
        if !extends || !is_nonce(nonce) {
            return Err(Refusal::ServerProtocol);
        }
        let salt = STANDARD.decode(salt).ok().filter(|salt| !salt.is_empty());
        let iterations: Option<u32> = std::str::from_utf8(iterations)
            .ok()
            .filter(|digits| digits.bytes().all(|digit| digit.is_ascii_digit()))
            .and_then(|digits| digits.parse().ok());
        let iterations = iterations
            .filter(|count| (1..=ITERATIONS_MAX).contains(count))
            .ok_or(NotPassedOn::Iterations)?;
        let nonce = String::from_utf8_lossy(nonce);
        let without_proof = format!("c={},r={nonce}", self.binding.attribute());
        let bare = self.bare();
        let messages = [
            bare.as_bytes(),
            b",",
            message,
            b",",
            without_proof.as_bytes(),
        ];
        Ok(Challenged {
            salt: salt.ok_or(Refusal::ServerProtocol)?.into(),
            iterations,
            messages: messages.concat(),
            without_proof,
        })
    }
}

impl Challenged {
    /// Whether these keys answer this challenge.
    #[must_use]
    pub fn fits(&self, keys: &Keys) -> bool {
        self.salt == keys.salt && self.iterations == keys.iterations
    }

    /// The last message: the proof.
    #[must_use]
    pub fn answer(self, keys: &Keys) -> (Answered, Vec<u8>) {
        let signature = hmac(&sha256(&keys.client_key), &[&self.messages]);
        let proof = STANDARD.encode(xor(&keys.client_key, &signature));
        let answered = Answered {
            signature: hmac(&keys.server_key, &[&self.messages]),
        };
        let message = format!("{},p={proof}", self.without_proof);
        (answered, message.into_bytes())
    }
}

impl Answered {
    /// Reads the server's last message: does it know the password too?
    ///
    /// # Errors
    /// When it does not show that it does.
    pub fn finish(&self, message: &[u8]) -> Result<(), Refusal> {
        let mut reader = Reader::new(message).map_err(|_malformed| Refusal::ServerProtocol)?;
        let signature = reader
            .attribute(b'v')
            .map_err(|_malformed| NotPassedOn::ServerNotProved)?;
        let signature = STANDARD.decode(signature).unwrap_or_default();
        if bool::from(signature.ct_eq(&self.signature)) {
            Ok(())
        } else {
            Err(NotPassedOn::ServerNotProved.into())
        }
    }
}
