//! The form of SCRAM messages: attributes of one letter, parted by commas (RFC 5802, section 7).

/// Reads a message from its front. Errors say what is wrong with it, in the words of Postgres.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

/// Why a message is none.
pub(super) type Malformed = &'static str;

impl<'a> Reader<'a> {
    /// A zero byte would end the message for a reader in C, and not for us.
    pub(super) fn new(message: &'a [u8]) -> Result<Reader<'a>, Malformed> {
        if message.is_empty() {
            Err("The message is empty.")
        } else if message.contains(&0) {
            Err("Message length does not match input length.")
        } else {
            Ok(Reader { rest: message })
        }
    }

    /// What was not read yet.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The next byte, which is not taken.
    pub(super) fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    /// Takes one byte, which must be this one.
    pub(super) fn byte(&mut self, expected: u8, missing: Malformed) -> Result<(), Malformed> {
        match self.rest.split_first() {
            Some((first, rest)) if *first == expected => {
                self.rest = rest;
                Ok(())
            }
            _ => Err(missing),
        }
    }

    /// Takes the attribute of this letter and gives its value.
    pub(super) fn attribute(&mut self, letter: u8) -> Result<&'a [u8], Malformed> {
        if self.peek() != Some(letter) {
            return Err("Another attribute was expected.");
        }
        self.any().map(|(_, value)| value)
    }

    /// Takes the next attribute, whatever it is.
    pub(super) fn any(&mut self) -> Result<(u8, &'a [u8]), Malformed> {
        let (letter, rest) = match self.rest {
            [letter, b'=', rest @ ..] if letter.is_ascii_alphabetic() => (*letter, rest),
            [letter, ..] if letter.is_ascii_alphabetic() => {
                return Err("Expected character \"=\" for an attribute.");
            }
            _ => return Err("Attribute expected, but found invalid character."),
        };
        let end = rest.iter().position(|byte| *byte == b',');
        let (value, rest) = match end {
            Some(end) => (&rest[..end], &rest[end + 1..]),
            None => (rest, &rest[rest.len()..]),
        };
        self.rest = rest;
        Ok((letter, value))
    }
}

/// Whether a nonce holds only what one may: printable ASCII but the comma.
pub(super) fn is_nonce(value: &[u8]) -> bool {
    !value.is_empty()
        && value
            .iter()
            .all(|byte| byte.is_ascii_graphic() && *byte != b',')
}
