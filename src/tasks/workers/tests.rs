//! What runs on a worker stays there, and however it ends the others go on.

use std::future::{pending, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::ThreadId;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};

use super::*;
use crate::tasks::Tasks;

const SOON: Duration = Duration::from_secs(20);

fn this_thread() -> ThreadId {
    thread::current().id()
}

/// The thread that a worker is.
async fn thread_of(tasks: &Tasks, worker: &Worker) -> ThreadId {
    let asked = tasks.spawn_on(worker, "asked", async { this_thread() });
    asked.await.expect("it does not panic")
}

/// Two of them, beside the runtime of a test.
fn two() -> Workers {
    Workers::start(2).expect("threads")
}

#[tokio::test]
async fn a_task_stays_where_it_began_whoever_wakes_it() {
    let (workers, tasks) = (two(), Tasks::new());
    let other = &workers.others[0];
    let home = thread_of(&tasks, other).await;
    assert_ne!(home, this_thread());
    assert_ne!(home, thread_of(&tasks, workers.first()).await);
    let (wake, mut woken) = mpsc::channel(1);
    let mover = tasks.spawn_on(other, "woken", async move {
        let mut seen = vec![this_thread()];
        while woken.recv().await.is_some() {
            seen.push(this_thread());
            // Its timers are there too.
            sleep(Duration::from_millis(1)).await;
            seen.push(this_thread());
        }
        seen
    });
    for _ in 0..20 {
        wake.send(()).await.expect("it listens");
    }
    drop(wake);
    let seen = mover.await.expect("it does not panic");
    assert_eq!(seen.len(), 41);
    assert!(seen.iter().all(|thread| *thread == home), "{seen:?}");
    assert!(workers.stop_beside().await);
}

#[tokio::test]
async fn the_one_with_the_fewest_sessions_is_next() {
    let (workers, tasks) = (two(), Tasks::new());
    let mut sessions = Vec::new();
    for _ in 0..6 {
        let (leave, left) = oneshot::channel::<()>();
        let task = tasks.spawn_on(workers.least(), "session", left);
        sessions.push((leave, task));
    }
    assert_eq!(workers.tasks().collect::<Vec<_>>(), [3, 3]);
    // They went in turn, so that these are all on the second.
    for at in [5, 3] {
        let (leave, task) = sessions.remove(at);
        drop(leave);
        task.await.expect("it does not panic").expect_err("dropped");
    }
    crate::tasks::tests::until(|| workers.tasks().eq([3, 1])).await;
    for _ in 0..2 {
        drop(tasks.spawn_on(workers.least(), "session", pending::<()>()));
    }
    assert_eq!(workers.tasks().collect::<Vec<_>>(), [3, 3]);
}

#[tokio::test]
async fn a_panic_of_a_session_ends_it_alone() {
    let (workers, tasks) = (two(), Tasks::new());
    let (leave, left) = oneshot::channel::<()>();
    let healthy = tasks.spawn_on(workers.first(), "healthy", left);
    let broken = tasks.spawn_on(workers.first(), "broken", async { panic!("a bug") });
    assert!(broken.await.is_err_and(|error| error.is_panic()));
    leave.send(()).expect("it is still there");
    healthy.await.expect("no panic").expect("it was told");
    thread_of(&tasks, workers.first()).await;
    assert!(!workers.lost.is_cancelled());
}

/// A bug where nobody of ours is: in what the runtime itself does.
struct Broken;

impl Wake for Broken {
    fn wake(self: Arc<Self>) {
        panic!("a bug in a runtime");
    }
}

#[tokio::test]
async fn a_lost_thread_is_told_and_leaves_nothing_behind() {
    let (workers, tasks) = (two(), Tasks::new());
    let (held, dropped) = oneshot::channel::<()>();
    let session = tasks.spawn_on(&workers.others[0], "session", async move {
        let _held = held;
        pending::<()>().await;
    });
    tasks.spawn_on(&workers.others[0], "broken", async {
        let mut timer = pin!(sleep(Duration::from_millis(1)));
        let waker = Waker::from(Arc::new(Broken));
        poll_fn(|_| {
            let _ = timer.as_mut().poll(&mut Context::from_waker(&waker));
            Poll::<()>::Pending
        })
        .await;
    });
    timeout(SOON, workers.lost()).await.expect("it is told");
    dropped.await.expect_err("its session was dropped");
    assert!(session.await.is_err_and(|error| error.is_cancelled()));
    // The other goes on, and what is started on the lost one ends at once.
    thread_of(&tasks, workers.first()).await;
    let late = tasks.spawn_on(&workers.others[0], "late", pending::<()>());
    let late = timeout(SOON, late).await.expect("it ends");
    assert!(late.is_err_and(|error| error.is_cancelled()));
    assert!(workers.stop_beside().await);
}

#[tokio::test]
async fn stopping_ends_what_is_left() {
    let (workers, tasks) = (two(), Tasks::new());
    let (held, dropped) = oneshot::channel::<()>();
    tasks.spawn_on(workers.least(), "deaf", async move {
        let _held = held;
        pending::<()>().await;
    });
    assert!(workers.stop_beside().await);
    dropped.await.expect_err("it was dropped");
    assert!(tasks.is_empty());
}

#[test]
fn one_that_cannot_be_started_is_an_error_and_the_others_end() {
    let failed = Workers::start_with(2, |name| match name.as_str() {
        "worker-0" => thread::Builder::new().name("started".to_owned()),
        // No machine has a stack of that size.
        _ => thread::Builder::new().stack_size(1 << 60),
    });
    failed.expect_err("there is no such stack");
    let started = || {
        let threads = std::fs::read_dir("/proc/self/task").expect("Linux");
        let mut names = threads.flatten().map(|thread| {
            // It may have ended meanwhile.
            std::fs::read_to_string(thread.path().join("comm")).unwrap_or_default()
        });
        names.any(|name| name.trim_end() == "started")
    };
    let runtime = Builder::new_current_thread().enable_time().build();
    let waiting = crate::tasks::tests::until(|| !started());
    runtime.expect("a runtime").block_on(waiting);
}

impl Workers {
    /// [`Workers::stop`], which blocks, from within a test's runtime.
    async fn stop_beside(self) -> bool {
        let stopping = tokio::task::spawn_blocking(move || self.stop(SOON));
        stopping.await.expect("it does not panic")
    }
}
