//! The channel binding `tls-server-end-point` (RFC 5929, section 4.1).

use rustls::pki_types::CertificateDer;
use sha2::{Digest, Sha256, Sha384, Sha512};
use x509_cert::Certificate;
use x509_cert::der::Decode;
use x509_cert::der::oid::ObjectIdentifier;

/// Signature algorithms by the hash that they use; MD5 and SHA-1 count as SHA-256.
const SHA256: [&str; 6] = [
    "1.2.840.113549.1.1.4",   // md5WithRSAEncryption
    "1.2.840.113549.1.1.5",   // sha1WithRSAEncryption
    "1.2.840.10045.4.1",      // ecdsa-with-SHA1
    "1.2.840.113549.1.1.11",  // sha256WithRSAEncryption
    "1.2.840.10045.4.3.2",    // ecdsa-with-SHA256
    "2.16.840.1.101.3.4.3.2", // dsa-with-sha256
];
const SHA384: [&str; 2] = ["1.2.840.113549.1.1.12", "1.2.840.10045.4.3.3"];
const SHA512: [&str; 2] = ["1.2.840.113549.1.1.13", "1.2.840.10045.4.3.4"];

/// The hash of a certificate by the hash of its own signature; `None` when its signature names no
/// single one (Ed25519, RSA-PSS), for which Postgres has no channel binding either.
pub(super) fn of(certificate: &CertificateDer<'_>) -> Option<Vec<u8>> {
    let read = Certificate::from_der(certificate).ok()?;
    let algorithm = read.signature_algorithm().oid;
    let is = |known: &[&str]| {
        let mut known = known.iter().map(|oid| ObjectIdentifier::new(oid));
        known.any(|known| known == Ok(algorithm))
    };
    if is(&SHA256) {
        Some(Sha256::digest(certificate).to_vec())
    } else if is(&SHA384) {
        Some(Sha384::digest(certificate).to_vec())
    } else if is(&SHA512) {
        Some(Sha512::digest(certificate).to_vec())
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair, SignatureAlgorithm};

    fn hash_length(algorithm: &'static SignatureAlgorithm) -> Option<usize> {
        let key = KeyPair::generate_for(algorithm).expect("a key");
        let params = CertificateParams::new(["db".to_owned()]).expect("a name");
        let certificate = params.self_signed(&key).expect("a certificate");
        of(certificate.der()).map(|hash| hash.len())
    }

    #[test]
    fn the_hash_is_the_one_of_the_signature() {
        assert_eq!(hash_length(&rcgen::PKCS_ECDSA_P256_SHA256), Some(32));
        assert_eq!(hash_length(&rcgen::PKCS_ECDSA_P384_SHA384), Some(48));
        assert_eq!(hash_length(&rcgen::PKCS_ED25519), None);
        assert_eq!(of(&CertificateDer::from(vec![0; 8])), None);
    }
}
