//! The console: the pseudo-database through which operators speak to pgdrain by psql.
//!
//! Whoever names it at the login is let in by `session::console` and comes here as a visitor. It
//! speaks through the same [`Api`] as the admin HTTP, so that a word does the same in both.

mod act;
mod averages;
mod command;
mod complaint;
mod desk;
mod extended;
mod help;
mod options;
mod orders;
mod parameters;
mod prepared;
mod reader;
mod show;
mod talk;
mod text;
mod value;

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc;

use self::averages::PERIOD;
use self::desk::Desk;
use self::talk::Talk;
use super::api::Api;
use crate::config::Shared;
use crate::session::console::Visitor;
use crate::tasks::Tasks;

/// Serves visitors until the tasks are stopped.
pub fn serve<A: Api>(
    mut visitors: mpsc::Receiver<Visitor>,
    api: Arc<A>,
    config: Arc<Shared>,
    tasks: &Tasks,
) {
    let desk = Arc::new(Desk {
        api,
        config,
        averages: averages::Averages::default(),
        tasks: tasks.clone(),
        places: Arc::default(),
    });
    let stop = tasks.shutdown_token();
    let measured = Arc::clone(&desk);
    tasks.spawn("console averages", async move {
        let mut due = tokio::time::interval(PERIOD);
        loop {
            tokio::select! {
                _ = due.tick() => {
                    let status = measured.api.status().await;
                    measured.averages.note(&status, Instant::now());
                }
                () = stop.cancelled() => return,
            }
        }
    });
    let stop = tasks.shutdown_token();
    let tasks = tasks.clone();
    tasks.clone().spawn("console", async move {
        loop {
            let visitor = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                visitor = visitors.recv() => visitor,
            };
            let Some(visitor) = visitor else { return };
            let talk = Talk::begin(visitor, &desk);
            tasks.spawn("console visitor", talk.serve());
        }
    });
}
