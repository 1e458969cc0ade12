//! Is the server of the major version that was rehearsed on? Staging is asked, or its version is written down.

use super::Check;
use super::ground::Ground;
use crate::config::Secret;
use crate::runner::rehearse::endpoint;

const NAME: &str = "version";

pub(super) async fn check(ground: &Ground<'_>) -> Result<Check, tokio_postgres::Error> {
    let Some(staging) = &ground.limits.demands.staging else {
        return Ok(Check::does_not_apply(NAME, "no staging is configured"));
    };
    let sql = "select current_setting('server_version_num')::int4";
    let here: i32 = ground.session.client.query_one(sql, &[]).await?.get(0);
    let there = match of_staging(ground, staging).await {
        Ok(there) => there,
        Err(why) => {
            let text = format!("staging could not be asked: {why}");
            return Ok(Check::not_known(NAME, text).hint("see migrate.preflight.staging"));
        }
    };
    let (ours, theirs) = (named(here), named(there));
    let text = format!("staging has {theirs}, this server {ours}");
    Ok(match here / 10_000 == there / 10_000 {
        true => Check::passed(NAME, text),
        false => Check::failed(NAME, text).hint("rehearse on the same major version"),
    })
}

/// `server_version_num` of staging: as it is written down, or as it says itself.
async fn of_staging(ground: &Ground<'_>, staging: &Secret) -> Result<i32, String> {
    if !staging.expose().contains("://") {
        return number(staging.expose()).ok_or_else(|| "that is no version".to_owned());
    }
    let url = staging.clone();
    // It may read libpq's files.
    let found = tokio::task::spawn_blocking(move || endpoint(&url)).await;
    let (endpoint, database) = found.map_err(|it| it.to_string())??;
    let connector = ground.connector.elsewhere(endpoint);
    let sql = "show server_version_num";
    let asked = connector.run_script(&database, sql).await;
    let answer = asked.map_err(|it| it.to_string())?;
    let answer = answer.and_then(|it| it.parse().ok());
    answer.ok_or_else(|| "it does not say its version".to_owned())
}

/// `15.8` as the server counts versions; without a minor one it is the first.
fn number(version: &str) -> Option<i32> {
    let (major, minor) = version
        .trim()
        .split_once('.')
        .unwrap_or((version.trim(), "0"));
    let (major, minor): (i32, i32) = (major.parse().ok()?, minor.parse().ok()?);
    (1..1000).contains(&major).then_some(major * 10_000 + minor)
}

fn named(number: i32) -> String {
    format!("{}.{}", number / 10_000, number % 10_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_counted_as_the_server_does() {
        assert_eq!(number("15.8"), Some(150_008));
        assert_eq!(number("17"), Some(170_000));
        assert_eq!(number("fifteen"), None);
        assert_eq!(named(150_008), "15.8");
    }
}
