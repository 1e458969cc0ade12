//! Is the schema what the last run left?
//!
//! Whoever alters tables past the migrations makes files mean something else than they did when they were
//! rehearsed and approved. It is named, line by line, and stops the run until it is brought back or accepted.

use super::Check;
use super::ground::Ground;
use crate::config::OnDrift;
use crate::runner::drift::{Standing, look};
use crate::runner::verify::SCHEMA_TIME;

const NAME: &str = "drift";

/// As many lines are named.
const SHOWN: usize = 40;

pub(super) async fn check(ground: &Ground<'_>) -> Result<Check, tokio_postgres::Error> {
    let ignore = &ground.limits.drift_ignore;
    let standing = look(ground.session, ignore, SCHEMA_TIME).await?;
    Ok(match standing {
        Standing::Nothing(why) => Check::does_not_apply(NAME, why),
        Standing::Same(left) => Check::passed(NAME, format!("the schema is what {} left", left.by)),
        Standing::Drifted { left, differences } => {
            let text = format!("the schema is not what {} left", left.by);
            let mut lines = differences.unwrap_or_default();
            if lines.len() > SHOWN {
                let more = lines.len() - SHOWN;
                lines.truncate(SHOWN);
                lines.push(format!("and {more} lines more"));
            }
            match ground.limits.drift {
                OnDrift::Tell => Check::passed(NAME, text).with(lines),
                OnDrift::Stop => Check::failed(NAME, text).with(lines).hint(
                    "`pgdrain migrate drift` shows it: bring it back, or accept it with --accept \
                     --reason",
                ),
            }
        }
    })
}
