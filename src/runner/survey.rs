//! Looks at a database for a plan: the one part of planning and linting that asks anybody.

use std::sync::Arc;

use super::catalog::{Catalog, Reader};
use super::connect::{ConnectError, Connector};
use super::plan::{self, Falling, Plan, PlanReport, StudiedStep};

/// What a database said about a plan, and the session to ask it more.
pub(super) struct Survey {
    pub(super) reader: Reader,
    pub(super) catalog: Catalog,
}

/// Why a database could not be looked at.
#[derive(Debug, thiserror::Error)]
pub enum SurveyError {
    /// No connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The server refused a question, or it would have had to wait.
    #[error("cannot read the catalogs: {}", super::report::chain(.0))]
    Query(#[from] tokio_postgres::Error),
}

impl Survey {
    /// Looks up everything that a plan names.
    pub(super) async fn of(
        connector: &Arc<Connector>,
        database: &str,
        owner: Option<&str>,
        plan: &Plan,
    ) -> Result<Self, SurveyError> {
        let reader = Reader::open(connector, database, owner).await?;
        let catalog = reader.catalog(&plan::wanted(plan)).await?;
        Ok(Self { reader, catalog })
    }

    /// Asks what goes with what is dropped. What cannot be asked is unknown, not nothing.
    pub(super) async fn cascades(&self, studied: &mut [StudiedStep<'_>]) {
        for statement in studied.iter_mut().flat_map(|it| &mut it.statements) {
            let mut all = Some(Vec::new());
            for falling in plan::falling(statement) {
                match (&mut all, self.dependents(&falling).await) {
                    (Some(all), Some(more)) => {
                        all.extend(more);
                    }
                    (_, None) => all = None,
                    (None, Some(_)) => {}
                }
            }
            statement.cascade = all.map(|mut it| {
                it.sort();
                it.dedup();
                it
            });
        }
    }

    async fn dependents(&self, falling: &Falling) -> Option<Vec<String>> {
        let (class, oid, column) = match falling {
            Falling::Known(class, oid, column) => (*class, *oid, *column),
            Falling::Named(class, name) => match self.reader.object(class, name).await.ok()? {
                Some(oid) => (*class, oid, 0),
                // Not there (IF EXISTS), or one of several of that name.
                None => return (*class != "pg_proc").then(Vec::new),
            },
        };
        self.reader.dependents(class, oid, column).await.ok()
    }
}

/// Plans with what the database says. Writes nothing.
pub(super) async fn plan_report(
    connector: &Arc<Connector>,
    database: &str,
    owner: Option<&str>,
    plan: &Plan,
) -> Result<PlanReport, SurveyError> {
    let survey = Survey::of(connector, database, owner, plan).await?;
    let mut studied = plan::study(plan, Some(&survey.catalog));
    survey.cascades(&mut studied).await;
    let report = plan::report(database, plan, Some(&survey.catalog), &studied);
    drop(studied);
    survey.reader.close().await;
    Ok(report)
}
