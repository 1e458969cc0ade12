//! Sends one message: a few tries, each bounded, and errors that name no URL.

use std::path::PathBuf;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;
use url::Url;

use super::message::Message;
use crate::config::{Notify, NotifyTo, Secret};
use crate::runner::backup::program::Program;
use crate::runner::report::chain;
use crate::runner::stop::{Stop, StopReason};
use crate::tls::connector::Roots;
use crate::tls::web;

/// How long one try may take.
const TRY_TIME: Duration = Duration::from_secs(10);

/// The pauses before the tries after the first.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(4)];

/// Why a message was not sent; never with the URL, which may hold a token.
type NotSent = String;

/// Sends a message to a target.
///
/// # Errors
/// When every try failed; with the reason of the last.
pub(super) async fn send(
    target: &Notify,
    message: &Message,
    stopping: &watch::Receiver<Option<StopReason>>,
) -> Result<(), NotSent> {
    let mut pauses = PAUSES.iter();
    loop {
        let tried = match &target.to {
            NotifyTo::Webhook { url, form, ca } => {
                let post = post(url, ca.clone(), message.body(*form));
                match tokio::time::timeout(TRY_TIME, post).await {
                    Ok(posted) => posted,
                    Err(_elapsed) => Err("no answer within 10 s".to_owned()),
                }
            }
            NotifyTo::Command(command) => run(target, command, message, stopping).await,
        };
        match (tried, pauses.next()) {
            (Ok(()), _) => return Ok(()),
            (Err(_), Some(pause)) => tokio::time::sleep(*pause).await,
            (Err(why), None) => return Err(why),
        }
    }
}

async fn run(
    target: &Notify,
    command: &str,
    message: &Message,
    stopping: &watch::Receiver<Option<StopReason>>,
) -> Result<(), NotSent> {
    let line = message.line().replace('\0', "");
    let program = Program::shell(command, &target.name)
        .env("PGDRAIN_WHY", message.why.as_str())
        .env("PGDRAIN_RUN", &message.run)
        .env("PGDRAIN_DATABASE", &message.database)
        .env("PGDRAIN_DIRECTION", message.direction.as_str())
        .env("PGDRAIN_BY", &message.by)
        .env("PGDRAIN_STATE", message.state.as_str())
        .env("PGDRAIN_TEXT", line);
    let stop = Stop::new(stopping.clone());
    // The last message is sent while the process stops: it has a moment for that.
    let stop = match stop.now() {
        Some(_) => Stop::new(watch::Sender::new(None).subscribe()),
        None => stop,
    };
    let ran = program.run(&stop, tokio::time::sleep(TRY_TIME)).await;
    ran.map_err(|trouble| trouble.to_string())
}

async fn post(url: &Secret, ca: Option<PathBuf>, body: Vec<u8>) -> Result<(), NotSent> {
    // Looked at when the configuration was read.
    let url = Url::parse(url.expose()).map_err(|_invalid| "its url cannot be used".to_owned())?;
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let port = url.port_or_known_default().unwrap_or(443);
    let request = request(&url, body)?;
    let connected = TcpStream::connect((host, port)).await;
    let tcp = connected.map_err(|error| format!("no connection: {error}"))?;
    let status = if url.scheme() == "https" {
        let roots = ca.map_or(Roots::System, Roots::File);
        let secured = web::secure(&roots, tcp, host, None).await;
        exchange(secured.map_err(|error| chain(&error))?, request).await
    } else {
        exchange(tcp, request).await
    };
    match status {
        Ok(status) if status.is_success() => Ok(()),
        Ok(status) => Err(format!("it answered {status}")),
        Err(error) => Err(chain(&error)),
    }
}

fn request(url: &Url, body: Vec<u8>) -> Result<Request<Full<Bytes>>, NotSent> {
    let wrong = || "its url cannot be used".to_owned();
    let path = &url[url::Position::BeforePath..url::Position::AfterQuery];
    let host = &url[url::Position::BeforeHost..url::Position::AfterPort];
    let mut request = Request::new(Full::new(Bytes::from(body)));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = path.parse().map_err(|_invalid| wrong())?;
    let headers = request.headers_mut();
    headers.insert(
        HOST,
        HeaderValue::from_str(host).map_err(|_invalid| wrong())?,
    );
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if !url.username().is_empty() || url.password().is_some() {
        let decoded = |text: &str| {
            let bytes = percent_encoding::percent_decode_str(text);
            bytes.decode_utf8_lossy().into_owned()
        };
        let user = decoded(url.username());
        let pair = format!("{user}:{}", decoded(url.password().unwrap_or_default()));
        let basic = format!("Basic {}", STANDARD.encode(pair));
        let mut value = HeaderValue::from_str(&basic).map_err(|_invalid| wrong())?;
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    }
    Ok(request)
}

/// Sends a request and reads no more of the answer than its status.
async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
) -> Result<StatusCode, hyper::Error> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // The connection carries the exchange and has no end of its own to wait for.
    tokio::select! {
        biased;
        answer = sender.send_request(request) => Ok(answer?.status()),
        Err(error) = connection => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_the_path_of_the_url_and_its_password_in_a_header() {
        let url = Url::parse("https://me:p%40ss@[::1]:8443/a%20b?c=d#e").expect("a URL");
        let request = request(&url, Vec::new()).expect("a request");
        assert_eq!(request.uri().to_string(), "/a%20b?c=d");
        assert_eq!(request.headers()[HOST], "[::1]:8443");
        // me:p@ss
        assert_eq!(request.headers()[AUTHORIZATION], "Basic bWU6cEBzcw==");
        assert!(!format!("{request:?}").contains("bWU6"));
        let url = Url::parse("http://example.org").expect("a URL");
        let plain = super::request(&url, Vec::new()).expect("a request");
        assert_eq!(plain.uri().to_string(), "/");
        assert_eq!(plain.headers().get(AUTHORIZATION), None);
    }
}
