//! Who may ask: programs of this machine, but not web pages that its users look at.
//!
//! The admin HTTP listens on loopback and asks for no password. A browser on the same machine can
//! reach it on behalf of any page, by a request to another site or by a name that was made to point
//! to 127.0.0.1; both give themselves away by their headers.

use std::net::IpAddr;

use hyper::header::{HOST, HeaderMap, ORIGIN};

use super::api::ApiError;
use super::caller::Caller;
use crate::config::Permission;

/// What each caller may do; see the module.
#[derive(Debug)]
pub struct Access {
    /// What may be done on this machine by whoever shows nothing.
    local: Vec<Permission>,
}

impl Access {
    /// Programs of this machine may do these without a token.
    #[must_use]
    pub fn local(local: &[Permission]) -> Access {
        Access {
            local: local.to_vec(),
        }
    }

    /// Who sent a request with these headers.
    ///
    /// # Errors
    /// 403 for a web page of another site.
    pub(super) fn caller(&self, headers: &HeaderMap, from: &str) -> Result<Caller, ApiError> {
        check(headers)?;
        Ok(Caller::unnamed(from, &self.local))
    }
}

/// Refuses what a web page of another site sent.
fn check(headers: &HeaderMap) -> Result<(), ApiError> {
    let text = |name| match headers.get(name) {
        Some(value) => Some(value.to_str().unwrap_or("")),
        None => None,
    };
    // HTTP/1.0 knows no Host; no browser speaks that.
    let host = text(HOST);
    if host.is_some_and(|host| !is_literal(host)) {
        return Err(forbidden(
            "the Host of this request is neither an IP address nor localhost",
        ));
    }
    match (text(ORIGIN), host) {
        (None, _) => Ok(()),
        (Some(origin), Some(host)) if origin.strip_prefix("http://") == Some(host) => Ok(()),
        (Some(_), _) => Err(forbidden(
            "this request comes from a web page of another site",
        )),
    }
}

/// Whether a host needs no look-up, so that nobody else decides where it points.
fn is_literal(host: &str) -> bool {
    let (name, _port) = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => (name, port),
        _ => (host, ""),
    };
    let address = name
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(name);
    name.eq_ignore_ascii_case("localhost") || address.parse::<IpAddr>().is_ok()
}

fn forbidden(message: &str) -> ApiError {
    ApiError::forbidden(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(headers: &[(hyper::header::HeaderName, &str)]) -> bool {
        let headers = headers
            .iter()
            .map(|(name, value)| (name.clone(), value.parse().expect("a header value")));
        check(&headers.collect()).is_ok()
    }

    #[test]
    fn programs_of_this_machine_may_ask() {
        assert!(allowed(&[]));
        for host in [
            "127.0.0.1:6433",
            "localhost:6433",
            "LOCALHOST",
            "[::1]:6433",
            "10.0.0.5:80",
        ] {
            assert!(allowed(&[(HOST, host)]), "{host}");
        }
        assert!(allowed(&[
            (HOST, "127.0.0.1:6433"),
            (ORIGIN, "http://127.0.0.1:6433")
        ]));
    }

    #[test]
    fn web_pages_of_other_sites_may_not() {
        for host in [
            "evil.example",
            "evil.example:6433",
            "127.0.0.1.evil.example:6433",
            "",
        ] {
            assert!(!allowed(&[(HOST, host)]), "{host}");
        }
        for origin in [
            "http://evil.example",
            "null",
            "https://127.0.0.1:6433",
            "http://127.0.0.1:80",
        ] {
            assert!(
                !allowed(&[(HOST, "127.0.0.1:6433"), (ORIGIN, origin)]),
                "{origin}"
            );
        }
    }
}
