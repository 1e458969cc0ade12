//! Tracked tasks: the one place that starts them, so that stopping means waiting for a known set.

pub mod watchdog;
pub mod workers;

use std::any::Any;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use self::workers::Worker;

/// A set of tasks with one signal that asks all of them to end.
///
/// Clones share the set. A part of the program that must outlive another has a set of its own, so
/// that the two can be stopped one after the other.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    shutdown: CancellationToken,
    /// Where they run, whoever starts them.
    home: Option<Handle>,
}

/// How a set of tasks came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Every task returned before the deadline.
    Graceful,
    /// This many tasks still ran at the deadline; they end with the runtime.
    TimedOut(usize),
}

impl Tasks {
    /// An empty set. Its tasks run where they are started.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty set whose tasks run on the current runtime, also those that are started on another.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    #[must_use]
    pub fn at_home() -> Self {
        Self {
            home: Some(Handle::current()),
            ..Self::default()
        }
    }

    /// Starts a task at the home of the set, or else on the current runtime; it keeps the span of its
    /// caller.
    ///
    /// A panic ends this task alone and is logged under `name`. The handle may be dropped, which
    /// does not stop the task; awaiting it tells of a panic as a `JoinError`, as tokio's own does.
    ///
    /// # Panics
    /// Outside a tokio runtime, if the set has no home.
    pub fn spawn<T: Send + 'static>(
        &self,
        name: &'static str,
        task: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        match &self.home {
            Some(home) => self.spawn_at(home, name, task),
            None => self.spawn_here(name, task),
        }
    }

    /// The same on the current runtime, for what drives a socket that was opened there.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn spawn_here<T: Send + 'static>(
        &self,
        name: &'static str,
        task: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        self.spawn_at(&Handle::current(), name, task)
    }

    /// The same on a worker's thread, where it stays. What is started on one that has ended is dropped.
    pub fn spawn_on<T: Send + 'static>(
        &self,
        worker: &Worker,
        name: &'static str,
        task: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        self.spawn_at(&worker.0, name, task)
    }

    fn spawn_at<T: Send + 'static>(
        &self,
        runtime: &Handle,
        name: &'static str,
        task: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        let task = logged(name, task).in_current_span();
        #[expect(
            clippy::disallowed_methods,
            reason = "this is the one place meant by the ban"
        )]
        runtime.spawn(self.tracker.track_future(task))
    }

    /// What each task watches to know that it should end. Cancelling it asks the whole set.
    pub fn shutdown_token(&self) -> CancellationToken {
        self.shutdown.clone()
    }

    /// The set itself, for parts that need no more than to be waited for.
    pub fn tracker(&self) -> TaskTracker {
        self.tracker.clone()
    }

    /// How many tasks run now.
    pub fn len(&self) -> usize {
        self.tracker.len()
    }

    /// Whether no task runs now.
    pub fn is_empty(&self) -> bool {
        self.tracker.is_empty()
    }

    /// Asks every task to end and waits until all have, at most for `deadline`.
    ///
    /// Cancel safe: the request stands when the returned future is dropped, and may be repeated.
    pub async fn stop(&self, deadline: Duration) -> Ended {
        self.shutdown.cancel();
        self.tracker.close();
        match tokio::time::timeout(deadline, self.tracker.wait()).await {
            Ok(()) => Ended::Graceful,
            Err(_elapsed) => Ended::TimedOut(self.tracker.len()),
        }
    }
}

/// Does what blocks for a moment, while other threads of the runtime go on with its tasks. On a
/// runtime of one thread, such as a worker's, they wait: nothing that a session does calls this.
///
/// # Panics
/// Outside a tokio runtime.
pub fn blocking<T>(work: impl FnOnce() -> T) -> T {
    if Handle::current().runtime_flavor() == RuntimeFlavor::CurrentThread {
        return work();
    }
    tokio::task::block_in_place(work)
}

/// Runs a future; logs its panic, then lets the panic go on to the task's handle.
async fn logged<F: Future>(name: &'static str, task: F) -> F::Output {
    let mut task = pin!(task);
    let outcome = poll_fn(|context| {
        // The future is not polled again after it panicked, so no broken state of it is seen.
        match catch_unwind(AssertUnwindSafe(|| task.as_mut().poll(context))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
            Err(panic) => Poll::Ready(Err(panic)),
        }
    })
    .await;
    match outcome {
        Ok(output) => output,
        Err(panic) => {
            tracing::error!(
                task = name,
                panic = message(&*panic),
                "a task panicked and ended"
            );
            resume_unwind(panic)
        }
    }
}

/// The text of a panic, where it has one.
fn message(panic: &(dyn Any + Send)) -> &str {
    if let Some(text) = panic.downcast_ref::<&'static str>() {
        text
    } else if let Some(text) = panic.downcast_ref::<String>() {
        text
    } else {
        "(no text)"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Waits for a state.
    pub(super) async fn until(state: impl Fn() -> bool) {
        let reached = async {
            while !state() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(20), reached);
        waited.await.expect("the state is reached");
    }

    #[tokio::test]
    async fn what_has_a_home_runs_there_whoever_starts_it() {
        let workers = workers::Workers::start(1).expect("a thread");
        let thread = || std::thread::current().id();
        let (home, tasks) = (thread(), Tasks::at_home());
        let inner = tasks.clone();
        let asked = tasks.spawn_on(workers.first(), "session", async move {
            let timer = inner.spawn("timer", async move { thread() });
            let driver = inner.spawn_here("driver", async move { thread() });
            (thread(), timer.await, driver.await)
        });
        let (session, timer, driver) = asked.await.expect("no panic");
        assert_ne!(session, home);
        assert_eq!(timer.expect("no panic"), home);
        assert_eq!(driver.expect("no panic"), session);
    }

    #[tokio::test]
    async fn stop_waits_for_the_tasks_that_heed_the_token() {
        let tasks = Tasks::new();
        for _ in 0..3 {
            let token = tasks.shutdown_token();
            tasks.spawn("waiter", async move { token.cancelled().await });
        }
        assert_eq!(tasks.len(), 3);
        assert_eq!(tasks.stop(Duration::from_secs(5)).await, Ended::Graceful);
        assert!(tasks.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn stop_counts_the_tasks_that_do_not_end() {
        let tasks = Tasks::new();
        tasks.spawn("deaf", std::future::pending::<()>());
        tasks.spawn("deaf", std::future::pending::<()>());
        assert_eq!(
            tasks.stop(Duration::from_secs(600)).await,
            Ended::TimedOut(2)
        );
    }

    #[tokio::test]
    async fn a_panic_ends_its_task_alone_and_is_logged() {
        let log = tempfile::NamedTempFile::new().expect("a temporary file");
        let subscriber = tracing_subscriber::fmt()
            .with_writer(log.reopen().expect("it was just made"))
            .finish();
        // With a single one, tracing takes what another test's thread wants to see, which is nothing, for all.
        let _second = tracing::Dispatch::new(tracing::subscriber::NoSubscriber::new());
        let _guard = tracing::subscriber::set_default(subscriber);

        let tasks = Tasks::new();
        let other = tasks.spawn("other", async { 7 });
        let broken = tasks.spawn("broken", async { panic!("a bug in {}", "the relay") });
        assert!(broken.await.is_err_and(|error| error.is_panic()));
        assert_eq!(other.await.expect("the other task is untouched"), 7);
        assert_eq!(tasks.stop(Duration::from_secs(5)).await, Ended::Graceful);

        let text = std::fs::read_to_string(log.path()).expect("readable");
        assert!(text.contains("ERROR"), "{text}");
        assert!(
            text.contains("broken") && text.contains("a bug in the relay"),
            "{text}"
        );
    }
}
