//! Plays seeds on as many threads as there are processors, and tells of the first that fails.

use std::cell::RefCell;
use std::io::{self, Write};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, Once, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use pgdrain::faults::Fault;

use crate::world::{Died, Log, World};

/// A seed that broke a promise.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    pub(crate) seed: u64,
    pub(crate) why: String,
}

thread_local! {
    /// The first panic of this thread: also one in a task, which ends that task alone.
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
    static WATCHED: RefCell<bool> = const { RefCell::new(false) };
}

/// A number from the environment.
pub(crate) fn wanted(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().expect("a number"))
}

/// Plays these seeds until one fails, or until the time is over that `SIM_TIME` gives, in seconds.
pub(crate) fn seeds(seeds: Range<u64>, fault: Option<Fault>) -> Option<Failure> {
    let next = AtomicU64::new(seeds.start);
    let stop = AtomicBool::new(false);
    let failures = Mutex::new(Vec::new());
    let time = wanted("SIM_TIME").map(Duration::from_secs);
    let begun = Instant::now();
    let threads = thread::available_parallelism().map_or(2, usize::from);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end || time.is_some_and(|time| begun.elapsed() > time) {
                        break;
                    }
                    if let Some(failure) = play(seed, fault, &Rc::default()) {
                        stop.store(true, Ordering::Relaxed);
                        let mut failures = failures.lock().unwrap_or_else(PoisonError::into_inner);
                        failures.push(failure);
                    }
                }
            });
        }
    });
    let played = next.load(Ordering::Relaxed).min(seeds.end) - seeds.start;
    let took = begun.elapsed();
    say(format_args!(
        "{played} seeds in {took:.1?} on {threads} threads"
    ));
    let failures = failures
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    failures.into_iter().min_by_key(|failure| failure.seed)
}

/// Plays one seed with all its steps shown.
pub(crate) fn replay(seed: u64) {
    let log = Rc::new(RefCell::new(Log::default()));
    log.borrow_mut().all = true;
    let failure = play(seed, None, &log);
    tell(&log, failure.as_ref());
    assert!(failure.is_none(), "seed {seed} failed");
}

/// Plays a seed that has failed, and shows its last steps.
pub(crate) fn show(seed: u64) -> ! {
    let log = Rc::default();
    let failure = play(seed, None, &log);
    tell(&log, failure.as_ref());
    panic!("seed {seed} failed: replay it with SIM_SEED={seed} cargo test --test sim");
}

/// Also when the test passes, whose output is thrown away otherwise.
pub(crate) fn say(text: std::fmt::Arguments<'_>) {
    // Nobody reads it, then.
    let _ = writeln!(io::stdout(), "{text}");
}

fn tell(log: &RefCell<Log>, failure: Option<&Failure>) {
    for (at, step) in &log.borrow().steps {
        say(format_args!("{at:>8} ms  {step:?}"));
    }
    if let Some(failure) = failure {
        say(format_args!("{}", failure.why));
    }
}

fn play(seed: u64, fault: Option<Fault>, log: &Rc<RefCell<Log>>) -> Option<Failure> {
    static HOOK: Once = Once::new();
    HOOK.call_once(watch_panics);
    #[cfg(debug_assertions)]
    pgdrain::faults::put_back(fault);
    #[cfg(not(debug_assertions))]
    assert!(fault.is_none(), "a release has no faults");
    WATCHED.set(true);
    PANIC.take();
    let log = Rc::clone(log);
    // Only the thread-local log is looked at afterwards.
    let _ = catch_unwind(AssertUnwindSafe(|| live(World::new(seed, log))));
    WATCHED.set(false);
    let why = PANIC.take()?;
    Some(Failure { seed, why })
}

/// All lives of the proxy, each with a runtime of its own, so that nothing of one survives.
fn live(mut world: World) {
    loop {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            // One task a turn: between any two of them something else can happen.
            .event_interval(1)
            .build()
            .expect("a runtime without sockets");
        let died = runtime.block_on(async {
            let died = world.live().await;
            let panicked = PANIC.with_borrow(Option::is_some);
            assert!(!panicked, "a task panicked");
            died
        });
        match died {
            Died::Crashed => {}
            Died::AtTheEnd => return,
        }
    }
}

/// Keeps the first panic of a thread that plays, and lets others be.
fn watch_panics() {
    let others = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !WATCHED.with_borrow(|watched| *watched) {
            return others(panic);
        }
        PANIC.with_borrow_mut(|first| {
            first.get_or_insert_with(|| panic.to_string());
        });
    }));
}
