//! Tells people and programs how a run goes, and more of them when nobody acknowledges.
//!
//! Each target has a task of its own that follows the run as `migrate attach` does, at its own pace:
//! a target that is slow or gone delays nobody, least of all the run. What it could not be told is a
//! note in the run and a line of the log. A task ends when nothing more can come, at the latest a
//! moment after the process was told to stop.

mod after;
mod message;
mod send;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

pub(super) use self::after::{Told, tell};

use self::message::Course;
use super::Runner;
use super::record::Run;
use super::stop::StopReason;
use super::traffic::Traffic;
use crate::config::Notify;

/// How long the last words may take when the process stops.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Begins to tell every target of a run.
pub(super) fn begin(
    tasks: &TaskTracker,
    targets: &[Notify],
    run: &Arc<Run>,
    stopping: &watch::Receiver<Option<StopReason>>,
) {
    for target in targets {
        let (target, run, stopping) = (target.clone(), Arc::clone(run), stopping.clone());
        tasks.spawn(async move {
            tokio::select! {
                () = follow(&target, &run, &stopping) => {}
                () = given_up(stopping.clone()) => {
                    tracing::warn!(run = run.id, target = target.name, "not told any more: pgdrain stops");
                }
            }
        });
    }
}

async fn follow(target: &Notify, run: &Run, stopping: &watch::Receiver<Option<StopReason>>) {
    let mut course = Course::new(target, &run.by, Instant::now());
    let mut acked = run.acked();
    loop {
        let at = *acked.borrow_and_update();
        for message in course.next(&run.view(course.seen), Instant::now(), at) {
            if let Err(why) = send::send(target, &message, stopping).await {
                let text = format!("{} was not told: {why}", target.name);
                tracing::warn!(run = run.id, "{text}");
                run.remark(text);
            }
        }
        // What would only come later does not keep a process that stops.
        let stops = stopping.borrow().is_some();
        if course.is_over() || (stops && course.has_ended()) {
            return;
        }
        let due = course.due();
        tokio::select! {
            () = run.behind(course.seen) => {}
            changed = acked.changed() => if changed.is_err() { return },
            () = sleep_until(due) => {}
            () = stopped(stopping.clone()), if !stops => {}
        }
    }
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

async fn given_up(stopping: watch::Receiver<Option<StopReason>>) {
    stopped(stopping).await;
    tokio::time::sleep(LAST_WORDS).await;
}

async fn stopped(mut stopping: watch::Receiver<Option<StopReason>>) {
    if stopping.wait_for(Option::is_some).await.is_err() {
        // The runner is gone with everything that could be told.
        std::future::pending::<()>().await;
    }
}

impl<T: Traffic> Runner<T> {
    /// Takes down that somebody looks after a run, so that nobody else is called. False if there is no
    /// such run.
    pub fn acknowledge(&self, id: &str, by: &str) -> bool {
        self.find(id).is_some_and(|run| {
            run.acknowledge(by);
            true
        })
    }
}
