//! How spans reach a collector: one connection a request, by our own HTTP and TLS.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{HOST, HeaderValue};
use hyper::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use opentelemetry_http::{HttpClient, HttpError};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::tls::connector::Roots;
use crate::tls::web;

/// What a collector has to say fits into this.
const ANSWER_MAX: usize = 64 << 10;

/// Asks collectors.
pub(super) struct Client {
    /// Who signs for one that is encrypted.
    pub(super) roots: Roots,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

/// What `async_trait` makes of the trait's method.
type Answer<'a> = Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'a>>;

impl HttpClient for Client {
    fn send_bytes<'life, 'answer>(&'life self, request: Request<Bytes>) -> Answer<'answer>
    where
        'life: 'answer,
        Self: 'answer,
    {
        Box::pin(self.send(request))
    }
}

impl Client {
    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (mut head, body) = request.into_parts();
        let url = std::mem::take(&mut head.uri);
        let host = url.host().ok_or("the URL names no host")?;
        let host = host.trim_matches(['[', ']']);
        let encrypted = url.scheme_str() == Some("https");
        let port = url.port_u16().unwrap_or(if encrypted { 443 } else { 80 });
        head.uri = url
            .path_and_query()
            .map_or_else(|| Uri::from_static("/"), |it| it.clone().into());
        let named = match host.contains(':') {
            true => format!("[{host}]:{port}"),
            false => format!("{host}:{port}"),
        };
        head.headers.insert(HOST, HeaderValue::try_from(named)?);
        let request = Request::from_parts(head, Full::new(body));
        let tcp = TcpStream::connect((host, port)).await?;
        match encrypted {
            true => exchange(web::secure(&self.roots, tcp, host, None).await?, request).await,
            false => exchange(tcp, request).await,
        }
    }
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
) -> Result<Response<Bytes>, HttpError> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let answer = async {
        let (head, body) = sender.send_request(request).await?.into_parts();
        let body = Limited::new(body, ANSWER_MAX).collect().await?;
        Ok(Response::from_parts(head, body.to_bytes()))
    };
    // The connection carries the exchange and has no end of its own to wait for.
    tokio::select! {
        biased;
        answer = answer => answer,
        Err(error) = connection => Err(error.into()),
    }
}
