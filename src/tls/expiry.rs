//! When certificates end.

use std::time::{Duration, SystemTime};

use rustls::pki_types::CertificateDer;
use x509_cert::Certificate;
use x509_cert::der::Decode;

/// The first end among these certificates: a chain serves for as long as all of it does. One that cannot be
/// read has none.
pub(super) fn first_end(certificates: &[CertificateDer<'_>]) -> Option<SystemTime> {
    certificates.iter().filter_map(end).min()
}

/// RFC 5280, section 4.1.2.5: up to that second, and including it.
fn end(certificate: &CertificateDer<'_>) -> Option<SystemTime> {
    let certificate = Certificate::from_der(certificate).ok()?;
    let end = certificate.tbs_certificate().validity().not_after;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(end.to_unix_duration().as_secs()))
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    fn until(year: i32) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        params.not_after = date_time_ymd(year, 1, 1);
        let key = KeyPair::generate().expect("a key");
        let signed = params.self_signed(&key).expect("a certificate");
        signed.der().clone()
    }

    #[test]
    fn the_first_of_a_chain_ends_it() {
        let seconds = |of: &[_]| {
            let end = first_end(of)?;
            Some(end.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs())
        };
        // 2050 and later are written as another type than what is before (RFC 5280, section 4.1.2.5).
        assert_eq!(seconds(&[until(2060)]), Some(2_840_140_800));
        assert_eq!(seconds(&[until(2060), until(2030)]), Some(1_893_456_000));
        assert_eq!(seconds(&[CertificateDer::from(vec![1, 2])]), None);
        assert_eq!(seconds(&[]), None);
    }
}
