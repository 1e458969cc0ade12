//! A window's key in a start-up packet: found in `options` or `application_name`, and taken off.
//!
//! The server would refuse the setting, log it, or show it to everybody in `pg_stat_activity`.

use std::fmt;

use super::startup::Startup;

/// What a client writes before the window and its secret.
pub const NAME: &str = "pgdrain.window";

const OPTIONS: &str = "options";
const APPLICATION_NAME: &str = "application_name";

/// A window and its secret, as a client shows them.
#[derive(Clone, PartialEq, Eq)]
pub struct WindowKey {
    /// The window.
    pub window: String,
    /// Its secret.
    pub secret: String,
}

impl fmt::Debug for WindowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WindowKey {{ window: {:?}, secret: *** }}", self.window)
    }
}

impl WindowKey {
    /// `ID.SECRET`. What is none has no secret, which is nobody's.
    fn parse(text: &[u8]) -> WindowKey {
        let text = String::from_utf8_lossy(text);
        let (window, secret) = text.split_once('.').unwrap_or((&text, ""));
        WindowKey {
            window: window.to_owned(),
            secret: secret.to_owned(),
        }
    }
}

/// Takes a window's key off a start-up packet: the packet without it, and the key. `None` where none
/// is shown. Where several are, the last one counts, as with any setting, and all are taken off; one
/// in `options` counts before one in `application_name`.
#[must_use]
pub fn take(startup: &Startup) -> Option<(Startup, WindowKey)> {
    let from_options = startup
        .parameter_bytes(OPTIONS)
        .and_then(|options| take_from(options, in_options));
    let from_name = startup
        .parameter_bytes(APPLICATION_NAME)
        .and_then(|name| take_from(name, in_name));
    let key = [&from_options, &from_name]
        .into_iter()
        .flatten()
        .next()
        .map(|(_, key)| key.clone())?;
    let mut left = startup.clone();
    if let Some((rest, _)) = from_options {
        left = match rest.is_empty() {
            true => left.without_parameter(OPTIONS),
            false => left.with_parameter(OPTIONS, &rest)?,
        };
    }
    let name = match from_name {
        Some((rest, _)) => rest,
        None => left
            .parameter_bytes(APPLICATION_NAME)
            .unwrap_or_default()
            .to_vec(),
    };
    let name = match name.is_empty() {
        // The window's name is no secret, and says in the server who this is.
        true => format!("pgdrain window {}", shown(&key.window)).into_bytes(),
        false => name,
    };
    // What a key leaves is shorter than what it stood in, but for a packet at the limit.
    let left = left.with_parameter(APPLICATION_NAME, &name).unwrap_or(left);
    Some((left, key))
}

/// A name that came from a stranger, as far as it can be one of ours.
fn shown(window: &str) -> String {
    let plain = window.chars().filter(char::is_ascii_alphanumeric);
    plain.take(17).collect()
}

/// What is left of a text, and the key in it. The words of both parameters are parted by blanks,
/// and a backslash takes the next byte as it is (`pg_split_opts` of the server).
fn take_from(
    text: &[u8],
    find: fn(&[u8], Option<&[u8]>) -> Option<Found>,
) -> Option<(Vec<u8>, WindowKey)> {
    if !text
        .windows(NAME.len())
        .any(|part| part.eq_ignore_ascii_case(NAME.as_bytes()))
    {
        return None;
    }
    let words = words(text);
    let (mut key, mut rest, mut at) = (None, Vec::new(), 0);
    while let Some(word) = words.get(at) {
        match find(word, words.get(at + 1).copied()) {
            Some(found) => {
                key = Some(WindowKey::parse(&found.value));
                at += found.words;
            }
            None => {
                if !rest.is_empty() {
                    rest.push(b' ');
                }
                rest.extend_from_slice(word);
                at += 1;
            }
        }
    }
    key.map(|key| (rest, key))
}

/// A key, and in how many words it stood.
struct Found {
    value: Vec<u8>,
    words: usize,
}

/// `-c NAME=VALUE`, `-cNAME=VALUE` or `--NAME=VALUE`, as the server reads them.
fn in_options(word: &[u8], next: Option<&[u8]>) -> Option<Found> {
    if word == b"-c" {
        let value = value(next?)?;
        return Some(Found { value, words: 2 });
    }
    let setting = word.strip_prefix(b"--").or(word.strip_prefix(b"-c"))?;
    let value = value(setting)?;
    Some(Found { value, words: 1 })
}

/// `NAME=VALUE` among the words of a name.
fn in_name(word: &[u8], _next: Option<&[u8]>) -> Option<Found> {
    let value = value(word)?;
    Some(Found { value, words: 1 })
}

fn value(setting: &[u8]) -> Option<Vec<u8>> {
    let (name, value) = setting.split_at_checked(NAME.len())?;
    let value = value.strip_prefix(b"=")?;
    name.eq_ignore_ascii_case(NAME.as_bytes())
        .then(|| unescaped(value))
}

fn words(text: &[u8]) -> Vec<&[u8]> {
    let (mut words, mut begin, mut escaped) = (Vec::new(), None, false);
    for (at, byte) in text.iter().enumerate() {
        let blank = !escaped && (byte.is_ascii_whitespace() || *byte == 0x0b);
        escaped = !escaped && *byte == b'\\';
        match (blank, begin) {
            (true, Some(from)) => {
                words.push(&text[from..at]);
                begin = None;
            }
            (false, None) => begin = Some(at),
            (true, None) | (false, Some(_)) => {}
        }
    }
    words.extend(begin.map(|from| &text[from..]));
    words
}

fn unescaped(value: &[u8]) -> Vec<u8> {
    let (mut plain, mut bytes) = (Vec::new(), value.iter());
    while let Some(byte) = bytes.next() {
        let byte = if *byte == b'\\' {
            bytes.next()
        } else {
            Some(byte)
        };
        plain.extend(byte);
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::super::startup::{First, parse};
    use super::*;
    use proptest::prelude::*;

    fn startup(parameters: &[(&str, &str)]) -> Startup {
        let mut body = 0x0003_0000_u32.to_be_bytes().to_vec();
        for text in parameters.iter().flat_map(|(name, value)| [name, value]) {
            body.extend_from_slice(text.as_bytes());
            body.push(0);
        }
        body.push(0);
        let length = u32::try_from(body.len() + 4).expect("short");
        match parse(&[&length.to_be_bytes()[..], &body].concat()) {
            Ok(First::Startup(startup)) => startup,
            other => panic!("not a start-up packet: {other:?}"),
        }
    }

    fn taken(parameters: &[(&str, &str)]) -> Option<(Option<String>, Option<String>, String)> {
        let all = [&[("user", "anna"), ("database", "shop")], parameters].concat();
        let (left, key) = take(&startup(&all))?;
        assert_eq!((left.user(), left.database()), ("anna", "shop"));
        let value = |name| left.parameter(name).map(str::to_owned);
        let key = format!("{}.{}", key.window, key.secret);
        Some((value(OPTIONS), value(APPLICATION_NAME), key))
    }

    #[test]
    fn a_key_is_taken_off_wherever_it_stands() {
        let own = Some("pgdrain window w1".to_owned());
        let some = |text: &str| Some(text.to_owned());
        for (options, left) in [
            ("-c pgdrain.window=w1.s", None),
            ("-cpgdrain.window=w1.s", None),
            ("--pgdrain.window=w1.s", None),
            ("  --PgDrain.Window=w1.s ", None),
            ("-c\tpgdrain.window=w1\\.s", None),
            (
                "-c a=b -c pgdrain.window=w1.s -c c=d\\ e",
                some("-c a=b -c c=d\\ e"),
            ),
            (
                "-c pgdrain.window=w0.x --pgdrain.window=w1.s -c a=b",
                some("-c a=b"),
            ),
        ] {
            let expected = Some((left, own.clone(), "w1.s".to_owned()));
            assert_eq!(taken(&[(OPTIONS, options)]), expected, "{options}");
        }
        for (name, left) in [
            ("pgdrain.window=w1.s", "pgdrain window w1"),
            ("pgdrain.window=w1.s my app", "my app"),
            ("my pgdrain.window=w1.s app", "my app"),
        ] {
            let expected = Some((None, some(left), "w1.s".to_owned()));
            assert_eq!(taken(&[(APPLICATION_NAME, name)]), expected, "{name}");
        }
        let both = [
            (OPTIONS, "-c pgdrain.window=w1.s"),
            (APPLICATION_NAME, "pgdrain.window=w2.t psql"),
        ];
        assert_eq!(taken(&both), Some((None, some("psql"), "w1.s".to_owned())));
    }

    #[test]
    fn what_is_no_key_stays() {
        for options in [
            "",
            "-c a=pgdrain.window=w1.s",
            "pgdrain.window=w1.s",
            "-c pgdrain.windows=w1.s",
            "-c pgdrain.window",
            "-c",
        ] {
            assert_eq!(taken(&[(OPTIONS, options)]), None, "{options}");
        }
        assert_eq!(taken(&[(APPLICATION_NAME, "xpgdrain.window=w1.s")]), None);
        assert_eq!(taken(&[]), None);
    }

    #[test]
    fn a_key_without_a_secret_is_taken_off_too() {
        let taken = taken(&[(OPTIONS, "-c pgdrain.window=nonsense")]);
        let own = Some("pgdrain window nonsense".to_owned());
        assert_eq!(taken, Some((None, own, "nonsense.".to_owned())));
    }

    #[test]
    fn a_secret_never_shows_in_a_debug_text() {
        let key = WindowKey::parse(b"w1.hidden");
        assert!(!format!("{key:?}").contains("hidden"));
    }

    proptest! {
        #[test]
        fn nothing_of_a_secret_is_left(
            before in "[-c a=\\\\pgdrain.window]{0,20}",
            after in "[-c a=\\\\pgdrain.window]{0,20}",
        ) {
            let options = format!("{before} --pgdrain.window=w1.SECRET {after}");
            if let Some((left, name, _)) = taken(&[(OPTIONS, &options)]) {
                prop_assert!(!left.unwrap_or_default().contains("SECRET"), "{options}");
                prop_assert!(!name.unwrap_or_default().contains("SECRET"));
            }
        }
    }
}
