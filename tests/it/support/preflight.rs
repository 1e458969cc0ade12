//! Looking at a cluster by preflight, with limits of the test's own.

use pgdrain::config::Preflight;
use pgdrain::runner::preflight::{Check, CheckOutcome, PreflightReport};
use pgdrain::runner::source::PostedFile;
use pgdrain::runner::types::{Direction, PlanRequest, TrafficMode};
use pgdrain::runner::{Options, Runner};
use pgdrain::server::own::OwnBackends;

use super::cluster::Postgres;
use super::migrations::{DATABASE, Site, Windows, endpoint, options, runner, windows};

/// Whoever can look.
pub(crate) trait Look {
    /// What preflight says about up files.
    async fn look(&self, files: &[PostedFile]) -> PreflightReport;
}

impl Look for Runner<Windows> {
    async fn look(&self, files: &[PostedFile]) -> PreflightReport {
        let request = PlanRequest {
            direction: Direction::Up,
            steps: None,
            files: files.to_vec(),
            format: None,
            history: None,
            traffic: TrafficMode::Auto,
        };
        let report = self.preflight(DATABASE, &request).await;
        report.expect("a report")
    }
}

impl Look for Site {
    async fn look(&self, files: &[PostedFile]) -> PreflightReport {
        self.runner.look(files).await
    }
}

impl Site {
    /// A runner with other limits.
    pub(crate) fn with(&self, preflight: Preflight) -> Runner<Windows> {
        self.as_role("postgres", preflight)
    }

    /// A runner of another role.
    pub(crate) fn as_role(&self, role: &str, preflight: Preflight) -> Runner<Windows> {
        let options = Options {
            preflight,
            ..options()
        };
        runner(
            endpoint(&self.postgres, role),
            options,
            &self.own,
            &self.windows,
        )
    }
}

/// A site on a cluster with settings of its own.
pub(crate) async fn site_of(mut postgres: Postgres, options: Options) -> Site {
    let client = postgres.connect(DATABASE).await;
    let windows = windows();
    let own = OwnBackends::default();
    let runner = runner(endpoint(&postgres, "postgres"), options, &own, &windows);
    Site {
        postgres,
        client,
        windows,
        own,
        runner,
    }
}

/// A check of a report.
#[track_caller]
pub(crate) fn check<'a>(report: &'a PreflightReport, name: &str) -> &'a Check {
    let found = report.checks.iter().find(|it| it.name == name);
    found.unwrap_or_else(|| panic!("no {name} in {report:#?}"))
}

/// How a check went.
#[track_caller]
pub(crate) fn outcome(report: &PreflightReport, name: &str) -> CheckOutcome {
    check(report, name).outcome
}

/// What a check found.
#[track_caller]
pub(crate) fn text<'a>(report: &'a PreflightReport, name: &str) -> &'a str {
    &check(report, name).text
}
