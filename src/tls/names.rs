//! The names in a certificate.

use std::net::IpAddr;

use rustls::pki_types::CertificateDer;
use x509_cert::Certificate;
use x509_cert::der::Decode;
use x509_cert::der::asn1::ObjectIdentifier;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");

/// Whom a certificate is about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    /// The common name (CN) of its subject, if there is exactly one and it is a plain text.
    pub common: Option<String>,
    /// Its alternative names (SAN): host names, mail addresses, URIs and IP addresses.
    pub alternative: Vec<String>,
}

impl Names {
    /// Reads a certificate; one that cannot be read has no names.
    pub(super) fn of(certificate: &CertificateDer<'_>) -> Names {
        let Ok(certificate) = Certificate::from_der(certificate) else {
            return Names::default();
        };
        Names {
            common: common_name(&certificate),
            alternative: alternative_names(&certificate),
        }
    }

    /// Whether the certificate is one of this host, by whichever of its names counts.
    pub(super) fn are_of_host(&self, host: &str) -> bool {
        let mut alternative = self.alternative.iter();
        self.common_name_is_host(host) || alternative.any(|name| host_matches(name, host))
    }

    /// Whether the certificate is one of this host, by its common name alone. As libpq has it, the
    /// common name counts only where no alternative name does.
    pub(super) fn common_name_is_host(&self, host: &str) -> bool {
        let Some(common) = self.common.as_deref() else {
            return false;
        };
        self.alternative.is_empty() && host_matches(common, host)
    }
}

/// libpq's rule (`wildcard_certificate_match`): equal but for case, or `*.` in the place of exactly
/// one label; never for an IP address.
fn host_matches(pattern: &str, host: &str) -> bool {
    if pattern.eq_ignore_ascii_case(host) {
        return true;
    }
    if host.parse::<IpAddr>().is_ok() {
        return false;
    }
    match (pattern.strip_prefix("*."), host.split_once('.')) {
        (Some(pattern), Some((label, rest))) => {
            !label.is_empty() && pattern.contains('.') && pattern.eq_ignore_ascii_case(rest)
        }
        _ => false,
    }
}

fn common_name(certificate: &Certificate) -> Option<String> {
    let subject = certificate.tbs_certificate().subject();
    let mut found = subject.iter().filter(|part| part.oid == COMMON_NAME);
    let (name, None) = (found.next()?, found.next()) else {
        return None;
    };
    plain(std::str::from_utf8(name.value.value()).ok()?)
}

fn alternative_names(certificate: &Certificate) -> Vec<String> {
    let found = certificate.tbs_certificate().get_extension();
    let Ok(Some((_, SubjectAltName(names)))) = found else {
        return Vec::new();
    };
    names.iter().filter_map(text).collect()
}

fn text(name: &GeneralName) -> Option<String> {
    match name {
        GeneralName::Rfc822Name(text)
        | GeneralName::DnsName(text)
        | GeneralName::UniformResourceIdentifier(text) => plain(text.as_str()),
        GeneralName::IpAddress(bytes) => address(bytes.as_bytes()).map(|ip| ip.to_string()),
        GeneralName::OtherName(_)
        | GeneralName::DirectoryName(_)
        | GeneralName::EdiPartyName(_)
        | GeneralName::RegisteredId(_) => None,
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let four = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    four.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
        .ok()
}

/// A name with a zero in it was made to be misread (CVE-2009-4034).
fn plain(text: &str) -> Option<String> {
    (!text.is_empty() && !text.contains('\0')).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    fn names(common: &[&str], alternative: &[SanType]) -> Names {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        for name in common {
            params.distinguished_name.push(DnType::CommonName, *name);
        }
        params.subject_alt_names = alternative.to_vec();
        let key = KeyPair::generate().expect("a key");
        Names::of(params.self_signed(&key).expect("a certificate").der())
    }

    #[test]
    fn both_kinds_of_names_are_read() {
        let dns = |text: &str| SanType::DnsName(text.try_into().expect("ascii"));
        let mail = SanType::Rfc822Name("anna@example.com".try_into().expect("ascii"));
        let ip = SanType::IpAddress("10.0.0.7".parse().expect("an address"));
        let found = names(&["anna"], &[dns("db.example.com"), mail, ip]);
        assert_eq!(found.common.as_deref(), Some("anna"));
        let expected = ["db.example.com", "anna@example.com", "10.0.0.7"];
        assert_eq!(found.alternative, expected);
    }

    #[test]
    fn a_name_that_was_made_to_be_misread_is_none() {
        assert_eq!(names(&["anna\0.evil.com"], &[]).common, None);
        assert_eq!(names(&[], &[]), Names::default());
    }

    #[test]
    fn bytes_that_are_no_certificate_have_no_names() {
        assert_eq!(
            Names::of(&CertificateDer::from(vec![1, 2, 3])),
            Names::default()
        );
    }

    #[test]
    fn hosts_are_compared_as_libpq_does() {
        for (pattern, host, same) in [
            ("db.example.com", "DB.example.com", true),
            ("*.example.com", "db.example.com", true),
            ("*.example.com", "a.b.example.com", false),
            ("*.example.com", "example.com", false),
            ("*.com", "example.com", false),
            ("*", "example", false),
            ("10.0.0.1", "10.0.0.1", true),
            ("*.0.0.1", "10.0.0.1", false),
        ] {
            assert_eq!(host_matches(pattern, host), same, "{pattern} {host}");
        }
        assert!(names(&["db"], &[]).common_name_is_host("db"));
        let other = SanType::DnsName("other".try_into().expect("ascii"));
        assert!(!names(&["db"], &[other]).common_name_is_host("db"));
    }
}
