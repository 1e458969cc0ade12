//! The admin HTTP's other end: one connection a request, and errors that say what to do next.

use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::TcpStream;

use crate::admin::types::ErrorBody;

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
    host: String,
    port: u16,
}

/// Why there is no answer to work with.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    /// The URL cannot be used.
    #[error("\"{0}\" is no admin URL; write http://HOST:PORT (--admin URL or PGDRAIN_ADMIN)")]
    Url(String),
    /// Nobody listens there.
    #[error("no pgdrain answers at {admin}: is `pgdrain serve` running? (--admin URL)")]
    NobodyThere {
        admin: String,
        source: std::io::Error,
    },
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
    #[error("{} ({})", .body.error.message, .body.error.code)]
    Refused { status: StatusCode, body: ErrorBody },
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
            Self::Url(_) | Self::NotUnderstood { .. } => false,
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
        let full = match admin.contains("://") {
            true => admin.to_owned(),
            false => format!("http://{admin}"),
        };
        let url = match url::Url::parse(&full) {
            Ok(url) if url.scheme() == "http" && url.path() == "/" && url.query().is_none() => url,
            Ok(_) | Err(_) => return Err(wrong()),
        };
        let host = url.host_str().ok_or_else(wrong)?;
        Ok(Self {
            admin: full.trim_end_matches('/').to_owned(),
            host: host.trim_matches(['[', ']']).to_owned(),
            port: url.port().unwrap_or(80),
        })
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
        let (stream, peer) = self.connect().await?;
        let exchange = self.exchange(stream, peer, method, path, body);
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

    async fn connect(&self) -> Result<(TcpStream, SocketAddr), ClientError> {
        let connect = TcpStream::connect((self.host.as_str(), self.port));
        let connected = match tokio::time::timeout(CONNECT_TIME, connect).await {
            Ok(connected) => connected,
            Err(_elapsed) => Err(std::io::ErrorKind::TimedOut.into()),
        };
        connected
            .and_then(|stream| stream.peer_addr().map(|peer| (stream, peer)))
            .map_err(|source| ClientError::NobodyThere {
                admin: self.admin.clone(),
                source,
            })
    }

    async fn exchange(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
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
        // The address, not the name: the server trusts no name that somebody else may have made.
        let host = HeaderValue::try_from(peer.to_string()).expect("an address is header text");
        let json = HeaderValue::from_static("application/json");
        request.headers_mut().insert(HOST, host);
        request.headers_mut().insert(CONTENT_TYPE, json);

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
        for (admin, host, port) in [
            ("http://127.0.0.1:6433", "127.0.0.1", 6433),
            ("http://127.0.0.1:6433/", "127.0.0.1", 6433),
            ("127.0.0.1:7000", "127.0.0.1", 7000),
            ("http://[::1]:6433", "::1", 6433),
            ("localhost:6433", "localhost", 6433),
        ] {
            let client = Client::new(admin).expect(admin);
            assert_eq!((client.host.as_str(), client.port), (host, port), "{admin}");
        }
        for admin in [
            "",
            "https://127.0.0.1:6433",
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

        let other = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi";
        let error = asked(Some(other)).await.expect_err("not ours").to_string();
        assert!(error.contains("is not this version of pgdrain"), "{error}");

        let short = "HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\nhi";
        let error = asked(Some(short)).await.expect_err("cut off").to_string();
        assert!(error.contains("did not answer to the end"), "{error}");
    }
}
