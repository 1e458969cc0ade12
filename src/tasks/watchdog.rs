//! Notices a runtime that does nothing any more although its process lives: tokio ends a thread of its own that
//! panics without a word, and what was to run there never does.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::Tasks;

/// Returns when the home of a set of tasks has done nothing for so many beats in a row. To be awaited on
/// another runtime. What stops the whole process stops the beats, too, and counts as one at the most. Cancel safe.
pub async fn silence(home: &Tasks, beat: Duration, patience: u32) {
    let mut beat = interval(beat);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut missed = 0;
    let mut asked = home.spawn("heartbeat", async {});
    loop {
        beat.tick().await;
        if asked.is_finished() {
            missed = 0;
            asked = home.spawn("heartbeat", async {});
        } else {
            missed += 1;
        }
        if missed >= patience {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use tokio::runtime::Builder;

    use super::*;

    const BEAT: Duration = Duration::from_millis(5);

    #[test]
    fn a_home_that_is_stuck_is_noticed_and_one_that_is_busy_is_not() {
        let home = Builder::new_multi_thread().worker_threads(1).build();
        let home = home.expect("a runtime");
        let tasks = {
            let _inside = home.enter();
            Tasks::at_home()
        };
        let (leave, left) = mpsc::channel::<()>();
        let here = Builder::new_current_thread().enable_time().build();
        here.expect("a runtime").block_on(async {
            let noticed = tokio::time::timeout(BEAT * 50, silence(&tasks, BEAT, 20)).await;
            assert!(noticed.is_err(), "it answers each time");
            // As a thread that is gone: what is started there waits.
            tasks.spawn("stuck", async move { left.recv().is_err() });
            silence(&tasks, BEAT, 20).await;
        });
        drop(leave);
    }
}
