//! The same request sent again starts nothing: what it was answered is remembered under its key.
//!
//! A client whose answer was lost cannot know whether a migration has begun. It sends the request again
//! with the same `Idempotency-Key`, and gets the same answer.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hyper::StatusCode;
use sha2::{Digest, Sha256};

use super::api::ApiError;
use super::types::MigrationStarted;
use crate::clock;

/// How long an answer is remembered, as long as the process lives.
const KEPT_FOR: Duration = Duration::from_secs(24 * 3600);

/// How many are; the oldest goes when one more comes.
const KEPT_MAX: usize = 1000;

/// The longest key.
const KEY_MAX: usize = 200;

type Hash = [u8; 32];

/// What was started under which keys.
#[derive(Debug, Default)]
pub struct Replays {
    kept: Mutex<VecDeque<Kept>>,
}

#[derive(Debug)]
struct Kept {
    key: Hash,
    request: Hash,
    since: Instant,
    /// Nothing while the request is under way.
    answer: Option<MigrationStarted>,
}

/// One request with its key.
#[derive(Debug)]
pub(super) struct Keyed {
    key: Hash,
    request: Hash,
}

impl Keyed {
    /// `whose` and `what` part the keys of several callers and routes from each other.
    ///
    /// # Errors
    /// 400 for a key that is empty or very long.
    pub(super) fn new(
        key: &str,
        (whose, what): (&str, &str),
        body: &[u8],
    ) -> Result<Keyed, ApiError> {
        if key.is_empty() || key.len() > KEY_MAX {
            let message = format!("Idempotency-Key has from 1 to {KEY_MAX} characters.");
            return Err(ApiError::bad_request(message));
        }
        Ok(Keyed {
            key: hash(&[whose.as_bytes(), what.as_bytes(), key.as_bytes()]),
            request: hash(&[body]),
        })
    }
}

impl Replays {
    /// Starts it, or answers what it was answered before.
    ///
    /// `start` must have no wait between the start and its answer: when the caller goes away while it
    /// waits, nothing is remembered, and nothing must have been started.
    ///
    /// # Errors
    /// That of `start`, which is not remembered; 422 for another request under the same key, 409 for the
    /// same one while it is under way.
    pub(super) async fn once(
        &self,
        keyed: Option<Keyed>,
        start: impl Future<Output = Result<MigrationStarted, ApiError>>,
    ) -> Result<MigrationStarted, ApiError> {
        let Some(keyed) = keyed else {
            return start.await;
        };
        if let Some(before) = self.begin(&keyed)? {
            return Ok(before);
        }
        let mut under_way = UnderWay {
            replays: self,
            key: keyed.key,
            answer: None,
        };
        let started = start.await?;
        under_way.answer = Some(started.clone());
        Ok(started)
    }

    fn begin(&self, keyed: &Keyed) -> Result<Option<MigrationStarted>, ApiError> {
        let now = clock::now();
        let mut kept = self.kept();
        kept.retain(|it| now.saturating_duration_since(it.since) < KEPT_FOR);
        if let Some(before) = kept.iter().find(|it| it.key == keyed.key) {
            return match &before.answer {
                _ if before.request != keyed.request => Err(ApiError::new(
                    StatusCode::UNPROCESSABLE_ENTITY,
                    "other_request",
                    "This Idempotency-Key came with another request before.",
                )),
                Some(answer) => Ok(Some(answer.clone())),
                None => Err(ApiError::conflict(
                    "under_way",
                    "The same request is under way: send it again later.",
                )),
            };
        }
        if kept.len() >= KEPT_MAX {
            kept.pop_front();
        }
        kept.push_back(Kept {
            key: keyed.key,
            request: keyed.request,
            since: now,
            answer: None,
        });
        Ok(None)
    }

    fn kept(&self) -> MutexGuard<'_, VecDeque<Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Remembers the answer, or forgets the request, when it is dropped.
struct UnderWay<'a> {
    replays: &'a Replays,
    key: Hash,
    answer: Option<MigrationStarted>,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let mut kept = self.replays.kept();
        let Some(at) = kept.iter().position(|it| it.key == self.key) else {
            return;
        };
        match self.answer.take() {
            Some(answer) => kept[at].answer = Some(answer),
            None => drop(kept.remove(at)),
        }
    }
}

/// Of several texts, so that no two lists of them give the same.
fn hash(parts: &[&[u8]]) -> Hash {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keyed(key: &str, body: &str) -> Option<Keyed> {
        Some(Keyed::new(key, ("anna", "/v1/x"), body.as_bytes()).expect(key))
    }

    async fn started(id: &str) -> Result<MigrationStarted, ApiError> {
        Ok(MigrationStarted { id: id.to_owned() })
    }

    async fn id(
        replays: &Replays,
        keyed: Option<Keyed>,
        new: &str,
    ) -> Result<String, (u16, &'static str)> {
        let started = replays.once(keyed, started(new)).await;
        let started = started.map_err(|error| (error.status.as_u16(), error.code));
        started.map(|it| it.id)
    }

    #[tokio::test(start_paused = true)]
    async fn the_same_request_is_started_once_a_day() {
        let replays = Replays::default();
        let one = |new| id(&replays, keyed("k", "a"), new);
        assert_eq!(one("1").await.as_deref(), Ok("1"));
        assert_eq!(one("2").await.as_deref(), Ok("1"));
        let other = id(&replays, keyed("k", "b"), "3").await;
        assert_eq!(other, Err((422, "other_request")));
        let another = id(&replays, keyed("l", "b"), "4").await;
        assert_eq!(another.as_deref(), Ok("4"));
        let whose = Keyed::new("k", ("ben", "/v1/x"), b"a").expect("a key");
        assert_eq!(id(&replays, Some(whose), "5").await.as_deref(), Ok("5"));
        assert_eq!(id(&replays, None, "6").await.as_deref(), Ok("6"));
        tokio::time::advance(KEPT_FOR).await;
        assert_eq!(one("7").await.as_deref(), Ok("7"));
        assert!(Keyed::new("", ("", ""), b"").is_err());
        assert!(Keyed::new(&"k".repeat(201), ("", ""), b"").is_err());
    }

    #[tokio::test]
    async fn what_failed_or_was_left_may_be_tried_again() {
        let replays = Replays::default();
        let fails = async { Err(ApiError::conflict("busy", "Not now.")) };
        let failed = replays.once(keyed("k", "a"), fails).await;
        assert_eq!(failed.map_err(|error| error.code), Err("busy"));
        {
            let mut waits = std::pin::pin!(replays.once(keyed("k", "a"), std::future::pending()));
            let polled = futures_poll(waits.as_mut()).await;
            assert!(polled, "it waits");
            let meanwhile = id(&replays, keyed("k", "a"), "1").await;
            assert_eq!(meanwhile, Err((409, "under_way")));
        }
        let again = id(&replays, keyed("k", "a"), "2").await;
        assert_eq!(again.as_deref(), Ok("2"));
    }

    /// Polls once; whether it is still under way.
    async fn futures_poll(future: std::pin::Pin<&mut impl Future>) -> bool {
        let mut future = future;
        std::future::poll_fn(|cx| std::task::Poll::Ready(future.as_mut().poll(cx).is_pending()))
            .await
    }

    #[tokio::test]
    async fn the_oldest_is_forgotten_when_there_are_too_many() {
        let replays = Replays::default();
        for number in 0..=KEPT_MAX {
            let key = number.to_string();
            assert_eq!(id(&replays, keyed(&key, "a"), &key).await, Ok(key.clone()));
        }
        assert_eq!(replays.kept().len(), KEPT_MAX);
        let again = id(&replays, keyed("0", "a"), "new").await;
        assert_eq!(again.as_deref(), Ok("new"));
    }
}
