//! The admin HTTP's other end: one connection a request, and errors that say what to do next.

use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use crate::admin::types::ErrorBody;
use crate::config::Secret;
use crate::tls::connector::Roots;
use crate::tls::files::{FileError, Identity};
use crate::tls::web::{self, NotSecured};

/// Where pgdrain is asked by default.
pub(super) const ADMIN_DEFAULT: &str = "http://127.0.0.1:6433";

/// It is on this machine, so that a slow answer to a connection means none.
const CONNECT_TIME: Duration = Duration::from_secs(5);

/// What every request has a right to, unless it waits for something.
const ANSWER_TIME: Duration = Duration::from_secs(30);

/// Asks a running pgdrain.
#[derive(Clone, Debug)]
pub(super) struct Client {
    /// As it was given, for messages.
    admin: String,
    place: Place,
    token: Option<Secret>,
    /// The files of a certificate of ours and of its key.
    pair: Option<(PathBuf, PathBuf)>,
    /// Who signs for a place that is encrypted.
    roots: Roots,
}

/// Where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Tcp {
        host: String,
        port: u16,
        encrypted: bool,
    },
    Unix(PathBuf),
}

/// A connection of whichever kind.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// Why there is no answer to work with.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    /// The URL cannot be used.
    #[error(
        "\"{0}\" is no admin URL; write http://HOST:PORT, https://HOST:PORT or unix:/PATH (--admin URL \
         or PGDRAIN_ADMIN)"
    )]
    Url(String),
    /// Nobody listens there.
    #[error("no pgdrain answers at {admin}: is `pgdrain serve` running? (--admin URL)")]
    NobodyThere {
        admin: String,
        source: std::io::Error,
    },
    /// Who is there cannot be verified.
    #[error(
        "the pgdrain at {admin} did not prove who it is; --ca-file FILE names who signs for it"
    )]
    NotSecured { admin: String, source: NotSecured },
    /// Our own certificate cannot be shown.
    #[error("the certificate of --cert and --key cannot be shown")]
    Identity(#[from] FileError),
    /// Whoever is on the way could read the token.
    #[error("{admin} is not on this machine: a token goes there by https:// alone")]
    Unencrypted { admin: String },
    /// The connection broke before the answer was whole.
    #[error("the pgdrain at {admin} did not answer to the end; `pgdrain status` tells how it is")]
    Broken { admin: String, source: hyper::Error },
    /// It takes too long.
    #[error("the pgdrain at {admin} did not answer within {}s", ANSWER_TIME.as_secs())]
    Silent { admin: String },
    /// What listens there speaks otherwise.
    #[error("what answers at {admin} is not this version of pgdrain (status {status})")]
    NotUnderstood {
        admin: String,
        status: StatusCode,
        source: serde_json::Error,
    },
    /// It answered with an error of its own.
    #[error("{} ({}){}", .body.error.message, .body.error.code, next_step(*.status))]
    Refused { status: StatusCode, body: ErrorBody },
}

/// What whoever was refused can do about it.
fn next_step(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED => {
            "; --token-file FILE or PGDRAIN_TOKEN shows a token, --cert and --key a certificate"
        }
        StatusCode::FORBIDDEN => "; `pgdrain config token` makes a token of another role",
        _ => "",
    }
}

impl ClientError {
    /// Whether it is an error of pgdrain with this code.
    pub(super) fn has_code(&self, code: &str) -> bool {
        matches!(self, Self::Refused { body, .. } if body.error.code == code)
    }

    /// Whether whoever was asked is not there or no longer able to answer.
    pub(super) fn is_no_answer(&self) -> bool {
        match self {
            Self::NobodyThere { .. } | Self::Broken { .. } | Self::Silent { .. } => true,
            Self::Refused { status, .. } => status.is_server_error(),
            Self::Url(_)
            | Self::NotSecured { .. }
            | Self::Identity(_)
            | Self::Unencrypted { .. }
            | Self::NotUnderstood { .. } => false,
        }
    }
}

/// How long to wait for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Patience {
    /// As long as any answer may take.
    Short,
    /// As long as it takes: the server limits what is waited for.
    Endless,
}

impl Client {
    /// For an admin URL; `http://` may be left out.
    pub(super) fn new(admin: &str) -> Result<Self, ClientError> {
        let wrong = || ClientError::Url(admin.to_owned());
        let at = |admin: &str, place| Self {
            admin: admin.to_owned(),
            place,
            token: None,
            pair: None,
            roots: Roots::System,
        };
        if let Some(path) = admin.strip_prefix("unix:") {
            let path = Path::new(path);
            return match path.is_absolute() {
                true => Ok(at(admin, Place::Unix(path.to_owned()))),
                false => Err(wrong()),
            };
        }
        let full = match admin.contains("://") {
            true => admin.to_owned(),
            false => format!("http://{admin}"),
        };
        let url = match url::Url::parse(&full) {
            Ok(url) if url.path() == "/" && url.query().is_none() => url,
            Ok(_) | Err(_) => return Err(wrong()),
        };
        let encrypted = match url.scheme() {
            "http" => false,
            "https" => true,
            _ => return Err(wrong()),
        };
        let host = url.host_str().ok_or_else(wrong)?;
        let place = Place::Tcp {
            host: host.trim_matches(['[', ']']).to_owned(),
            port: url.port_or_known_default().ok_or_else(wrong)?,
            encrypted,
        };
        Ok(at(full.trim_end_matches('/'), place))
    }

    /// The same, showing a token.
    pub(super) fn showing(mut self, token: Option<Secret>) -> Self {
        self.token = token;
        self
    }

    /// The same, showing this certificate with its key to a place that is encrypted.
    pub(super) fn proving(mut self, pair: Option<(PathBuf, PathBuf)>) -> Self {
        self.pair = pair;
        self
    }

    /// The same, trusting these authorities instead of the system's.
    pub(super) fn trusting(mut self, ca_file: Option<&Path>) -> Self {
        if let Some(path) = ca_file {
            self.roots = Roots::File(path.to_owned());
        }
        self
    }

    /// Where it asks, for people.
    pub(super) fn admin(&self) -> &str {
        &self.admin
    }

    /// Asks for something.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.ask(Method::GET, path, Bytes::new(), Patience::Short)
            .await
    }

    /// Sends something.
    pub(super) async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: &impl Serialize,
        patience: Patience,
    ) -> Result<T, ClientError> {
        let body = serde_json::to_vec(body).expect("our own types are JSON");
        self.ask(method, path, body.into(), patience).await
    }

    /// Sends a text.
    pub(super) async fn post_text<T: DeserializeOwned>(
        &self,
        path: &str,
        text: String,
    ) -> Result<T, ClientError> {
        self.ask(Method::POST, path, text.into(), Patience::Short)
            .await
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        patience: Patience,
    ) -> Result<T, ClientError> {
        let (stream, host) = self.connect().await?;
        let exchange = self.exchange(stream, host, method, path, body);
        let (status, body) = match patience {
            Patience::Endless => exchange.await?,
            Patience::Short => match tokio::time::timeout(ANSWER_TIME, exchange).await {
                Ok(answer) => answer?,
                Err(_elapsed) => {
                    let admin = self.admin.clone();
                    return Err(ClientError::Silent { admin });
                }
            },
        };
        if status.is_success() {
            serde_json::from_slice(&body).map_err(|source| self.not_understood(status, source))
        } else {
            match serde_json::from_slice(&body) {
                Ok(body) => Err(ClientError::Refused { status, body }),
                Err(source) => Err(self.not_understood(status, source)),
            }
        }
    }

    /// A connection, and what its requests are sent to.
    async fn connect(&self) -> Result<(Box<dyn Stream>, String), ClientError> {
        match &self.place {
            Place::Unix(path) => {
                let stream = self.in_time(UnixStream::connect(path)).await?;
                Ok((Box::new(stream), "localhost".to_owned()))
            }
            Place::Tcp { host, port, .. } => {
                let connect = TcpStream::connect((host.as_str(), *port));
                self.secured(self.in_time(connect).await?).await
            }
        }
    }

    async fn in_time<T>(
        &self,
        connect: impl Future<Output = std::io::Result<T>>,
    ) -> Result<T, ClientError> {
        let connected = match tokio::time::timeout(CONNECT_TIME, connect).await {
            Ok(connected) => connected,
            Err(_elapsed) => Err(std::io::ErrorKind::TimedOut.into()),
        };
        connected.map_err(|source| self.nobody_there(source))
    }

    /// A token is for whoever proves to be the right one, or is on this machine.
    async fn secured(&self, tcp: TcpStream) -> Result<(Box<dyn Stream>, String), ClientError> {
        let peer = tcp
            .peer_addr()
            .map_err(|source| self.nobody_there(source))?;
        let admin = || self.admin.clone();
        let stream: Box<dyn Stream> = match &self.place {
            Place::Tcp {
                host,
                encrypted: true,
                ..
            } => {
                let pair = self.pair.as_ref();
                let identity = pair.map(|(certificate, key)| Identity::read(certificate, key));
                let secured = web::secure(&self.roots, tcp, host, identity.transpose()?);
                let secured = match tokio::time::timeout(CONNECT_TIME, secured).await {
                    Ok(secured) => secured,
                    Err(_elapsed) => return Err(ClientError::Silent { admin: admin() }),
                };
                Box::new(secured.map_err(|source| ClientError::NotSecured {
                    admin: admin(),
                    source,
                })?)
            }
            Place::Tcp { .. } | Place::Unix(_) => {
                if self.token.is_some() && !peer.ip().to_canonical().is_loopback() {
                    return Err(ClientError::Unencrypted { admin: admin() });
                }
                Box::new(tcp)
            }
        };
        // The address, not the name: the server trusts no name that somebody else may have made.
        Ok((stream, peer.to_string()))
    }

    fn nobody_there(&self, source: std::io::Error) -> ClientError {
        ClientError::NobodyThere {
            admin: self.admin.clone(),
            source,
        }
    }

    async fn exchange(
        &self,
        stream: Box<dyn Stream>,
        host: String,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes), ClientError> {
        let broken = |source| ClientError::Broken {
            admin: self.admin.clone(),
            source,
        };
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().expect("paths are made by `path`");
        let host = HeaderValue::try_from(host).expect("an address is header text");
        let json = HeaderValue::from_static("application/json");
        request.headers_mut().insert(HOST, host);
        request.headers_mut().insert(CONTENT_TYPE, json);
        if let Some(token) = &self.token {
            let shown = format!("Bearer {}", token.expose());
            // What is no header text is no token either, which the server says in plain words.
            let shown = HeaderValue::try_from(shown);
            let mut shown = shown.unwrap_or_else(|_not_text| HeaderValue::from_static("Bearer -"));
            shown.set_sensitive(true);
            request.headers_mut().insert(AUTHORIZATION, shown);
        }

        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(broken)?;
        let answer = async {
            let answer = sender.send_request(request).await?;
            let status = answer.status();
            Ok((status, answer.into_body().collect().await?.to_bytes()))
        };
        // The connection carries the exchange and has no end of its own to wait for.
        tokio::select! {
            biased;
            answer = answer => answer,
            Err(source) = connection => Err(source),
        }
        .map_err(broken)
    }

    fn not_understood(&self, status: StatusCode, source: serde_json::Error) -> ClientError {
        ClientError::NotUnderstood {
            admin: self.admin.clone(),
            status,
            source,
        }
    }
}

/// A path from its segments; they are escaped where they need it.
pub(super) fn path(segments: &[&str]) -> String {
    let mut url = url::Url::parse("http://localhost/").expect("it is well formed");
    url.path_segments_mut()
        .expect("http has segments")
        .clear()
        .extend(segments);
    url.path().to_owned()
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn an_admin_url_may_be_short() {
        let tcp = |host: &str, port, encrypted| Place::Tcp {
            host: host.to_owned(),
            port,
            encrypted,
        };
        for (admin, place) in [
            ("http://127.0.0.1:6433", tcp("127.0.0.1", 6433, false)),
            ("http://127.0.0.1:6433/", tcp("127.0.0.1", 6433, false)),
            ("127.0.0.1:7000", tcp("127.0.0.1", 7000, false)),
            ("http://[::1]:6433", tcp("::1", 6433, false)),
            ("localhost:6433", tcp("localhost", 6433, false)),
            ("https://db.example:6433", tcp("db.example", 6433, true)),
            ("https://db.example", tcp("db.example", 443, true)),
            (
                "unix:/run/pgdrain/admin.sock",
                Place::Unix("/run/pgdrain/admin.sock".into()),
            ),
        ] {
            let client = Client::new(admin).expect(admin);
            assert_eq!(client.place, place, "{admin}");
        }
        for admin in [
            "",
            "ftp://127.0.0.1:6433",
            "unix:admin.sock",
            "http://",
            "http://a:b",
            "http://a/v1",
            "http://a?b",
        ] {
            assert!(Client::new(admin).is_err(), "{admin}");
        }
    }

    #[test]
    fn names_of_databases_are_escaped_in_paths() {
        assert_eq!(
            path(&["v1", "databases", "*", "mode"]),
            "/v1/databases/*/mode"
        );
        assert_eq!(path(&["v1", "a/b c?é"]), "/v1/a%2Fb%20c%3F%C3%A9");
    }

    /// Asks a server that answers with this, or that is not there.
    async fn asked(answer: Option<&'static str>) -> Result<ErrorBody, ClientError> {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let admin = listener.local_addr().expect("it is bound").to_string();
        let client = Client::new(&admin).expect("a URL");
        let Some(answer) = answer else {
            drop(listener);
            return client.get("/v1/status").await;
        };
        let server = async {
            let (mut stream, _) = listener.accept().await.expect("a client");
            let mut request = [0; 1024];
            let length = stream.read(&mut request).await.expect("a request");
            stream.write_all(answer.as_bytes()).await.expect("it reads");
            let request = String::from_utf8_lossy(&request[..length]).into_owned();
            assert!(request.contains(&format!("host: {admin}")), "{request}");
        };
        tokio::join!(client.get("/v1/status"), server).0
    }

    #[tokio::test]
    async fn an_error_says_what_to_do_next() {
        let error = asked(None).await.expect_err("nobody is there").to_string();
        assert!(
            error.contains("is `pgdrain serve` running? (--admin URL)"),
            "{error}"
        );

        let refused = "HTTP/1.1 409 Conflict\r\ncontent-length: 63\r\n\r\n\
                       {\"error\":{\"code\":\"not_drained\",\"message\":\"Somebody is there.\"}}";
        let error = asked(Some(refused)).await.expect_err("refused");
        assert_eq!(error.to_string(), "Somebody is there. (not_drained)");
        assert!(matches!(
            error,
            ClientError::Refused {
                status: StatusCode::CONFLICT,
                ..
            }
        ));

        let unknown = "HTTP/1.1 401 Unauthorized\r\ncontent-length: 56\r\n\r\n\
                       {\"error\":{\"code\":\"unauthorized\",\"message\":\"Who is it?\"}}";
        let error = asked(Some(unknown)).await.expect_err("refused");
        assert_eq!(
            error.to_string(),
            "Who is it? (unauthorized); --token-file FILE or PGDRAIN_TOKEN shows a token, --cert and --key \
             a certificate"
        );

        let other = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi";
        let error = asked(Some(other)).await.expect_err("not ours").to_string();
        assert!(error.contains("is not this version of pgdrain"), "{error}");

        let short = "HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\nhi";
        let error = asked(Some(short)).await.expect_err("cut off").to_string();
        assert!(error.contains("did not answer to the end"), "{error}");
    }
}
