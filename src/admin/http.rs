//! The server: a limited number of connections, each with limited patience, stopped gracefully.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::access::{Access, Peer};
use super::api::{Api, ApiError};
use super::patient::Patient;
use super::routes::{Answered, handle, refuse};
use crate::client::admin::{AdminListener, Came};
use crate::tasks::Tasks;
use crate::tls::acceptor::refused_certificate;
use crate::tls::stream::Stream;

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
/// A listener that other machines reach is encrypted. On stop, requests under way are answered 503 where
/// they wait for something, and connections are closed. Each listener has its own
/// connections, so that nobody elsewhere keeps out who is on this machine.
pub fn serve(
    listener: impl Into<AdminListener>,
    api: Arc<impl Api>,
    access: Arc<Access>,
    tasks: &Tasks,
) {
    let listener = listener.into();
    tasks.spawn(
        "admin listener",
        accept(listener, (api, access), tasks.clone()),
    );
}

async fn accept(
    listener: AdminListener,
    (api, access): (Arc<impl Api>, Arc<Access>),
    tasks: Tasks,
) {
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
            Ok(came) => {
                let both = (Arc::clone(&api), Arc::clone(&access));
                let connection = connection(came, both, stop.clone(), slot);
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
    (stream, came): (Stream, Came),
    (api, access): (Arc<impl Api>, Arc<Access>),
    stop: CancellationToken,
    _slot: OwnedSemaphorePermit,
) {
    let secured = tokio::select! {
        biased;
        secured = secured(stream, came, &access) => secured,
        () = stop.cancelled() => return,
    };
    let Some((stream, peer)) = secured else {
        return;
    };
    let service =
        service_fn(|request: Request<Incoming>| answer(request, (&peer, &access), &*api, &stop));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME)
        .max_buf_size(HEADER_BYTES)
        .serve_connection(TokioIo::new(Patient::new(stream)), service);
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

/// What other machines reach is encrypted, or else nothing is said.
async fn secured(stream: Stream, came: Came, access: &Access) -> Option<(Stream, Peer)> {
    if came.local {
        return Some((stream, Peer { came, names: None }));
    }
    let from = came.from.as_str();
    let Some(acceptor) = access.acceptor() else {
        tracing::error!(from, "the admin HTTP has no certificate for other machines");
        return None;
    };
    match tokio::time::timeout(HEADER_TIME, acceptor.accept(stream)).await {
        Ok(Ok(accepted)) => {
            let names = accepted.encryption.client;
            Some((accepted.stream, Peer { came, names }))
        }
        Ok(Err(error)) => {
            tracing::debug!(from, %error, "a handshake with the admin HTTP failed");
            if let Some(why) = refused_certificate(&error) {
                access.certificate(&came, "", &why);
            }
            None
        }
        Err(_elapsed) => None,
    }
}

async fn answer(
    request: Request<Incoming>,
    (peer, access): (&Peer, &Access),
    api: &impl Api,
    stop: &CancellationToken,
) -> Answered {
    let stopping = || ApiError::unavailable("stopping", "pgdrain is stopping.");
    Ok(tokio::select! {
        biased;
        reply = handle(request, peer, access, api) => reply,
        () = stop.cancelled() => refuse(stopping()),
    })
}
