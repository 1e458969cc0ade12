//! Is there a backup that is fresh enough and was verified, or does the run make one?

use jiff::Timestamp;

use super::Check;
use super::ground::Ground;
use crate::config::Verify;
use crate::runner::backup;

const NAME: &str = "backup";

const HINT: &str =
    "let runs make one (migrate.backup.dir, --backup), verified by \"list\" or \"restore\"";

pub(super) async fn check(ground: &Ground<'_>) -> Result<Check, tokio_postgres::Error> {
    let Some(age) = ground.limits.demands.backup_age else {
        return Ok(Check::does_not_apply(
            NAME,
            "no age is asked for (backup_age)",
        ));
    };
    let settings = ground.backup;
    // What an operator's command makes is his to verify.
    let verifies = settings.verify != Verify::None || settings.command.is_some();
    if ground.makes_backup && verifies {
        return Ok(Check::passed(NAME, "the run makes one first"));
    }
    let listed = match settings.dir {
        Some(_) => backup::list(settings, ground.database).await,
        None => {
            let text = "no backups are made, and one was asked for";
            return Ok(Check::failed(NAME, text).hint(HINT));
        }
    };
    let backups = match listed {
        Ok(listed) => listed.backups,
        Err(error) => return Ok(Check::unknown(NAME, &error)),
    };
    let verified = |it: &&backup::BackupView| it.verified.how != Verify::None;
    let Some(newest) = backups.iter().rev().find(verified) else {
        return Ok(Check::failed(NAME, "there is no verified backup").hint(HINT));
    };
    let old = Timestamp::now().duration_since(newest.snapshot_at);
    let text = format!(
        "the newest verified backup is of {} (run {})",
        newest.snapshot_at.strftime("%Y-%m-%d %H:%M:%SZ"),
        newest.run
    );
    let limit = jiff::SignedDuration::try_from(age).unwrap_or(jiff::SignedDuration::MAX);
    Ok(match old <= limit {
        true => Check::passed(NAME, text),
        false => {
            let limit = humantime::format_duration(age);
            Check::failed(NAME, format!("{text}, older than {limit}")).hint(HINT)
        }
    })
}
