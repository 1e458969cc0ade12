//! Follows what is told anyway, of windows, drains and runs, and makes spans of it.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::outlet::Outlet;
use super::runs::Course;
use super::windows::Windows;
use crate::app::traffic;
use crate::audit::{Kind, News};
use crate::drain::report::Outcome;
use crate::gate::mode::Holder;
use crate::runner::Runner;
use crate::runner::types::{EventKind, RunState};
use crate::tasks::Tasks;
use crate::window::steps::Stage;
use crate::window::{Controller, Desk};

/// How long one wait for news is; the next begins at once.
const WAIT: Duration = Duration::from_secs(60);

/// How long a drain that was announced may take to begin.
const BEGIN: Duration = Duration::from_secs(5);

/// How often it is looked for until then.
const LOOK: Duration = Duration::from_millis(20);

/// Steps of ladders that wait to be noted.
const STEPS_MAX: usize = 64;

/// A drain reached a step of its ladder.
#[derive(Debug)]
struct Climbed {
    database: String,
    at: Timestamp,
    step: &'static str,
}

/// Makes traces of all windows until the process stops.
pub(super) async fn windows(
    (controller, desk): (Arc<Controller>, Arc<Desk>),
    after: u64,
    outlet: Outlet,
    tasks: Tasks,
) {
    let (climbed, mut steps) = mpsc::channel(STEPS_MAX);
    let stop = tasks.shutdown_token();
    let audit = controller.audit();
    let mut windows = Windows::default();
    let take = |windows: &mut Windows, news: News, mut seen: u64| {
        for told in news.events {
            seen = told.id;
            let since = |id: &str| desk.find(id).map(|window| window.since);
            outlet.take(windows.take(&told, since));
            let event = &told.event;
            let drains = event.after.as_deref() == Some(Stage::Draining.as_str());
            if let (Kind::Window, true, Some(database)) = (event.kind, drains, &event.database) {
                let climb = climb(Arc::clone(&controller), database.clone(), climbed.clone());
                tasks.spawn("steps of a drain", until(stop.clone(), climb));
            }
        }
        seen
    };
    let mut seen = after;
    loop {
        tokio::select! {
            news = audit.news(seen, WAIT) => seen = take(&mut windows, news, seen),
            Some(Climbed { database, at, step }) = steps.recv() => windows.step(&database, at, step),
            () = stop.cancelled() => break,
        }
    }
    take(&mut windows, audit.news(seen, Duration::ZERO).await, seen);
    outlet.take(windows.left(Timestamp::now()));
}

/// Makes a trace of a run.
pub(super) async fn run(
    runner: Runner<traffic::Windows>,
    id: String,
    controller: Arc<Controller>,
    outlet: Outlet,
    tasks: Tasks,
) {
    let (climbed, mut steps) = mpsc::channel(STEPS_MAX);
    let stop = tasks.shutdown_token();
    let begin = Timestamp::now();
    let (mut course, mut seen) = (None, 0);
    loop {
        let view = tokio::select! {
            view = runner.follow(&id, seen, WAIT) => view,
            Some(Climbed { at, step, .. }) = steps.recv() => {
                if let Some(course) = &mut course {
                    Course::step(course, at, step);
                }
                continue;
            }
        };
        let Some(view) = view else {
            break;
        };
        let course = course.get_or_insert_with(|| Course::new(&view, begin));
        for event in &view.events {
            seen = event.seq;
            outlet.take(course.take(event));
            let draining = event.data["state"] == RunState::Draining.as_str();
            if event.kind == EventKind::State && draining {
                let climb = climb(
                    Arc::clone(&controller),
                    view.database.clone(),
                    climbed.clone(),
                );
                tasks.spawn("steps of a drain", until(stop.clone(), climb));
            }
        }
        // Its last line says its end; without it nothing more comes either.
        if course.is_over() || (view.state.is_final() && view.events.is_empty()) {
            break;
        }
    }
    if let Some(mut course) = course {
        outlet.take(course.left(Timestamp::now()));
    }
}

async fn until(stop: CancellationToken, work: impl Future<Output = ()>) {
    tokio::select! {
        () = work => {}
        () = stop.cancelled() => {}
    }
}

/// Tells each step of the drain of a window that is about to begin, or has just begun.
async fn climb(controller: Arc<Controller>, database: String, climbed: mpsc::Sender<Climbed>) {
    let drain = async {
        loop {
            let draining = controller.draining(&database, Holder::Window);
            let fresh = draining.filter(|it| it.report.borrow().outcome == Outcome::Draining);
            match fresh {
                Some(draining) => return draining.report,
                None => sleep(LOOK).await,
            }
        }
    };
    // One that was over at once had no step to tell of.
    let Ok(mut report) = timeout(BEGIN, drain).await else {
        return;
    };
    let mut last = None;
    loop {
        let (step, goes_on) = {
            let now = report.borrow_and_update();
            (now.step, now.outcome == Outcome::Draining)
        };
        if last.replace(step) != Some(step) {
            let (at, step, database) = (Timestamp::now(), step.as_str(), database.clone());
            // Whoever asked may be gone.
            let _ = climbed.try_send(Climbed { database, at, step });
        }
        if !goes_on || report.changed().await.is_err() {
            return;
        }
    }
}
