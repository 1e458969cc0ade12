//! The sequence: build the stage, let clients work, migrate among them, count, tell.

use std::time::{Duration, Instant};

use super::Demo;
use super::course::{self, Clocks, Course, Window};
use super::live::Screen;
use super::load::Load;
use super::scene::{self, DATABASE};
use super::stage::Stage;
use super::table::Ending;
use crate::cli::client::Client;
use crate::cli::exit::Exit;
use crate::cli::output;

/// Plays the demo to its end. Dropping the future ends and removes everything.
///
/// # Errors
/// Something could not be started or asked; what the clients saw is no error but the result.
pub(super) async fn run(demo: &Demo) -> anyhow::Result<Exit> {
    let screen = Screen::new();
    screen.begin("starting a Postgres and pgdrain before it")?;
    let stage = Stage::build(demo).await?;
    screen.say(&stage.addresses())?;
    let ending = perform(&screen, &stage, demo).await.inspect_err(|_| {
        // Its directory is about to go.
        let log = stage.proxy().log_tail();
        output::note(&format!("the log of pgdrain ends with:\n{log}"));
    })?;
    screen.end();

    output::line(&format!("\n{ending}"))?;
    if demo.keep {
        output::line(&format!("\n{}", stage.keep()))?;
    } else {
        stage.strike().await?;
    }
    Ok(ending.exit())
}

async fn perform(screen: &Screen, stage: &Stage, demo: &Demo) -> anyhow::Result<Ending> {
    screen.begin(&format!("filling a table of {} rows", demo.rows))?;
    let fill = async |client: &_| Ok(scene::set(client, demo.rows).await?);
    stage.direct(DATABASE, fill).await?;
    scene::write_migrations(&stage.migrations())?;

    screen.begin(&format!("connecting {} clients", demo.clients))?;
    let admin = Client::new(stage.proxy().admin())?;
    let load = Load::start(&stage.proxy().url(DATABASE), demo.clients, demo.rows).await?;
    let (clocks, began) = (Clocks::now(), Instant::now());
    let course = tokio::select! {
        course = traffic_and_migration(screen, stage, &admin, demo) => course?,
        never = screen.follow(&load, &admin) => match never {},
    };
    let stopped = Instant::now();
    screen.phase("stopping");
    let tally = load.stop().await;

    screen.phase("counting");
    let count = async |client: &_| Ok(scene::count(client).await?);
    let found = stage.direct(DATABASE, count).await?;
    let gate = |window: Window| {
        (
            clocks.instant(window.held_at),
            clocks.instant(window.reopened_at),
        )
    };
    Ok(Ending {
        clients: demo.clients,
        accounts: demo.rows,
        began,
        gate: course.window.map(gate),
        stopped,
        course,
        tally,
        found,
    })
}

async fn traffic_and_migration(
    screen: &Screen,
    stage: &Stage,
    admin: &Client,
    demo: &Demo,
) -> anyhow::Result<Course> {
    let traffic = Duration::from_secs(demo.seconds.into());
    screen.phase("before");
    tokio::time::sleep(traffic).await;
    let course = course::migrate(screen, admin, &stage.migrations()).await?;
    screen.phase("after");
    tokio::time::sleep(traffic).await;
    Ok(course)
}
