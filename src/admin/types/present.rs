//! What traffic may do now, and by which name whoever changes it can refer to that.

use serde::{Deserialize, Serialize};

use super::{HoldStatus, ModeName, ScopeStatus};

/// Answer of `GET /v1/databases/{db}/mode`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModeStates {
    /// Names the modes and holds of all of these together: the `ETag` of the answer, for `If-Match`. How
    /// far drains are does not count.
    pub tag: String,
    /// Each database that was asked for.
    pub databases: Vec<ModeState>,
}

/// What traffic of one database may do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModeState {
    /// The database.
    pub database: String,
    /// What its gate does.
    pub mode: ModeName,
    /// Why it is held; empty when open.
    pub holds: Vec<HoldStatus>,
    /// Holds on some of its clients.
    pub scopes: Vec<ScopeStatus>,
}

/// The condition of a request: the header `If-Match` (RFC 9110, section 13.1.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IfMatch {
    /// `*`: whatever there is.
    Any,
    /// One of these tags, without their quotes.
    OneOf(Vec<String>),
}

impl IfMatch {
    /// Reads the header's text. A weak tag is never the same.
    ///
    /// # Errors
    /// It is no list of tags in quotes, and no star.
    pub fn read(text: &str) -> Result<IfMatch, &'static str> {
        if text.trim() == "*" {
            return Ok(IfMatch::Any);
        }
        let mut tags = Vec::new();
        for tag in text.split(',').map(str::trim) {
            let (strong, quoted) = match tag.strip_prefix("W/") {
                Some(rest) => (false, rest),
                None => (true, tag),
            };
            let tag = quoted.strip_prefix('"').and_then(|it| it.strip_suffix('"'));
            match tag {
                Some(tag) if strong => tags.push(tag.to_owned()),
                Some(_) => {}
                None => return Err("If-Match is * or an ETag in its quotes."),
            }
        }
        Ok(IfMatch::OneOf(tags))
    }

    /// Whether this state will do.
    #[must_use]
    pub fn holds(&self, tag: &str) -> bool {
        match self {
            IfMatch::Any => true,
            IfMatch::OneOf(tags) => tags.iter().any(|it| it == tag),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_is_read_as_the_rfc_has_it() {
        let one = |text: &str| IfMatch::read(text).expect(text);
        assert_eq!(one(" * "), IfMatch::Any);
        assert!(one("\"a\"").holds("a") && !one("\"a\"").holds("b"));
        assert!(one("\"b\", \"a\"").holds("a"));
        assert!(!one("W/\"a\"").holds("a"), "weak tags are for caches");
        for text in ["", "a", "\"a", "\"a\", b"] {
            assert!(IfMatch::read(text).is_err(), "{text}");
        }
    }
}
