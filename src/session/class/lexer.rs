//! Cuts a query string into tokens as Postgres 14 to 18 do, as far as the rules over them care.
//!
//! The rules are those of the server's `scan.l`. Where its versions or settings cut differently
//! (backslashes in plain literals, a literal that goes on in the next line, letters behind a number)
//! the token is cut in the way that hides nothing, or is [`Token::Unclear`].

/// A token; what stands inside of literals means nothing to the rules, but for plain ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// An identifier or keyword, as it was written.
    Word(&'a [u8]),
    /// What stands between double quotes; a doubled quote in it is still doubled.
    Quoted(&'a [u8]),
    /// A name with Unicode escapes: `U&"..."`.
    Escaped,
    /// What stands between the quotes of a plain literal; a doubled quote in it is still doubled.
    Text(&'a [u8]),
    /// Any other literal, a number, or a parameter.
    Literal,
    Open,
    Close,
    Comma,
    Dot,
    Semicolon,
    /// A character of an operator, or a bracket.
    Sign(u8),
    /// Cut differently by settings, never closed, or no SQL: the rest means nothing.
    Unclear,
}

/// The tokens of a text, without comments and blanks.
#[derive(Debug, Clone)]
pub(super) struct Tokens<'a> {
    text: &'a [u8],
    at: usize,
    /// The last token was an escape string, which may go on in the next line.
    after_escapes: bool,
    /// How many bytes were looked at, for the test that this is linear.
    #[cfg(test)]
    pub(super) looked_at: usize,
}

const LETTER: u8 = 1;
const DIGIT: u8 = 2;
const DOLLAR: u8 = 4;
const BLANK: u8 = 8;

/// What a byte can be part of. Bytes above ASCII are letters.
const KINDS: [u8; 256] = {
    let mut kinds = [0; 256];
    let mut byte: u8 = 0;
    loop {
        kinds[byte as usize] = match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'_' | 0x80..=0xff => LETTER,
            b'0'..=b'9' => DIGIT,
            b'$' => DOLLAR,
            b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c => BLANK,
            _ => 0,
        };
        if byte == 0xff {
            break;
        }
        byte += 1;
    }
    kinds
};

fn is(byte: u8, kinds: u8) -> bool {
    KINDS[usize::from(byte)] & kinds != 0
}

impl<'a> Tokens<'a> {
    pub(super) fn new(text: &'a [u8]) -> Self {
        Self {
            text,
            at: 0,
            after_escapes: false,
            #[cfg(test)]
            looked_at: 0,
        }
    }

    /// The next token; none at the end of the text.
    pub(super) fn next(&mut self) -> Option<Token<'a>> {
        if !self.skip_blanks() {
            return Some(self.unclear());
        }
        let first = *self.text.get(self.at)?;
        let after_escapes = std::mem::take(&mut self.after_escapes);
        if is(first, LETTER) {
            return Some(self.word(first));
        }
        Some(match first {
            b'(' => self.sign(Token::Open),
            b')' => self.sign(Token::Close),
            b',' => self.sign(Token::Comma),
            b';' => self.sign(Token::Semicolon),
            b'.' => self.sign(Token::Dot),
            b'\'' => self.text(after_escapes),
            b'"' => self.name(),
            b'0'..=b'9' => self.number(),
            b'$' => self.dollar(),
            b'+' | b'-' | b'*' | b'/' | b'<' | b'>' | b'=' | b'~' | b'!' | b'@' | b'#' | b'%'
            | b'^' | b'&' | b'|' | b'`' | b'?' | b':' | b'[' | b']' => {
                self.sign(Token::Sign(first))
            }
            _ => self.unclear(),
        })
    }

    /// The next token, and where it stands.
    #[cfg(test)]
    pub(super) fn next_at(&mut self) -> Option<(Token<'a>, std::ops::Range<usize>)> {
        self.skip_blanks();
        let start = self.at;
        Some((self.next()?, start..self.at))
    }

    /// Goes behind blanks and comments. False when a comment is never closed.
    fn skip_blanks(&mut self) -> bool {
        loop {
            self.skip(BLANK);
            match &self.text[self.at..] {
                [b'-', b'-', line @ ..] => {
                    let end = line.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
                    self.go_to(self.at + 2 + end.unwrap_or(line.len()));
                }
                [b'/', b'*', ..] => {
                    if !self.skip_comment() {
                        return false;
                    }
                }
                _ => return true,
            }
        }
    }

    /// Goes behind a comment, which may hold others. False when it is never closed.
    fn skip_comment(&mut self) -> bool {
        let (mut at, mut depth) = (self.at + 2, 1_usize);
        while depth > 0 {
            match &self.text[at..] {
                [b'/', b'*', ..] => depth += 1,
                [b'*', b'/', ..] => depth -= 1,
                [] => return false,
                _ => {
                    at += 1;
                    continue;
                }
            }
            at += 2;
        }
        self.go_to(at);
        true
    }

    /// A word, or the literal or name whose prefix it is.
    fn word(&mut self, first: u8) -> Token<'a> {
        let next = self.text.get(self.at + 1).copied();
        match (first, next) {
            (b'e' | b'E', Some(b'\'')) => return self.escape_string(),
            (b'b' | b'B' | b'x' | b'X', Some(b'\'')) => {
                return self.closed(1, b'\'', Token::Literal);
            }
            (b'n' | b'N', Some(b'\'')) => {
                self.go_to(self.at + 1);
                let text = self.text(false);
                let clear = text != Token::Unclear;
                return if clear { Token::Literal } else { text };
            }
            (b'u' | b'U', Some(b'&')) => match self.text.get(self.at + 2) {
                Some(b'\'') => return self.closed(2, b'\'', Token::Literal),
                Some(b'"') => return self.closed(2, b'"', Token::Escaped),
                Some(_) | None => {}
            },
            _ => {}
        }
        let start = self.at;
        self.skip(LETTER | DIGIT | DOLLAR);
        Token::Word(&self.text[start..self.at])
    }

    /// A plain literal. Behind an escape string it may be the rest of that.
    fn text(&mut self, after_escapes: bool) -> Token<'a> {
        let Some(inside) = self.inside(0, b'\'') else {
            return self.unclear();
        };
        let backslash = inside.contains(&b'\\');
        if backslash && (after_escapes || hides_a_quote(inside)) {
            return self.unclear();
        }
        Token::Text(inside)
    }

    fn name(&mut self) -> Token<'a> {
        match self.inside(0, b'"') {
            Some(inside) => Token::Quoted(inside),
            None => self.unclear(),
        }
    }

    fn closed(&mut self, prefix: usize, quote: u8, token: Token<'a>) -> Token<'a> {
        match self.inside(prefix, quote) {
            Some(_) => token,
            None => self.unclear(),
        }
    }

    /// Goes behind what a quote encloses, and returns it; a doubled quote goes on with it.
    fn inside(&mut self, prefix: usize, quote: u8) -> Option<&'a [u8]> {
        let start = self.at + prefix + 1;
        let mut at = start;
        loop {
            at += self.text[at..].iter().position(|byte| *byte == quote)?;
            if self.text.get(at + 1) != Some(&quote) {
                self.go_to(at + 1);
                return Some(&self.text[start..at]);
            }
            at += 2;
        }
    }

    /// `E'...'`, where a backslash takes the next character with it.
    fn escape_string(&mut self) -> Token<'a> {
        let mut at = self.at + 2;
        loop {
            let special = |byte: &u8| matches!(byte, b'\'' | b'\\');
            let Some(found) = self.text[at..].iter().position(special) else {
                return self.unclear();
            };
            at += found;
            match (self.text[at], self.text.get(at + 1)) {
                // In some client encodings this is the second byte of a character.
                (b'\\', Some(_)) if self.text[at - 1] >= 0x80 => return self.unclear(),
                (b'\\', Some(_)) | (b'\'', Some(b'\'')) => at += 2,
                (b'\\', None) => return self.unclear(),
                _ => {
                    self.go_to(at + 1);
                    self.after_escapes = true;
                    return Token::Literal;
                }
            }
        }
    }

    /// Digits, a fraction, an exponent. A word right behind it stands for itself, as up to version
    /// 14; later versions refuse it.
    fn number(&mut self) -> Token<'a> {
        self.skip(DIGIT);
        if self.text.get(self.at) == Some(&b'.') {
            self.go_to(self.at + 1);
            self.skip(DIGIT);
        }
        let rest = &self.text[self.at..];
        let exponent = match rest {
            [b'e' | b'E', b'+' | b'-', digit, ..] if digit.is_ascii_digit() => 2,
            [b'e' | b'E', digit, ..] if digit.is_ascii_digit() => 1,
            _ => return Token::Literal,
        };
        self.go_to(self.at + exponent);
        self.skip(DIGIT);
        Token::Literal
    }

    /// A parameter, or a literal in dollar quotes.
    fn dollar(&mut self) -> Token<'a> {
        let start = self.at;
        self.go_to(start + 1);
        if self.text.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.skip(DIGIT);
            return Token::Literal;
        }
        self.skip(LETTER | DIGIT);
        if self.text.get(self.at) != Some(&b'$') {
            return self.unclear();
        }
        self.go_to(self.at + 1);
        let quote = &self.text[start..self.at];
        // No quote has a dollar inside: what was compared without success is not compared again.
        let mut at = self.at;
        while let Some(found) = self.text[at..].iter().position(|byte| *byte == b'$') {
            at += found;
            if self.text[at..].starts_with(quote) {
                self.go_to(at + quote.len());
                return Token::Literal;
            }
            at += 1;
        }
        self.unclear()
    }

    fn sign(&mut self, token: Token<'a>) -> Token<'a> {
        self.go_to(self.at + 1);
        token
    }

    /// What comes behind it means nothing.
    fn unclear(&mut self) -> Token<'a> {
        self.go_to(self.text.len());
        Token::Unclear
    }

    fn skip(&mut self, kinds: u8) {
        let rest = &self.text[self.at..];
        let end = rest.iter().position(|byte| !is(*byte, kinds));
        self.go_to(self.at + end.unwrap_or(rest.len()));
    }

    fn go_to(&mut self, at: usize) {
        #[cfg(test)]
        {
            self.looked_at += at - self.at + 1;
        }
        self.at = at;
    }
}

/// Whether a quote of this literal, or its end, would be escaped if backslashes escaped.
fn hides_a_quote(inside: &[u8]) -> bool {
    let mut odd = false;
    for byte in inside {
        match byte {
            b'\\' => odd = !odd,
            b'\'' if odd => return true,
            _ => odd = false,
        }
    }
    odd
}
