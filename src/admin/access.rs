//! Who may ask: what a request shows, and what may be done where it came in.
//!
//! Programs of this machine may do what `admin.local` says without showing anything, but not the web
//! pages that its users look at: a browser can reach loopback on behalf of any page, by a request to
//! another site or by a name that was made to point to 127.0.0.1, and both give themselves away by their
//! headers. Whoever comes from elsewhere shows a token or a certificate. Who shows a token is who it
//! says, on this machine too.

use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use hyper::header::{AUTHORIZATION, FORWARDED, HOST, HeaderMap, HeaderName, ORIGIN, VIA};
use jiff::Timestamp;

use super::api::ApiError;
use super::caller::Caller;
use super::failures::Failures;
use crate::audit::{Audit, Event, Kind};
use crate::client::admin::Came;
use crate::config::{Admin, Permission, Shared, Token, TokenHash};
use crate::metrics::{Metrics, Refusal};
use crate::tls::Names;
use crate::tls::acceptor::Acceptor;

/// What proxies in front of us add: who comes by one may be anybody, wherever the proxy runs.
const ADDED_BY_PROXIES: [HeaderName; 4] = [
    FORWARDED,
    VIA,
    HeaderName::from_static("x-forwarded-for"),
    HeaderName::from_static("x-real-ip"),
];

/// Of a name in a certificate so much is told: whoever has it signed may write a book into it.
const SHOWN_MAX: usize = 100;

/// What each caller may do; see the module.
pub struct Access {
    settings: Settings,
    failures: Mutex<Failures>,
    /// Where it is told who was refused.
    told: Option<(Arc<Audit>, Arc<Metrics>)>,
}

enum Settings {
    /// Those in use, also after a reload.
    Shared(Arc<Shared>),
    /// These.
    Fixed(Box<Admin>),
}

/// The connection that a request came by.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) came: Came,
    /// The names in a certificate that an authority of ours has signed.
    pub(super) names: Option<Names>,
}

impl Access {
    /// As it is configured, at each request anew.
    #[must_use]
    pub fn of(config: Arc<Shared>) -> Access {
        Access::with(Settings::Shared(config))
    }

    /// As it is configured here.
    #[must_use]
    pub fn fixed(admin: Admin) -> Access {
        Access::with(Settings::Fixed(Box::new(admin)))
    }

    /// Programs of this machine may do these, and nobody else anything.
    #[must_use]
    pub fn local(local: &[Permission]) -> Access {
        Access::fixed(Admin {
            local: local.to_vec(),
            ..Admin::default()
        })
    }

    fn with(settings: Settings) -> Access {
        Access {
            settings,
            failures: Mutex::default(),
            told: None,
        }
    }

    /// The same, telling of those who are refused.
    #[must_use]
    pub fn telling(self, audit: Arc<Audit>, metrics: Arc<Metrics>) -> Access {
        Access {
            told: Some((audit, metrics)),
            ..self
        }
    }

    fn look<T>(&self, at: impl FnOnce(&Admin) -> T) -> T {
        match &self.settings {
            Settings::Shared(config) => at(&config.load().admin),
            Settings::Fixed(admin) => at(admin),
        }
    }

    /// What answers the handshakes of those who come from other machines.
    pub(super) fn acceptor(&self) -> Option<Acceptor> {
        self.look(|admin| admin.acceptor.clone())
    }

    /// Whether a request was meant for us, whoever sent it.
    ///
    /// # Errors
    /// 403 for a web page of another site.
    pub(super) fn screen(&self, headers: &HeaderMap, peer: &Peer) -> Result<(), ApiError> {
        let schemes = match (peer.came.local, came_by_a_proxy(headers)) {
            (false, _) => &["https://"][..],
            (true, false) => &["http://"],
            (true, true) => &["http://", "https://"],
        };
        self.look(|admin| check(headers, &admin.hosts, schemes))
            .inspect_err(|_refused| self.count(Refusal::OtherSite))
    }

    /// Who sent a request with these headers.
    ///
    /// # Errors
    /// 401 for a token that is none of ours or has expired, and 429 for too many of the former from one
    /// address.
    pub(super) fn caller(&self, headers: &HeaderMap, peer: &Peer) -> Result<Caller, ApiError> {
        let shown = self.look(|admin| admin.show_constants);
        let caller = self.known(headers, peer)?;
        Ok(caller.shown_constants(shown))
    }

    fn known(&self, headers: &HeaderMap, peer: &Peer) -> Result<Caller, ApiError> {
        let from = peer.came.from.as_str();
        if let Some(shown) = headers.get(AUTHORIZATION) {
            let hash = shown.to_str().ok().and_then(bearer).and_then(TokenHash::of);
            let known = hash.and_then(|hash| self.look(|admin| by_token(admin, &hash)));
            let Some(token) = known else {
                return Err(self.unknown(peer));
            };
            if token.expires.is_some_and(|end| end <= Timestamp::now()) {
                return Err(self.expired(peer, &token.name));
            }
            let caller = Caller::known(from, token.name.as_str(), token.role);
            return Ok(caller.approving(&token.approves));
        }
        if let Some(names) = &peer.names {
            let found = self.look(|admin| by_names(admin, names, from));
            if let Some(caller) = found {
                return Ok(caller);
            }
            let shown = names.common.as_ref().or(names.alternative.first());
            let shown = shown.map_or("", String::as_str);
            self.certificate(&peer.came, shown, "its name is none of admin.clients");
        }
        let trusted = peer.came.local && !came_by_a_proxy(headers);
        Ok(match trusted {
            true => self.look(|admin| Caller::unnamed(from, &admin.local)),
            false => Caller::unnamed(from, &[]),
        })
    }

    /// Notes that a certificate was not taken: the name in it, as far as it is known, and why.
    pub(super) fn certificate(&self, came: &Came, shown: &str, why: &str) {
        self.count(Refusal::Certificate);
        if !self.one_too_many(came.ip) {
            let from = came.from.as_str();
            tracing::warn!(from, shown, why, "the admin HTTP took no certificate");
        }
        let shown: String = shown.chars().take(SHOWN_MAX).collect();
        let whose = match shown.is_empty() {
            true => String::new(),
            false => format!(" of {shown:?}"),
        };
        self.tell(came, None, &format!("a certificate{whose}: {why}"));
    }

    /// Notes that somebody may not do what was asked for.
    pub(super) fn not_permitted(&self) {
        self.count(Refusal::Permission);
    }

    /// Answers a token whose end has passed; who shows it had it once, so that no more is told than that.
    fn expired(&self, peer: &Peer, name: &str) -> ApiError {
        self.count(Refusal::ExpiredToken);
        let Came { from, ip, .. } = &peer.came;
        if !self.one_too_many(*ip) {
            tracing::warn!(
                from,
                name,
                "the admin HTTP was shown a token that has expired"
            );
        }
        self.tell(&peer.came, Some(name), "a token that has expired");
        ApiError::unauthorized("The token has expired; ask for a new one.")
    }

    /// Answers a token that is none of ours, and says so in the log unless that has become too often.
    fn unknown(&self, peer: &Peer) -> ApiError {
        self.count(Refusal::UnknownToken);
        self.tell(&peer.came, None, "a token that is not known");
        let Came { from, ip, .. } = &peer.came;
        if self.one_too_many(*ip) {
            return ApiError::too_many_failures();
        }
        tracing::warn!(
            from,
            "the admin HTTP was shown a token that it does not know"
        );
        ApiError::unauthorized(
            "The token is none of admin.tokens, or this is no \"Authorization: Bearer TOKEN\".",
        )
    }

    fn count(&self, why: Refusal) {
        if let Some((_, metrics)) = &self.told {
            metrics.access_refused(why);
        }
    }

    fn tell(&self, came: &Came, name: Option<&str>, what: &str) {
        if let Some((audit, _)) = &self.told {
            let event = Event {
                by: name.map(str::to_owned),
                from: Some(came.from.clone()),
                outcome: Some(format!("refused: {what}")),
                ..Event::here(Kind::Access)
            };
            audit.refused(came.ip, event);
        }
    }

    fn one_too_many(&self, from: Option<IpAddr>) -> bool {
        // Every change is whole, so a panic elsewhere leaves nothing half-done.
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.one_too_many(from, Instant::now())
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access").finish_non_exhaustive()
    }
}

/// The token of a header (RFC 6750, section 2.1).
fn bearer(shown: &str) -> Option<&str> {
    let (scheme, token) = shown.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then(|| token.trim_matches(' '))
}

/// Looks at all of them, whichever it is, so that time tells nothing.
fn by_token(admin: &Admin, hash: &TokenHash) -> Option<Token> {
    let mut found = None;
    for token in &admin.tokens {
        if token.sha256.is(hash) {
            found = Some(token);
        }
    }
    found.cloned()
}

fn by_names(admin: &Admin, names: &Names, from: &str) -> Option<Caller> {
    let is =
        |name: &String| names.common.as_ref() == Some(name) || names.alternative.contains(name);
    let client = admin.clients.iter().find(|client| is(&client.name))?;
    let caller = Caller::known(from, client.name.as_str(), client.role);
    Some(caller.approving(&client.approves))
}

fn came_by_a_proxy(headers: &HeaderMap) -> bool {
    ADDED_BY_PROXIES
        .iter()
        .any(|name| headers.contains_key(name))
}

/// Refuses what a web page of another site sent.
fn check(headers: &HeaderMap, hosts: &[String], schemes: &[&str]) -> Result<(), ApiError> {
    let text = |name| match headers.get(name) {
        Some(value) => Some(value.to_str().unwrap_or("")),
        None => None,
    };
    // HTTP/1.0 knows no Host; no browser speaks that.
    let host = text(HOST);
    if host.is_some_and(|host| !is_literal(host) && !is_one_of(hosts, host)) {
        return Err(ApiError::forbidden(
            "The Host of this request is no IP address, not localhost, and none of admin.hosts.",
        ));
    }
    let ours = |origin: &str, host| {
        let mut schemes = schemes.iter();
        schemes.any(|scheme| origin.strip_prefix(scheme) == Some(host))
    };
    match (text(ORIGIN), host) {
        (None, _) => Ok(()),
        (Some(origin), Some(host)) if ours(origin, host) => Ok(()),
        (Some(_), _) => Err(ApiError::forbidden(
            "This request comes from a web page of another site.",
        )),
    }
}

/// A host without its port.
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    }
}

fn is_one_of(hosts: &[String], host: &str) -> bool {
    let name = without_port(host);
    hosts.iter().any(|known| known.eq_ignore_ascii_case(name))
}

/// Whether a host needs no look-up, so that nobody else decides where it points.
fn is_literal(host: &str) -> bool {
    let name = without_port(host);
    let address = name
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(name);
    name.eq_ignore_ascii_case("localhost") || address.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(headers: &[(hyper::header::HeaderName, &str)]) -> bool {
        let headers = headers
            .iter()
            .map(|(name, value)| (name.clone(), value.parse().expect("a header value")));
        check(
            &headers.collect(),
            &["drain.example".to_owned()],
            &["http://"],
        )
        .is_ok()
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
            "drain.example:6433",
            "Drain.Example",
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
            "drain.example.evil.example",
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

    #[test]
    fn what_came_by_a_proxy_is_not_local() {
        let access = Access::local(&[Permission::Look]);
        let peer = Peer {
            came: Came {
                from: "127.0.0.1:5".to_owned(),
                ip: None,
                local: true,
            },
            names: None,
        };
        let may = |name: Option<HeaderName>| {
            let headers = name.into_iter().map(|it| (it, "x".parse().expect("plain")));
            let caller = access.caller(&headers.collect(), &peer).expect("no token");
            caller.may(&[Permission::Look]).is_ok()
        };
        assert!(may(None));
        for name in ADDED_BY_PROXIES {
            assert!(!may(Some(name.clone())), "{name}");
        }
    }
}
