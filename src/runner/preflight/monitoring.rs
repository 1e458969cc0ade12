//! Would anybody see what a run does to queries? `pg_stat_statements` and a log of slow statements, or
//! `auto_explain`. What is missing is named, and fails where `monitoring = true` asks for it.

use super::Check;
use super::ground::Ground;

const NAME: &str = "monitoring";

pub(super) async fn check(ground: &Ground<'_>) -> Result<Check, tokio_postgres::Error> {
    let sql = "select exists (select from pg_extension where extname = 'pg_stat_statements'), \
                      (select setting from pg_settings where name = 'shared_preload_libraries'), \
                      (select setting from pg_settings where name = 'session_preload_libraries'), \
                      (select setting::int8 from pg_settings \
                       where name = 'log_min_duration_statement')";
    let row = ground.session.client.query_one(sql, &[]).await?;
    let installed: bool = row.get(0);
    let shared: Option<String> = row.get(1);
    let Some(shared) = shared else {
        let why = "we may not see which libraries are loaded: grant pg_read_all_settings";
        return Ok(judged(ground, Check::not_known(NAME, why)));
    };
    let own: Option<String> = row.get(2);
    let explains = [shared.as_str(), own.as_deref().unwrap_or_default()]
        .iter()
        .any(|it| it.contains("auto_explain"));
    let slow: Option<i64> = row.get(3);
    let mut missing = Vec::new();
    if !shared.contains("pg_stat_statements") {
        missing.push("pg_stat_statements is not in shared_preload_libraries".to_owned());
    } else if !installed {
        missing.push("the extension pg_stat_statements is not in this database".to_owned());
    }
    if slow.is_none_or(|it| it < 0) && !explains {
        missing.push("slow statements are not logged (log_min_duration_statement)".to_owned());
    }
    let well = "pg_stat_statements is there, and slow statements are logged";
    Ok(judged(ground, Check::of(NAME, missing, well)))
}

/// It is only told where it is not asked for.
fn judged(ground: &Ground<'_>, check: Check) -> Check {
    if ground.limits.demands.monitoring || check.is_passed() {
        return check.hint("without them nobody can tell which statements a run made slower");
    }
    let text = "not asked for (migrate.preflight.monitoring)";
    let details = match check.details.is_empty() {
        true => vec![check.text],
        false => check.details,
    };
    Check::passed(NAME, text).with(details)
}
