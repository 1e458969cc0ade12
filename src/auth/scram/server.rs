//! The side that checks a proof. Whoever it lets in has shown it their keys.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use subtle::ConstantTimeEq;

use super::message::{Reader, is_nonce};
use super::{Keys, hmac, sha256, xor};
use crate::config::Verifier;
use crate::wire::refusal::NotProved;

/// The binding type that there is in Postgres.
const END_POINT: &[u8] = b"tls-server-end-point";

/// What was chosen and what could have been.
#[derive(Debug, Clone, Copy)]
pub struct Offer<'a> {
    /// The `tls-server-end-point` of the certificate that the client was shown. With one,
    /// SCRAM-SHA-256-PLUS was offered; without one, it was not.
    pub end_point: Option<&'a [u8]>,
    /// Whether the client chose SCRAM-SHA-256-PLUS.
    pub plus: bool,
}

/// An exchange whose first half is done.
pub struct Exchange<'a> {
    verifier: &'a Verifier,
    client_first_bare: Vec<u8>,
    server_first: Vec<u8>,
    /// Both halves of the nonce.
    nonce: Vec<u8>,
    /// What the client must send as `c=`.
    binding: String,
    /// Whether that names a certificate.
    bound: bool,
}

/// How an exchange ended. Both ends have done the same work.
#[derive(Debug)]
pub enum Verdict {
    /// The client knows the password; these are its keys, and this is told to it.
    Proved(Keys, Vec<u8>),
    /// It does not.
    Wrong,
}

impl<'a> Exchange<'a> {
    /// Reads the client's first message and gives the answer to it. `nonce` is our half.
    ///
    /// # Errors
    /// What the client is told. None of it depends on the verifier.
    pub fn begin(
        message: &[u8],
        offer: Offer<'_>,
        verifier: &'a Verifier,
        nonce: &str,
    ) -> Result<(Exchange<'a>, Vec<u8>), NotProved> {
        let mut reader = Reader::new(message).map_err(NotProved::ScramMessage)?;
        let binding = binding(&mut reader, offer)?;
        if reader.peek() == Some(b'a') {
            return Err(NotProved::ScramUnsupported(
                "client uses authorization identity, but it is not supported",
            ));
        }
        let comma = "Comma expected behind the channel-binding flag.";
        reader.byte(b',', comma).map_err(NotProved::ScramMessage)?;
        let client_first_bare = reader.rest().to_vec();
        if reader.peek() == Some(b'm') {
            return Err(NotProved::ScramUnsupported(
                "client requires an unsupported SCRAM extension",
            ));
        }
        // The name in it counts for nothing: the start-up packet has said who it is.
        reader.attribute(b'n').map_err(NotProved::ScramMessage)?;
        let theirs = reader.attribute(b'r').map_err(NotProved::ScramMessage)?;
        if !is_nonce(theirs) {
            return Err(NotProved::ScramMessage(
                "Non-printable characters in SCRAM nonce.",
            ));
        }
        while !reader.rest().is_empty() {
            reader.any().map_err(NotProved::ScramMessage)?;
        }
        let nonce = [theirs, nonce.as_bytes()].concat();
        let salt = STANDARD.encode(&verifier.salt);
        let parameters = format!(",s={salt},i={}", verifier.iterations);
        let server_first = [b"r=", &nonce[..], parameters.as_bytes()].concat();
        let exchange = Exchange {
            verifier,
            client_first_bare,
            server_first: server_first.clone(),
            nonce,
            binding,
            bound: offer.plus,
        };
        Ok((exchange, server_first))
    }

    /// Reads the client's proof.
    ///
    /// # Errors
    /// What the client is told, when the message is none that could be judged.
    pub fn finish(self, message: &[u8]) -> Result<Verdict, NotProved> {
        let mut reader = Reader::new(message).map_err(NotProved::ScramMessage)?;
        let binding = reader.attribute(b'c').map_err(NotProved::ScramMessage)?;
        if binding != self.binding.as_bytes() {
            return Err(if self.bound {
                NotProved::BindingMismatch
            } else {
                NotProved::ScramMessage(
                    "Unexpected channel-binding attribute in client-final-message.",
                )
            });
        }
        let nonce = reader.attribute(b'r').map_err(NotProved::ScramMessage)?;
        let (without_proof, proof) = loop {
            let before = message.len() - reader.rest().len();
            let (letter, value) = reader.any().map_err(NotProved::ScramMessage)?;
            if letter == b'p' {
                // The comma in front of it belongs to the proof.
                break (&message[..before - 1], value);
            }
        };
        let proof = STANDARD.decode(proof).ok();
        let proof = proof.and_then(|proof| <[u8; 32]>::try_from(proof).ok());
        let proof = proof.ok_or(NotProved::ScramMessage(
            "Malformed proof in client-final-message.",
        ))?;
        if !reader.rest().is_empty() {
            return Err(NotProved::ScramMessage(
                "Garbage found at the end of client-final-message.",
            ));
        }
        if nonce != self.nonce {
            return Err(NotProved::ScramNonce);
        }
        Ok(self.judge(without_proof, &proof))
    }

    fn judge(&self, without_proof: &[u8], proof: &[u8; 32]) -> Verdict {
        let Verifier {
            iterations,
            salt,
            stored_key,
            server_key,
        } = self.verifier;
        let messages: [&[u8]; 5] = [
            &self.client_first_bare,
            b",",
            &self.server_first,
            b",",
            without_proof,
        ];
        let client_key = xor(proof, &hmac(stored_key, &messages));
        let signature = hmac(server_key, &messages);
        if bool::from(sha256(&client_key).ct_eq(stored_key)) {
            let keys = Keys {
                client_key,
                server_key: *server_key,
                salt: salt.clone(),
                iterations: *iterations,
            };
            let answer = format!("v={}", STANDARD.encode(signature));
            Verdict::Proved(keys, answer.into_bytes())
        } else {
            Verdict::Wrong
        }
    }
}

/// Reads the channel-binding flag, judges it as the server does, and gives what `c=` must be.
fn binding(reader: &mut Reader<'_>, offer: Offer<'_>) -> Result<String, NotProved> {
    let flag = reader.peek();
    let header: &[u8] = match (flag, offer) {
        (Some(b'n' | b'y'), Offer { plus: true, .. }) => {
            return Err(NotProved::ScramMessage(
                "The client selected SCRAM-SHA-256-PLUS, but the SCRAM message does not include \
                 channel binding data.",
            ));
        }
        // It would have bound the channel, but was shown a list without PLUS: by whom?
        (Some(b'y'), Offer { end_point, .. }) if end_point.is_some() => {
            return Err(NotProved::BindingDowngrade);
        }
        (Some(b'n'), _) => b"n,,",
        (Some(b'y'), _) => b"y,,",
        (
            Some(b'p'),
            Offer {
                end_point: Some(end_point),
                plus: true,
            },
        ) => {
            let kind = reader.attribute(b'p').map_err(NotProved::ScramMessage)?;
            if kind != END_POINT {
                return Err(NotProved::ScramMessage(
                    "Unsupported SCRAM channel-binding type.",
                ));
            }
            let expected = [b"p=", END_POINT, b",,", end_point].concat();
            return Ok(STANDARD.encode(expected));
        }
        (Some(b'p'), _) => {
            return Err(NotProved::ScramMessage(
                "The client selected SCRAM-SHA-256 without channel binding, but the SCRAM message \
                 includes channel binding data.",
            ));
        }
        _ => {
            return Err(NotProved::ScramMessage("Unexpected channel-binding flag."));
        }
    };
    let comma = "Comma expected behind the channel-binding flag.";
    reader
        .byte(header[0], comma)
        .and_then(|()| reader.byte(b',', comma))
        .map_err(NotProved::ScramMessage)?;
    Ok(STANDARD.encode(header))
}
