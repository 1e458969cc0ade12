//! The server: a limited number of connections, each with limited patience, stopped gracefully.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::access::Access;
use super::api::{Api, ApiError};
use super::routes::{Answered, handle, refuse};
use crate::tasks::Tasks;

/// Connections at the same time; further ones wait in the listener's backlog. Each follower of a
/// migration takes one.
pub(super) const CONNECTIONS_MAX: usize = 128;

/// The longest time for the head of a request, and for an idle connection.
const HEADER_TIME: Duration = Duration::from_secs(10);

/// The longest head of a request.
const HEADER_BYTES: usize = 64 << 10;

/// A pause after accept failed, which it does for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves the admin HTTP until the tasks are stopped.
///
/// On stop, requests under way are answered 503 where they wait for something, and connections are
/// closed.
pub fn serve(listener: TcpListener, api: Arc<impl Api>, access: Arc<Access>, tasks: &Tasks) {
    tasks.spawn(
        "admin listener",
        accept(listener, (api, access), tasks.clone()),
    );
}

async fn accept(listener: TcpListener, (api, access): (Arc<impl Api>, Arc<Access>), tasks: Tasks) {
    let stop = tasks.shutdown_token();
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let next = async {
            let slot = Arc::clone(&slots).acquire_owned().await;
            let slot = slot.expect("nobody closes the semaphore");
            (slot, listener.accept().await)
        };
        let (slot, accepted) = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            next = next => next,
        };
        match accepted {
            Ok((stream, peer)) => {
                let from = peer.to_string();
                let both = (Arc::clone(&api), Arc::clone(&access));
                let connection = connection((stream, from), both, stop.clone(), slot);
                tasks.spawn("admin connection", connection);
            }
            Err(error) => {
                tracing::warn!(%error, "the admin HTTP cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Serves one connection; its slot is free again when it ends.
async fn connection(
    (stream, from): (TcpStream, String),
    (api, access): (Arc<impl Api>, Arc<Access>),
    stop: CancellationToken,
    _slot: OwnedSemaphorePermit,
) {
    let service =
        service_fn(|request: Request<Incoming>| answer(request, (&from, &access), &*api, &stop));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME)
        .max_buf_size(HEADER_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let outcome = tokio::select! {
        biased;
        outcome = connection.as_mut() => outcome,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, "a connection of the admin HTTP ended early");
    }
}

async fn answer(
    request: Request<Incoming>,
    (from, access): (&str, &Access),
    api: &impl Api,
    stop: &CancellationToken,
) -> Answered {
    let stopping = || ApiError::unavailable("stopping", "pgdrain is stopping.");
    Ok(tokio::select! {
        biased;
        reply = handle(request, from, access, api) => reply,
        () = stop.cancelled() => refuse(stopping()),
    })
}
