//! The dashboard: one page and what it needs, carried in the binary.
//!
//! Its files are the same for everybody and say nothing about any database, so that they need no token;
//! what they ask for afterwards does. The policy that goes with the page lets it speak to this origin
//! alone, and has no place for HTML that a script puts together (Trusted Types): what a session sent can
//! become text and nothing else.

use hyper::StatusCode;
use hyper::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderMap, HeaderName, HeaderValue,
    IF_NONE_MATCH, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use sha2::{Digest, Sha256};

use super::api::ApiError;
use super::types::PIDS_MAX;

/// What the page may do (Content Security Policy Level 3, and Trusted Types).
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
    require-trusted-types-for 'script'; trusted-types 'none'";

/// A file of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asset {
    name: &'static str,
    content_type: &'static str,
    text: &'static str,
}

/// Names a file beside this one.
macro_rules! asset {
    ($name:literal, $content_type:expr) => {
        Asset {
            name: $name,
            content_type: $content_type,
            text: include_str!($name),
        }
    };
}

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

/// What is at `/`.
const PAGE: Asset = asset!("index.html", HTML);

/// What is below `/dashboard/`.
const FILES: &[Asset] = &[
    asset!("style.css", CSS),
    asset!("icon.svg", SVG),
    asset!("app.js", JS),
    asset!("api.js", JS),
    asset!("cap.js", JS),
    asset!("dialog.js", JS),
    asset!("drain.js", JS),
    asset!("draw.js", JS),
    asset!("events.js", JS),
    asset!("figures.js", JS),
    asset!("format.js", JS),
    asset!("may.js", JS),
    asset!("migrate.js", JS),
    asset!("mode.js", JS),
    asset!("precheck.js", JS),
    asset!("runs.js", JS),
    asset!("sessions.js", JS),
    asset!("settings.js", JS),
    asset!("state.js", JS),
    asset!("statements.js", JS),
    asset!("view.js", JS),
    asset!("windows.js", JS),
    asset!("words.js", JS),
];

/// The page.
pub(super) fn page() -> Asset {
    PAGE
}

/// A file that the page asks for, by the last part of its path.
pub(super) fn file(name: &str) -> Option<Asset> {
    FILES.iter().find(|it| it.name == name).copied()
}

impl Asset {
    /// Status, headers and body for a request with these headers; the body is empty when the browser has it.
    pub(super) fn answer(
        self,
        request: &HeaderMap,
    ) -> (StatusCode, Vec<(HeaderName, HeaderValue)>, &'static str) {
        let tag = self.tag();
        let known = request.get_all(IF_NONE_MATCH).iter();
        let mut known = known.filter_map(|it| it.to_str().ok());
        let has_it = known.any(|it| it.split(',').any(|one| one.trim() == tag));
        let mut headers: Vec<_> = [
            (CONTENT_TYPE, self.content_type),
            (CONTENT_SECURITY_POLICY, POLICY),
            // It is asked each time whether it is still the same, for pgdrain may be another one by then.
            (CACHE_CONTROL, "no-cache"),
            (X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (X_FRAME_OPTIONS, "DENY"),
            (REFERRER_POLICY, "no-referrer"),
            (
                HeaderName::from_static("cross-origin-opener-policy"),
                "same-origin",
            ),
            (
                HeaderName::from_static("cross-origin-resource-policy"),
                "same-origin",
            ),
        ]
        .into_iter()
        .map(|(name, value)| (name, HeaderValue::from_static(value)))
        .collect();
        if let Ok(tag) = HeaderValue::try_from(tag) {
            headers.push((ETAG, tag));
        }
        match has_it {
            true => (StatusCode::NOT_MODIFIED, headers, ""),
            false => (StatusCode::OK, headers, self.text),
        }
    }

    /// Names its text: another text has another tag.
    fn tag(self) -> String {
        let hash = Sha256::digest(self.text);
        let hash: String = hash
            .iter()
            .take(12)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        format!("\"{hash}\"")
    }
}

/// The process ids of a question, parted by commas: at least one, and not too many.
pub(super) fn pids(text: &str) -> Result<Vec<i32>, ApiError> {
    let pids: Result<Vec<i32>, _> = text.split(',').map(str::parse).collect();
    match pids {
        Ok(pids) if pids.len() <= PIDS_MAX => Ok(pids),
        Ok(_) | Err(_) => Err(ApiError::bad_request(format!(
            "pids are process ids parted by commas, at most {PIDS_MAX}."
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn process_ids_are_numbers_and_not_too_many() {
        assert_eq!(pids("7"), Ok(vec![7]));
        assert_eq!(pids("7,12"), Ok(vec![7, 12]));
        let many = ["1"; PIDS_MAX + 1].join(",");
        for text in ["", "7,", "x", "7 or 1", "99999999999", &many] {
            let refused = pids(text).expect_err(text);
            assert_eq!(refused.code, "bad_request", "{text}");
        }
    }

    fn all() -> impl Iterator<Item = Asset> {
        FILES.iter().copied().chain([PAGE])
    }

    #[test]
    fn every_file_beside_this_one_is_served_as_what_it_is() {
        let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/src/admin/dashboard");
        let mut names: Vec<String> = std::fs::read_dir(directory)
            .expect("our own sources")
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| name != "mod.rs")
            .collect();
        let mut served: Vec<_> = all().map(|it| it.name.to_owned()).collect();
        names.sort();
        served.sort();
        assert_eq!(names, served);
        for asset in all() {
            let extension = asset.name.rsplit('.').next();
            let expected = match asset.content_type {
                HTML => "html",
                CSS => "css",
                JS => "js",
                _ => "svg",
            };
            assert_eq!(extension, Some(expected), "{}", asset.name);
        }
        assert_eq!(file("mod.rs"), None);
        assert_eq!(file("index.html"), None, "it is at / alone");
        assert_eq!(file(""), None);
    }

    #[test]
    fn what_files_name_is_served_and_nothing_else_is_named() {
        for asset in all() {
            for (at, _) in asset.text.match_indices("/dashboard/") {
                let rest = &asset.text[at + "/dashboard/".len()..];
                let name: String = rest
                    .chars()
                    .take_while(|it| !"\"'`".contains(*it))
                    .collect();
                assert!(file(&name).is_some(), "{} names {name}", asset.name);
            }
            for (at, _) in asset.text.match_indices("from './") {
                let rest = &asset.text[at + "from './".len()..];
                let name: String = rest.chars().take_while(|it| *it != '\'').collect();
                assert!(file(&name).is_some(), "{} imports {name}", asset.name);
            }
            // Names of XML are no addresses.
            let text = asset.text.replace("http://www.w3.org/2000/svg", "");
            for elsewhere in ["http://", "https://", "url(", "@import", "//cdn"] {
                assert!(!text.contains(elsewhere), "{}: {elsewhere}", asset.name);
            }
        }
    }

    #[test]
    fn nothing_is_inline_and_no_text_becomes_html() {
        let page = PAGE.text;
        assert_eq!(
            page.matches("<script").count(),
            page.matches("<script type=\"module\" src=").count()
        );
        for inline in ["<style", " style=", " onclick=", " onload=", "javascript:"] {
            assert!(!page.contains(inline), "{inline}");
        }
        for asset in FILES.iter().filter(|it| it.content_type == JS) {
            for way in [
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "document.write",
                "eval(",
                "DOMParser",
                "localStorage",
            ] {
                assert!(!asset.text.contains(way), "{}: {way}", asset.name);
            }
        }
    }

    #[test]
    fn the_policy_lets_it_speak_to_us_alone() {
        let (status, headers, body) = PAGE.answer(&HeaderMap::new());
        let header = |name: HeaderName| {
            let found = headers.iter().find(|(it, _)| *it == name);
            found
                .and_then(|(_, value)| value.to_str().ok())
                .unwrap_or_default()
        };
        assert_eq!((status, body), (StatusCode::OK, PAGE.text));
        let policy = header(CONTENT_SECURITY_POLICY);
        for directive in [
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "connect-src 'self'",
            "frame-ancestors 'none'",
            "base-uri 'none'",
            "form-action 'none'",
            "require-trusted-types-for 'script'",
        ] {
            assert!(policy.split("; ").any(|it| it == directive), "{directive}");
        }
        for lax in ["unsafe", "*", "http", "data:", "blob:"] {
            assert!(!policy.contains(lax), "{lax}");
        }
        assert_eq!(header(X_CONTENT_TYPE_OPTIONS), "nosniff");
        assert_eq!(header(REFERRER_POLICY), "no-referrer");
        assert_eq!(header(CACHE_CONTROL), "no-cache");
    }

    #[test]
    fn what_a_browser_has_is_not_sent_again() {
        let (_, headers, _) = PAGE.answer(&HeaderMap::new());
        let tag = headers.iter().find(|(name, _)| *name == ETAG);
        let tag = tag.map(|(_, value)| value.clone()).expect("a tag");
        let with = |value: HeaderValue| HeaderMap::from_iter([(IF_NONE_MATCH, value)]);
        let (status, headers, body) = PAGE.answer(&with(tag.clone()));
        assert_eq!((status, body), (StatusCode::NOT_MODIFIED, ""));
        assert!(headers.contains(&(ETAG, tag)));
        let (status, ..) = PAGE.answer(&with(HeaderValue::from_static("\"another\"")));
        assert_eq!(status, StatusCode::OK);
        let tags: std::collections::BTreeSet<_> = all().map(Asset::tag).collect();
        assert_eq!(tags.len(), FILES.len() + 1);
    }
}
