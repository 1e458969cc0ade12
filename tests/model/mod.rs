//! A server as its message types make it, a client that talks to it, and what lies between them.
//!
//! The tests and the fuzz targets play the same conversations on it, written as a script of one
//! byte an instruction: a fuzzer turns such a text into another conversation by any change, and a
//! person can read what it found.

pub(crate) mod client;
pub(crate) mod parts;
pub(crate) mod pipe;
pub(crate) mod relayed;
pub(crate) mod script;
pub(crate) mod server;
pub(crate) mod told;
pub(crate) mod tracked;

/// A message: its type, a length that counts itself, and a body.
pub(crate) fn tagged(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).expect("scripts are short");
    [&[tag], length.to_be_bytes().as_slice(), body].concat()
}

/// Takes a whole message off the front.
pub(crate) fn take_message<'a>(bytes: &mut &'a [u8]) -> Option<(u8, &'a [u8])> {
    let (header, rest) = bytes.split_first_chunk::<5>()?;
    let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]);
    let length = usize::try_from(length).ok()?.checked_sub(4)?;
    let body = rest.get(..length)?;
    *bytes = &rest[length..];
    Some((header[0], body))
}
