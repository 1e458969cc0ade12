//! One look at pgdrain: its status, its windows, and what is new about migrations that run.

use std::collections::BTreeMap;

use super::pane::{Asked, SESSIONS, Told};
use super::view::News;
use crate::admin::types::{Sessions, Status, WindowViews};
use crate::cli::client::{Client, ClientError, path};
use crate::runner::types::RunView;

/// Looks. `seen` has the last event that is known of each migration.
pub(super) async fn look(
    client: &Client,
    seen: &BTreeMap<String, u64>,
    asked: &Asked,
) -> Result<News, ClientError> {
    let status: Status = client.get(&path(&["v1", "status"])).await?;
    let windows = path(&["v1", "databases", "*", "windows"]);
    let WindowViews { windows } = client.get(&windows).await?;
    let mut runs = Vec::new();
    for id in status
        .databases
        .iter()
        .filter_map(|it| it.migration.as_ref())
    {
        let after = seen.get(id).copied().unwrap_or(0);
        let path = path(&["v1", "migrations", id]) + &format!("?after={after}");
        match client.get::<RunView>(&path).await {
            Ok(run) => runs.push(run),
            // It ended in between.
            Err(error) if error.has_code("not_found") => {}
            Err(error) => return Err(error),
        }
    }
    Ok(News {
        status,
        windows,
        runs,
        told: told(client, asked).await?,
    })
}

/// What the lower half of the screen needs.
async fn told(client: &Client, asked: &Asked) -> Result<Told, ClientError> {
    Ok(match asked {
        Asked::Nothing => Told::Nothing,
        Asked::Sessions(database) => {
            let sessions = path(&["v1", "databases", database, "sessions"]);
            let page = format!("{sessions}?sort=transaction&limit={SESSIONS}");
            let Sessions { sessions, .. } = client.get(&page).await?;
            Told::Sessions(sessions)
        }
        Asked::Precheck(database) => {
            let precheck = path(&["v1", "databases", database, "precheck"]);
            Told::Precheck(Box::new(client.get(&precheck).await?))
        }
    })
}
