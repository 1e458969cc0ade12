//! The client's own `default_transaction_read_only`, while the server has another one because of us: what
//! the server tells of the setting is seen, and kept from the client unless its own has changed.
//!
//! Servers from 14 on report every change of it before they are ready again, whatever has changed it. All
//! the rest of the stream passes as it is, wherever it is cut: only the front of a message that may be one
//! of these waits for its end.

use std::borrow::Cow;

use crate::wire::backend::tag::PARAMETER_STATUS;
use crate::wire::frame::Scanner;

/// The setting by which a server refuses writes in every transaction that begins from then on.
pub(super) const READ_ONLY: &str = "default_transaction_read_only";

/// The bodies of the messages that tell of it; nothing but their length tells that another one is none.
const ON: &[u8] = b"default_transaction_read_only\0on\0";
const OFF: &[u8] = b"default_transaction_read_only\0off\0";

/// What is known of the setting, and the way from the server to a client who is to see its own value.
#[derive(Debug)]
pub(super) struct OwnSetting {
    scanner: Scanner,
    /// What has come of a message that may tell of it.
    begun: Vec<u8>,
    /// What the client had when the server was last told ours.
    own: bool,
    /// What the client believes.
    shown: bool,
    /// What the server has, as far as it has told.
    now: bool,
}

/// What there is to pass on of a chunk.
struct Passed<'a> {
    bytes: &'a [u8],
    /// What passes of the bytes in front of `from`, and what passes before them, if that is not just they.
    before: Option<Vec<u8>>,
    from: usize,
}

impl<'a> Passed<'a> {
    /// These pass later, or never.
    fn cut(&mut self, from: usize, to: usize) {
        let passes = &self.bytes[self.from..from];
        let before = self.before.get_or_insert_default();
        before.extend_from_slice(passes);
        self.from = to;
    }

    /// These come in front of the rest.
    fn insert(&mut self, bytes: &[u8]) {
        let before = self.before.get_or_insert_default();
        before.extend_from_slice(bytes);
    }

    fn end(self) -> Cow<'a, [u8]> {
        let rest = &self.bytes[self.from..];
        match self.before {
            None => Cow::Borrowed(rest),
            Some(mut before) => {
                before.extend_from_slice(rest);
                Cow::Owned(before)
            }
        }
    }
}

impl OwnSetting {
    /// Of a client that has this value itself, and a server that is told to have it on. The server is
    /// between two messages.
    pub(super) fn of(own: bool) -> OwnSetting {
        OwnSetting {
            scanner: Scanner::of_server(),
            begun: Vec::new(),
            own,
            shown: own,
            now: own,
        }
    }

    /// The client had this value when the server was told ours, or has it from now on.
    pub(super) fn set_own(&mut self, own: bool) {
        self.own = own;
    }

    /// The server has done as it was told.
    pub(super) fn set_on(&mut self) {
        self.now = true;
    }

    /// Whether the server has it on, as far as it has told.
    pub(super) fn is_on(&self) -> bool {
        self.now
    }

    /// What the client is told so that it believes what is true, if it does not.
    pub(super) fn correct(&mut self) -> Option<Vec<u8>> {
        if self.shown == self.own {
            return None;
        }
        self.shown = self.own;
        Some(message(if self.own { ON } else { OFF }))
    }

    /// What the client gets of what the server sent.
    pub(super) fn filter<'a>(&mut self, bytes: &'a [u8]) -> Cow<'a, [u8]> {
        let mut at = 0;
        let mut passed = Passed {
            bytes,
            before: None,
            from: 0,
        };
        while at < bytes.len() {
            let from = at;
            if self.scanner.in_body() {
                let whole = self.scanner.body(bytes, &mut at);
                if !self.begun.is_empty() {
                    self.keep(&mut passed, from, at);
                    if whole {
                        self.end(&mut passed);
                    }
                }
                continue;
            }
            match self.scanner.header(bytes, &mut at) {
                Ok(Some(header)) if header.tag == PARAMETER_STATUS => {
                    let length = usize::try_from(header.body).unwrap_or(usize::MAX);
                    if length == ON.len() || length == OFF.len() {
                        self.keep(&mut passed, from, at);
                    } else if !self.begun.is_empty() {
                        // Its front had to wait.
                        passed.insert(&std::mem::take(&mut self.begun));
                    }
                }
                Ok(Some(_)) => {}
                Ok(None) if self.scanner.tag() == Some(PARAMETER_STATUS) => {
                    self.keep(&mut passed, from, at);
                }
                Ok(None) => {}
                // Nobody can tell what follows; whoever read it before us has said so.
                Err(_) => break,
            }
        }
        passed.end()
    }

    /// These bytes of a message wait for its end.
    fn keep(&mut self, passed: &mut Passed<'_>, from: usize, to: usize) {
        self.begun.extend_from_slice(&passed.bytes[from..to]);
        passed.cut(from, to);
    }

    /// The message is whole.
    fn end(&mut self, passed: &mut Passed<'_>) {
        let message = std::mem::take(&mut self.begun);
        let passes = match message.get(5..) {
            Some(ON) => self.told(true),
            Some(OFF) => self.told(false),
            Some(_) | None => true,
        };
        if passes {
            passed.insert(&message);
        }
    }

    /// The server has told this value. True when the client is to know.
    fn told(&mut self, now: bool) -> bool {
        self.now = now;
        // We never turn it off; on, it is as we have put it, or as the client had it.
        let own = now && self.own;
        let news = own != self.shown;
        self.shown = own;
        news
    }
}

/// A whole `ParameterStatus`.
fn message(body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).expect("it is as short as one of the two above");
    [&[PARAMETER_STATUS][..], &length.to_be_bytes(), body].concat()
}

/// The value in the body of a row of one column that the server was asked for by `SHOW`.
#[must_use]
pub(super) fn value_of(row: &[u8]) -> Option<bool> {
    match row {
        b"\0\x01\0\0\0\x02on" => Some(true),
        b"\0\x01\0\0\0\x03off" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tagged(tag: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).expect("test messages are short");
        [&[tag][..], &length.to_be_bytes(), body].concat()
    }

    #[derive(Debug, Clone)]
    enum Says {
        Told(bool),
        /// Something else.
        Other(u8, Vec<u8>),
    }

    fn says() -> impl Strategy<Value = Says> {
        let setting = prop_oneof![
            Just(b"default_transaction_read_onlx\0on\0".to_vec()),
            Just(b"default_transaction_read_only\0offf".to_vec()),
            Just(b"TimeZone\0UTC\0".to_vec()),
            Just(Vec::new()),
        ];
        prop_oneof![
            any::<bool>().prop_map(Says::Told),
            setting.prop_map(|body| Says::Other(b'S', body)),
            (
                prop::sample::select(b"DCZ1AE".to_vec()),
                prop::collection::vec(any::<u8>(), 0..50)
            )
                .prop_map(|(tag, body)| Says::Other(tag, body)),
        ]
    }

    proptest! {
        #[test]
        fn the_client_sees_its_own_value_and_all_the_rest_wherever_the_stream_is_cut(
            own in any::<bool>(),
            said in prop::collection::vec(says(), 0..20),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..30),
        ) {
            let (mut stream, mut wanted) = (Vec::new(), Vec::new());
            let mut shown = own;
            let mut last = own;
            for one in &said {
                let (bytes, passes) = match one {
                    Says::Told(now) => {
                        last = *now;
                        let own = *now && own;
                        let news = own != shown;
                        shown = own;
                        (message(if *now { ON } else { OFF }), news)
                    }
                    Says::Other(tag, body) => (tagged(*tag, body), true),
                };
                stream.extend_from_slice(&bytes);
                if passes {
                    wanted.extend_from_slice(&bytes);
                }
            }
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
            cuts.sort_unstable();
            cuts.push(stream.len());
            let (mut setting, mut got, mut from) = (OwnSetting::of(own), Vec::new(), 0);
            for to in cuts {
                got.extend_from_slice(&setting.filter(&stream[from..to]));
                from = to;
            }
            prop_assert_eq!(got, wanted);
            prop_assert_eq!(setting.is_on(), last);
        }
    }

    #[test]
    fn what_tells_nothing_of_it_is_not_copied() {
        let stream = [tagged(b'D', b"row"), tagged(b'S', b"a\0b\0")].concat();
        let mut setting = OwnSetting::of(false);
        assert!(matches!(setting.filter(&stream), Cow::Borrowed(all) if all == stream));
        // Not either of what had been begun before.
        assert!(matches!(setting.filter(&stream[..6]), Cow::Borrowed(_)));
        assert!(matches!(setting.filter(&stream[6..]), Cow::Borrowed(_)));
    }

    #[test]
    fn an_escape_is_seen_and_nothing_else_is_taken_for_one() {
        let mut setting = OwnSetting::of(false);
        assert!(setting.filter(&message(ON)).is_empty() && setting.is_on());
        assert!(setting.filter(&message(OFF)).is_empty() && !setting.is_on());
        setting.set_on();
        setting.filter(&tagged(b'S', b"default_transaction_read_onlx\0off\0"));
        assert!(setting.is_on() && setting.correct().is_none());
    }

    #[test]
    fn a_client_whose_own_value_was_on_is_told_that_it_is_not_any_more() {
        let mut setting = OwnSetting::of(true);
        setting.set_on();
        // RESET ALL gave it another; we put ours in its place again.
        assert_eq!(setting.filter(&message(OFF)), message(OFF));
        setting.set_own(false);
        assert!(setting.filter(&message(ON)).is_empty());
        assert_eq!(setting.correct(), None);
        setting.set_own(true);
        assert_eq!(setting.correct(), Some(message(ON)));
    }

    #[test]
    fn a_row_tells_the_value() {
        let row = |value: &[u8]| {
            let length = u32::try_from(value.len()).expect("short").to_be_bytes();
            [&[0, 1][..], &length, value].concat()
        };
        assert_eq!(value_of(&row(b"on")), Some(true));
        assert_eq!(value_of(&row(b"off")), Some(false));
        assert_eq!(value_of(&row(b"1")), None);
        assert_eq!(value_of(b""), None);
    }
}
