//! The threads that carry traffic. Each has a runtime of its own, and what begins on one stays there: its
//! sockets, its timers and its wake-ups never go from one thread to another.
//!
//! A runtime that spreads its tasks over its threads moves a session at nearly every wake-up when there is
//! little to do, and wakes threads so that they look for work (`docs/PERFORMANCE.md`).

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::message;

/// How far away the next timer of a worker is at the most, see `beat`. Looking twice a second for nothing
/// takes no share of a core that can be measured.
const BEAT: Duration = Duration::from_millis(500);

/// One of the threads, for what is to be started there.
#[derive(Clone, Debug)]
pub struct Worker(pub(super) Handle);

impl Worker {
    /// How many tasks it has, which are sessions but for a few.
    #[must_use]
    pub fn tasks(&self) -> usize {
        self.0.metrics().num_alive_tasks()
    }
}

/// All of them, at least one. They end when this is dropped, and whatever they still ran is dropped.
#[derive(Debug)]
pub struct Workers {
    first: Worker,
    others: Vec<Worker>,
    /// Hangs up when every thread has ended.
    running: Mutex<Receiver<()>>,
    stop: CancellationToken,
    lost: CancellationToken,
}

impl Workers {
    /// Starts so many threads, but at least one.
    ///
    /// # Errors
    /// When the system has no thread, or no files for its runtime, left. None runs on then.
    pub fn start(threads: usize) -> io::Result<Workers> {
        Workers::start_with(threads, |name| thread::Builder::new().name(name))
    }

    fn start_with(
        threads: usize,
        builder: impl Fn(String) -> thread::Builder,
    ) -> io::Result<Workers> {
        let (stop, lost) = (CancellationToken::new(), CancellationToken::new());
        // Those that run already end if a later one cannot be started.
        let guard = stop.clone().drop_guard();
        let (runs, running) = channel();
        let begin = |number: usize| {
            let runtime = Builder::new_current_thread()
                .enable_io()
                .enable_time()
                .build()?;
            let worker = Worker(runtime.handle().clone());
            let (stop, lost, runs) = (stop.clone(), lost.clone(), runs.clone());
            builder(format!("worker-{number}")).spawn(move || work(runtime, &stop, &lost, runs))?;
            io::Result::Ok(worker)
        };
        let first = begin(0)?;
        let others = (1..threads).map(begin).collect::<io::Result<_>>()?;
        guard.disarm();
        Ok(Workers {
            first,
            others,
            running: Mutex::new(running),
            stop,
            lost,
        })
    }

    /// The one that takes clients: a client that stays there costs no wake-up of another thread.
    #[must_use]
    pub fn first(&self) -> &Worker {
        &self.first
    }

    /// The one that has least to do, by the number of its sessions.
    #[must_use]
    pub fn least(&self) -> &Worker {
        let mut least = (&self.first, self.first.tasks());
        for other in &self.others {
            let tasks = other.tasks();
            if tasks < least.1 {
                least = (other, tasks);
            }
        }
        least.0
    }

    /// Each of them.
    pub fn all(&self) -> impl Iterator<Item = &Worker> {
        std::iter::once(&self.first).chain(&self.others)
    }

    /// How many tasks each of them has, in that order.
    pub fn tasks(&self) -> impl Iterator<Item = usize> {
        std::iter::once(&self.first)
            .chain(&self.others)
            .map(Worker::tasks)
    }

    /// Returns when a thread has ended that nobody told to: a bug, of which its sessions have ended. It is in
    /// the log. Nothing that is started there runs any more. Cancel safe.
    pub async fn lost(&self) {
        self.lost.cancelled().await;
    }

    /// Ends the threads, and whatever they still run. Returns whether all have ended in time; what has not
    /// ends with the process. To be called outside of a runtime, since it blocks.
    #[must_use]
    pub fn stop(self, deadline: Duration) -> bool {
        self.stop.cancel();
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.recv_timeout(deadline) == Err(RecvTimeoutError::Disconnected)
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// The life of a thread. A task's panic does not get here, it ends the task alone.
fn work(runtime: Runtime, stop: &CancellationToken, lost: &CancellationToken, _runs: Sender<()>) {
    let worked = catch_unwind(AssertUnwindSafe(|| runtime.block_on(beat(stop))));
    // Names may still be looked up, which nobody waits for.
    runtime.shutdown_background();
    if let Err(panic) = worked {
        let (thread, panic) = (thread::current(), message(&*panic));
        tracing::error!(
            thread = thread.name(),
            panic,
            "a worker thread panicked and its sessions ended"
        );
        lost.cancel();
    }
}

/// Waits for the stop, with a timer beside it that is due before nearly all others. tokio wakes its driver,
/// by a write to a file, for each timer that is due before all others, also from the thread that is about to
/// look at it anyway; every login and every ending connection has such timers.
async fn beat(stop: &CancellationToken) {
    let mut beat = interval(BEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut stopped = pin!(stop.cancelled());
    loop {
        tokio::select! {
            () = &mut stopped => return,
            _ = beat.tick() => {}
        }
    }
}

#[cfg(test)]
mod tests;
