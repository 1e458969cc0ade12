//! Commands of the operator that are checks: `prisma migrate diff --exit-code`, say. One that ends with 0 is
//! passed; what it says on standard error is told otherwise.

use tokio::sync::watch;

use super::Check;
use super::ground::Ground;
use crate::runner::backup::program::{Program, Trouble};
use crate::runner::stop::Stop;

const NAME: &str = "commands";

pub(super) async fn check(ground: &Ground<'_>) -> Result<Check, tokio_postgres::Error> {
    let commands = &ground.limits.demands.commands;
    if commands.is_empty() {
        return Ok(Check::does_not_apply(NAME, "none is configured"));
    }
    // Nobody stops it; its time ends it.
    let (_keep, asked) = watch::channel(None);
    let stop = Stop::new(asked);
    let mut wrong = Vec::new();
    for command in commands {
        let mut program = Program::shell(&command.command, &command.name);
        if let Some(endpoint) = ground.connector.endpoint(ground.database) {
            program = program.reaching(&endpoint, ground.database);
        }
        let program = program.env("PGDRAIN_DATABASE", ground.database);
        let time = tokio::time::sleep(command.timeout);
        match program.run(&stop, time).await {
            Ok(()) => {}
            // That is what the wait for its time is told as.
            Err(Trouble::ServerGone { .. }) => {
                let time = humantime::format_duration(command.timeout);
                wrong.push(format!("{} did not end within {time}", command.name));
            }
            Err(
                trouble @ (Trouble::NotStarted { .. }
                | Trouble::Failed { .. }
                | Trouble::Stopped(_)),
            ) => wrong.push(trouble.to_string()),
        }
    }
    let well = match commands.len() {
        1 => "one command ended well".to_owned(),
        many => format!("{many} commands ended well"),
    };
    Ok(Check::of(NAME, wrong, well).hint("see migrate.preflight.commands"))
}
