//! Certificates and keys from PEM files.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};

/// Why files cannot be used for TLS.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// A file cannot be read.
    #[error("{} cannot be read: {error}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        error: io::Error,
    },
    /// No certificate in it, or a broken one.
    #[error("{} holds no PEM certificate, or a broken one", .0.display())]
    NoCertificate(PathBuf),
    /// No key in it that can be used without a password.
    #[error("{} holds no PEM private key, or one with a password, which cannot be asked for", .0.display())]
    NoKey(PathBuf),
    /// Others may read the key.
    #[error(
        "{} can be read by others; it must belong to us with mode 0600 or less, or to root with \
         0640 or less", .0.display()
    )]
    OpenKey(PathBuf),
    /// rustls does not take them.
    #[error("{} cannot be used: {error}", path.display())]
    Unusable {
        /// The file that it is about.
        path: PathBuf,
        /// What rustls says.
        error: rustls::Error,
    },
    /// The certificates of the system's own authorities cannot be found.
    #[error("the system has no certificates of authorities")]
    NoSystemRoots,
}

/// A certificate with its chain, and its private key.
#[derive(Debug)]
pub struct Identity {
    pub(super) path: PathBuf,
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
}

impl Identity {
    /// Reads both files.
    ///
    /// # Errors
    /// As the server and libpq do: also when the key can be read by others.
    pub fn read(certificate: &Path, key: &Path) -> Result<Identity, FileError> {
        let bytes = read(key)?;
        private(key)?;
        Ok(Identity {
            path: certificate.to_owned(),
            chain: certificates(certificate)?,
            key: PrivateKeyDer::from_pem_slice(&bytes)
                .map_err(|_broken| FileError::NoKey(key.to_owned()))?,
        })
    }
}

/// The certificates of a file; at least one.
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, FileError> {
    let bytes = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) | Err(_) => Err(FileError::NoCertificate(path.to_owned())),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    fs::read(path).map_err(|error| FileError::Unreadable {
        path: path.to_owned(),
        error,
    })
}

/// The rule of the server and of libpq ("Secure TCP/IP Connections with SSL", section 19.9).
fn private(path: &Path) -> Result<(), FileError> {
    let about = fs::metadata(path).map_err(|error| FileError::Unreadable {
        path: path.to_owned(),
        error,
    })?;
    let allowed = if about.uid() == 0 { 0o740 } else { 0o700 };
    if about.mode() & 0o777 & !allowed == 0 {
        Ok(())
    } else {
        Err(FileError::OpenKey(path.to_owned()))
    }
}

/// Tells whether two settings came from the same bytes, without keeping those.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Print([u8; 32]);

impl Print {
    pub(super) fn of<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Print {
        let mut hash = Sha256::new();
        for part in parts {
            hash.update(part.len().to_be_bytes());
            hash.update(part);
        }
        Print(hash.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn file(text: &str, mode: u32) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        fs::write(file.path(), text).expect("writable");
        let permissions = fs::Permissions::from_mode(mode);
        fs::set_permissions(file.path(), permissions).expect("ours");
        file
    }

    #[test]
    fn each_mistake_names_its_file() {
        let pair = rcgen::generate_simple_self_signed(["db".to_owned()]).expect("a certificate");
        let (good, key) = (pair.cert.pem(), pair.signing_key.serialize_pem());
        let broken = "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n";
        for (certificate, key, mode, expected) in [
            (good.as_str(), key.as_str(), 0o600, None),
            (&good, &key, 0o400, None),
            (&good, &key, 0o644, Some("can be read by others")),
            (&good, "", 0o600, Some("holds no PEM private key")),
            ("", &key, 0o600, Some("holds no PEM certificate")),
            (broken, &key, 0o600, Some("holds no PEM certificate")),
        ] {
            let (certificate, key) = (file(certificate, 0o644), file(key, mode));
            match (Identity::read(certificate.path(), key.path()), expected) {
                (Ok(_), None) => {}
                (Err(error), Some(part)) => {
                    let text = error.to_string();
                    assert!(text.contains(part) && text.contains("/"), "{text}");
                }
                (other, expected) => panic!("{expected:?}: {other:?}"),
            }
        }
        let missing = Identity::read(Path::new("/nowhere/a"), Path::new("/nowhere/b"));
        let error = missing.expect_err("no such file").to_string();
        assert!(error.starts_with("/nowhere/b cannot be read"), "{error}");
    }

    #[test]
    fn a_key_is_not_shown() {
        let pair = rcgen::generate_simple_self_signed(["db".to_owned()]).expect("a certificate");
        let key = pair.signing_key.serialize_pem();
        let (certificate, key_file) = (file(&pair.cert.pem(), 0o644), file(&key, 0o600));
        let identity = Identity::read(certificate.path(), key_file.path()).expect("good files");
        let secret = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("a key");
        let shown = format!("{identity:?}");
        let digits = format!("{:?}", &secret.secret_der()[40..60]);
        assert!(!shown.contains(digits.trim_matches(['[', ']'])), "{shown}");
    }
}
