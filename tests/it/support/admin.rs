//! A client for the admin interface that shows every answer, good or bad.

use std::net::SocketAddr;

use http_body_util::{BodyExt, Full};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::poll::{PATIENCE, within};

/// Where an admin interface listens.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Admin {
    /// Its address.
    pub(crate) addr: SocketAddr,
}

/// Status and body of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    /// The HTTP status.
    pub(crate) status: u16,
    /// The body as text.
    pub(crate) text: String,
}

impl Answer {
    /// The body as JSON. Panics and shows it if it is something else.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text)
            .unwrap_or_else(|error| panic!("no JSON: {error}: {} {}", self.status, self.text))
    }

    /// The body as JSON of an answer that has to have this status.
    pub(crate) fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        self.json()
    }
}

impl Admin {
    /// `GET path`.
    pub(crate) async fn get(self, path: &str) -> Answer {
        self.request(Method::GET, path, String::new()).await
    }

    /// `PUT path` with a JSON body.
    pub(crate) async fn put(self, path: &str, body: Value) -> Answer {
        self.request(Method::PUT, path, body.to_string()).await
    }

    /// `POST path` with a JSON body.
    pub(crate) async fn post(self, path: &str, body: Value) -> Answer {
        self.request(Method::POST, path, body.to_string()).await
    }

    /// Any request; a body is declared as JSON.
    pub(crate) async fn request(self, method: Method, path: &str, body: String) -> Answer {
        let what = format!("{method} {path}");
        let sent = self.send(method, path, body);
        match within(&what, PATIENCE, sent).await {
            Ok(answer) => answer,
            Err(error) => panic!("{what}: {error:?}"),
        }
    }

    /// Like [`Admin::request`], for an interface that may not be there.
    pub(crate) async fn send(
        self,
        method: Method,
        path: &str,
        body: String,
    ) -> anyhow::Result<Answer> {
        let stream = TcpStream::connect(self.addr).await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let mut connections = JoinSet::new();
        connections.spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", self.addr.to_string())
            .header("content-type", "application/json")
            .body(Full::new(bytes::Bytes::from(body)))?;
        let response = sender.send_request(request).await?;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await?.to_bytes();
        Ok(Answer {
            status,
            text: String::from_utf8_lossy(&body).into_owned(),
        })
    }
}
