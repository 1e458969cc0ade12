//! The part of validation that is about encryption.

use super::address::ListenAddress;
use super::listen::RawListen;
use super::raw::RawTls;
use super::settings::Tls;
use super::surroundings::Surroundings;
use super::upstream::UrlTls;
use super::validate::Check;
use super::words::ClientTls;
use crate::tls::acceptor::Acceptor;
use crate::tls::connector::{Connector, Negotiation, Roots, SslMode};
use crate::tls::files::Identity;

impl Check<'_> {
    /// Reads our certificate for clients.
    pub(super) fn tls(&mut self, raw: &RawTls) -> Tls {
        let wrong = match (&raw.certificate, &raw.key) {
            (Some(_), Some(_)) => None,
            (Some(_), None) => Some(("tls.key", "it is missing: tls.certificate is set")),
            (None, Some(_)) => Some(("tls.certificate", "it is missing: tls.key is set")),
            (None, None) if raw.client_ca.is_some() => {
                Some(("tls.client_ca", "it is set, but tls.certificate is not"))
            }
            (None, None) => None,
        };
        if let Some((key, text)) = wrong {
            self.wrong(key, text);
        }
        let (Some(certificate), Some(key)) = (&raw.certificate, &raw.key) else {
            return Tls::default();
        };
        let client_ca = raw.client_ca.as_deref();
        let acceptor = Identity::read(certificate, key)
            .and_then(|identity| Acceptor::new(identity, client_ca))
            .map_err(|error| self.wrong("tls.certificate", error.to_string()));
        Tls {
            acceptor: acceptor.ok(),
        }
    }

    /// What clients of one address have to do.
    pub(super) fn client_tls(&mut self, listen: &RawListen, raw: &RawTls) -> ClientTls {
        let key = match listen.tls {
            Some(_) => "listen",
            None => "tls.mode",
        };
        if let ListenAddress::Unix(_) = listen.address {
            if listen.tls.is_some_and(|tls| tls != ClientTls::Disable) {
                let text = format!("{}: a Unix socket is never encrypted", listen.address);
                self.wrong(key, text);
            }
            return ClientTls::Disable;
        }
        let default = match raw.certificate {
            Some(_) => ClientTls::Allow,
            None => ClientTls::Disable,
        };
        let asked = listen.tls.or(raw.mode).unwrap_or(default);
        let missing = match asked {
            ClientTls::Disable => None,
            ClientTls::Allow | ClientTls::Require => {
                raw.certificate.is_none().then_some("tls.certificate")
            }
            ClientTls::VerifyCa | ClientTls::VerifyFull => {
                raw.client_ca.is_none().then_some("tls.client_ca")
            }
        };
        if let Some(missing) = missing {
            let text = format!("{}: \"{asked}\" needs {missing}", listen.address);
            self.wrong(key, text);
        }
        asked
    }

    /// How a server is encrypted, from the parameters of its URL and the files where libpq looks.
    pub(super) fn server_tls(
        &mut self,
        key: &str,
        url: &UrlTls,
        around: &Surroundings,
    ) -> Connector {
        let roots = match (url.root_cert.as_deref(), around.libpq_file("root.crt")) {
            (Some("system"), _) => Roots::System,
            (Some(path), _) => Roots::File(path.into()),
            (None, Some(path)) if path.exists() => Roots::File(path),
            (None, _) => Roots::None,
        };
        // As in libpq: whoever trusts all the world's authorities must compare names.
        let default = match roots {
            Roots::System => SslMode::VerifyFull,
            Roots::None | Roots::File(_) => SslMode::Prefer,
        };
        let mode = url.mode.unwrap_or(default);
        if let Some(text) = contradiction(&roots, mode, url.negotiation) {
            self.wrong(key, text);
            return Connector::disabled();
        }
        let identity = match mode {
            SslMode::Disable => Ok(None),
            SslMode::Allow
            | SslMode::Prefer
            | SslMode::Require
            | SslMode::VerifyCa
            | SslMode::VerifyFull => server_identity(url, around),
        };
        let connector = identity.and_then(|identity| {
            Connector::new(mode, url.negotiation, &roots, identity)
                .map_err(|error| format!("sslrootcert or sslcert: {error}"))
        });
        connector.unwrap_or_else(|text| {
            self.wrong(key, text);
            Connector::disabled()
        })
    }
}

/// What libpq refuses too.
fn contradiction(roots: &Roots, mode: SslMode, negotiation: Negotiation) -> Option<&'static str> {
    match (roots, mode, negotiation) {
        (Roots::System, mode, _) if mode != SslMode::VerifyFull => {
            Some("sslrootcert=system needs sslmode=verify-full")
        }
        (Roots::None, SslMode::VerifyCa | SslMode::VerifyFull, _) => Some(
            "its sslmode verifies, but there is no root certificate; set sslrootcert to a file or \
             to system",
        ),
        (_, mode, Negotiation::Direct) if mode < SslMode::Require => {
            Some("sslnegotiation=direct needs sslmode=require or more")
        }
        _ => None,
    }
}

/// The certificate that we show to a server: the named one, or the one where libpq looks.
fn server_identity(url: &UrlTls, around: &Surroundings) -> Result<Option<Identity>, String> {
    let file = |named: &Option<String>, default| {
        let named = named.as_ref().map(Into::into);
        named.or_else(|| around.libpq_file(default))
    };
    let certificate = file(&url.cert, "postgresql.crt");
    let certificate = certificate.filter(|path| url.cert.is_some() || path.exists());
    let Some(certificate) = certificate else {
        return Ok(None);
    };
    let key = file(&url.key, "postgresql.key").ok_or("sslcert is set, but sslkey is not")?;
    let identity = Identity::read(&certificate, &key);
    identity
        .map(Some)
        .map_err(|error| format!("sslcert or sslkey: {error}"))
}
