//! Which server certificates are believed: libpq's rules, by the verifiers of rustls.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use x509_cert::Certificate;
use x509_cert::der::Decode;

use super::{Names, provider};

/// How much a certificate has to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Demand {
    /// That it was signed by an authority we know.
    Signed,
    /// And that it is one of the host that we meant to reach.
    SignedAndNamed,
}

/// Believes any certificate: the connection is encrypted, with whoever it is.
#[derive(Debug)]
pub(super) struct Anyone(Arc<CryptoProvider>);

impl Anyone {
    pub(super) fn new() -> Arc<Anyone> {
        Arc::new(Anyone(provider()))
    }
}

/// Believes what known authorities have signed.
#[derive(Debug)]
pub(super) struct Known {
    chain: Arc<WebPkiServerVerifier>,
    roots: Vec<CertificateDer<'static>>,
    demand: Demand,
}

impl Known {
    /// `roots` holds at least one certificate.
    pub(super) fn new(
        roots: Vec<CertificateDer<'static>>,
        demand: Demand,
    ) -> Result<Arc<Known>, Error> {
        let mut store = RootCertStore::empty();
        let mut last = Error::General("no certificate of an authority".into());
        for root in &roots {
            // The system's store may hold what webpki does not read.
            if let Err(error) = store.add(root.clone()) {
                last = error;
            }
        }
        let chain =
            WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider()).build();
        Ok(Arc::new(Known {
            chain: chain.map_err(|_empty| last)?,
            roots,
            demand,
        }))
    }

    /// A server's own certificate that stands among the roots is believed as it is. OpenSSL does
    /// so; webpki refuses an authority's certificate at a server, which is what
    /// `openssl req -x509` makes.
    fn is_pinned(&self, certificate: &CertificateDer<'_>, now: UnixTime) -> bool {
        self.roots.iter().any(|root| root == certificate) && is_valid_at(certificate, now)
    }
}

fn is_valid_at(certificate: &CertificateDer<'_>, now: UnixTime) -> bool {
    let Ok(certificate) = Certificate::from_der(certificate) else {
        return false;
    };
    let validity = certificate.tbs_certificate().validity();
    let (from, to) = (validity.not_before, validity.not_after);
    let now = now.as_secs();
    (from.to_unix_duration().as_secs()..=to.to_unix_duration().as_secs()).contains(&now)
}

impl ServerCertVerifier for Known {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let believed = ServerCertVerified::assertion();
        let verified = self
            .chain
            .verify_server_cert(certificate, intermediates, server, ocsp, now);
        match verified {
            Ok(verified) => Ok(verified),
            // Names are compared last: the chain was found good.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if self.demand == Demand::Signed
                || Names::of(certificate).common_name_is_host(&server.to_str()) =>
            {
                Ok(believed)
            }
            Err(error) if self.is_pinned(certificate, now) => match self.demand {
                Demand::Signed => Ok(believed),
                Demand::SignedAndNamed if Names::of(certificate).are_of_host(&server.to_str()) => {
                    Ok(believed)
                }
                Demand::SignedAndNamed => Err(error),
            },
            Err(error) => Err(error),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain
            .verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain
            .verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
