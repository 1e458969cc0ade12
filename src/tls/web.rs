//! Connections to web servers, for webhooks: certificates are verified as `verify-full` does.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::HTTP;
use super::connector::{NotEncrypted, Roots, client_config, system_roots};
use super::files::{FileError, Identity, certificates};
use super::trust::{Demand, Known};

/// Why there is no encrypted connection to a web server.
#[derive(Debug, thiserror::Error)]
pub enum NotSecured {
    /// The authorities cannot be had.
    #[error(transparent)]
    File(#[from] FileError),
    /// The handshake failed.
    #[error(transparent)]
    Handshake(#[from] NotEncrypted),
}

/// Encrypts a connection that has just been made to `host`, and shows who we are if it asks. Not cancel safe.
///
/// # Errors
/// When the authorities cannot be read, or none of them has signed for that host.
pub async fn secure(
    roots: &Roots,
    tcp: TcpStream,
    host: &str,
    identity: Option<Identity>,
) -> Result<TlsStream<TcpStream>, NotSecured> {
    let (path, authorities) = match roots {
        Roots::None => (PathBuf::new(), Vec::new()),
        Roots::File(path) => (path.clone(), certificates(path)?),
        Roots::System => (PathBuf::from("system"), system_roots()?),
    };
    let verifier = Known::new(authorities, Demand::SignedAndNamed)
        .map_err(|error| FileError::Unusable { path, error })?;
    let mut config = client_config(verifier, identity)?;
    config.alpn_protocols = vec![HTTP.to_vec()];
    let name = rustls::pki_types::ServerName::try_from(host.to_owned())
        .map_err(|_invalid| NotEncrypted::HostName(host.to_owned()))?;
    let connected = TlsConnector::from(Arc::new(config))
        .connect(name, tcp)
        .await;
    Ok(connected.map_err(NotEncrypted::Handshake)?)
}
