//! The one table of what can be asked, and the search in it.

use hyper::Method;

use crate::config::Permission;

/// What can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Endpoint {
    Health,
    Ready,
    Metrics,
    Status,
    Events,
    Sessions,
    SetMode,
    ChangeDrain,
    Precheck,
    SetCap,
    StartMigration,
    MigrationStatus,
    PlanMigration,
    LintMigration,
    PreflightMigration,
    RehearseMigration,
    Backups,
    PruneBackups,
    RestoreBackup,
    RestoreInPlace,
    RepairMigration,
    VerifyMigration,
    MigrationDrift,
    SavedObjects,
    ReplayObjects,
    MigrationReport,
    Unwatch,
    Migrations,
    Migration,
    CancelMigration,
    AcknowledgeMigration,
    ApproveMigration,
    MigrationApprovals,
    RevokeApproval,
    GoNoGo,
    DecideMigration,
    OrderWindow,
    Windows,
    Window,
    WindowEvents,
    RenewWindow,
    FinishWindow,
    AbortWindow,
    Statements,
    MeasureStatements,
    CancelSession,
    TerminateSession,
    AbortSession,
    Page,
    PageFile,
    Pace,
    Running,
    Mode,
    Config,
    ValidateConfig,
    ReloadConfig,
    Document,
    Caller,
}

/// A row of the table.
pub(super) struct Route {
    pub(super) method: Method,
    /// A segment in braces stands for any text.
    pub(super) path: &'static str,
    pub(super) endpoint: Endpoint,
    /// Whoever has one of these may ask; everybody may if there is none.
    pub(super) needs: &'static [Permission],
    /// The longest body in bytes.
    pub(super) body_max: usize,
}

/// Requests without a body, or with a few settings.
const SMALL: usize = 64 << 10;

/// Requests that carry all files of a directory.
const FILES: usize = 16 << 20;

/// The text of a configuration file.
const CONFIG: usize = 1 << 20;

/// What needs nothing says only whether pgdrain is there.
const NOTHING: &[Permission] = &[];
const LOOK: &[Permission] = &[Permission::Look];
const HOLD: &[Permission] = &[Permission::Hold];
/// The body says which; the call looks again.
const HOLD_OR_OPEN: &[Permission] = &[Permission::Hold, Permission::Open];
const MIGRATE: &[Permission] = &[Permission::Migrate];
const APPROVE: &[Permission] = &[Permission::Approve];
const ADMINISTER: &[Permission] = &[Permission::Administer];

const fn route(
    method: Method,
    path: &'static str,
    endpoint: Endpoint,
    needs: &'static [Permission],
    body_max: usize,
) -> Route {
    Route {
        method,
        path,
        endpoint,
        needs,
        body_max,
    }
}

/// Everything that can be asked.
pub(super) const ROUTES: &[Route] = &[
    route(Method::GET, "/healthz", Endpoint::Health, NOTHING, SMALL),
    route(Method::GET, "/readyz", Endpoint::Ready, NOTHING, SMALL),
    route(Method::GET, "/metrics", Endpoint::Metrics, LOOK, SMALL),
    route(Method::GET, "/v1/status", Endpoint::Status, LOOK, SMALL),
    route(Method::GET, "/v1/events", Endpoint::Events, LOOK, SMALL),
    route(
        Method::GET,
        "/v1/databases/{db}/sessions",
        Endpoint::Sessions,
        LOOK,
        SMALL,
    ),
    route(
        Method::PUT,
        "/v1/databases/{db}/mode",
        Endpoint::SetMode,
        HOLD_OR_OPEN,
        SMALL,
    ),
    route(
        Method::PUT,
        "/v1/databases/{db}/drain",
        Endpoint::ChangeDrain,
        HOLD,
        SMALL,
    ),
    route(
        Method::GET,
        "/v1/databases/{db}/precheck",
        Endpoint::Precheck,
        LOOK,
        SMALL,
    ),
    route(
        Method::PUT,
        "/v1/databases/{db}/cap",
        Endpoint::SetCap,
        HOLD,
        SMALL,
    ),
    route(
        Method::POST,
        "/v1/databases/{db}/migrations",
        Endpoint::StartMigration,
        MIGRATE,
        FILES,
    ),
    route(
        Method::POST,
        "/v1/databases/{db}/migrations/status",
        Endpoint::MigrationStatus,
        LOOK,
        FILES,
    ),
    route(
        Method::POST,
        "/v1/databases/{db}/migrations/plan",
        Endpoint::PlanMigration,
        LOOK,
        FILES,
    ),
    route(
        Method::POST,
        "/v1/databases/{db}/migrations/lint",
        Endpoint::LintMigration,
        LOOK,
        FILES,
    ),
    route(
        Method::POST,
        "/v1/databases/{db}/migrations/preflight",
        Endpoint::PreflightMigration,
        MIGRATE,
        FILES,
    ),
    route(
        Method::POST,
        "/v1/databases/{db}/migrations/rehearse",
        Endpoint::RehearseMigration,
        MIGRATE,
        FILES,
    ),
    route(
        Method::GET,
        "/v1/databases/{db}/migrations/backups",
        Endpoint::Backups,
        LOOK,
        SMALL,
    ),
    route(
        Method::POST,
        "/v1/databases/{db}/migrations/backups/prune",
        Endpoint::PruneBackups,
        MIGRATE,
        SMALL,
    ),
    route(
        Method::POST,
        "/v1/databases/{db}/migrations/restore",
        Endpoint::RestoreBackup,
        MIGRATE,
        SMALL,
    ),
    route(
        Method::POST,
        "/v1/databases/{db}/migrations/restore/in-place",
        Endpoint::RestoreInPlace,
        MIGRATE,
        SMALL,
    ),
    route(
        Method::POST,
        "/v1/databases/{db}/migrations/repair",
        Endpoint::RepairMigration,
        MIGRATE,
        SMALL,
    ),
    route(
        Method::POST,
        "/v1/databases/{db}/migrations/verify",
        Endpoint::VerifyMigration,
        LOOK,
        FILES,
    ),
    route(
        Method::POST,
        "/v1/databases/{db}/migrations/drift",
        Endpoint::MigrationDrift,
        MIGRATE,
        SMALL,
    ),
    route(
        Method::GET,
        "/v1/databases/{db}/migrations/objects",
        Endpoint::SavedObjects,
        LOOK,
        SMALL,
    ),
    route(
        Method::POST,
        "/v1/databases/{db}/migrations/objects/replay",
        Endpoint::ReplayObjects,
        MIGRATE,
        SMALL,
    ),
    route(
        Method::POST,
        "/v1/databases/{db}/migrations/unwatch",
        Endpoint::Unwatch,
        MIGRATE,
        SMALL,
    ),
    route(
        Method::GET,
        "/v1/databases/{db}/migrations/report",
        Endpoint::MigrationReport,
        LOOK,
        SMALL,
    ),
    route(
        Method::GET,
        "/v1/databases/{db}/migrations",
        Endpoint::Migrations,
        LOOK,
        SMALL,
    ),
    route(
        Method::GET,
        "/v1/migrations/{id}",
        Endpoint::Migration,
        LOOK,
        SMALL,
    ),
    route(
        Method::POST,
        "/v1/migrations/{id}/cancel",
        Endpoint::CancelMigration,
        HOLD,
        SMALL,
    ),
    route(
        Method::POST,
        "/v1/migrations/{id}/ack",
        Endpoint::AcknowledgeMigration,
        HOLD,
        SMALL,
    ),
    route(
        Method::POST,
        "/v1/databases/{db}/migrations/approvals",
        Endpoint::ApproveMigration,
        APPROVE,
        SMALL,
    ),
    route(
        Method::GET,
        "/v1/databases/{db}/migrations/approvals",
        Endpoint::MigrationApprovals,
        LOOK,
        SMALL,
    ),
    route(
        Method::POST,
        "/v1/databases/{db}/migrations/approvals/revoke",
        Endpoint::RevokeApproval,
        APPROVE,
        SMALL,
    ),
    route(
        Method::POST,
        "/v1/databases/{db}/migrations/gonogo",
        Endpoint::GoNoGo,
        MIGRATE,
        FILES,
    ),
    route(
        Method::POST,
        "/v1/databases/{db}/migrations/decide",
        Endpoint::DecideMigration,
        MIGRATE,
        SMALL,
    ),
    route(
        Method::POST,
        "/v1/databases/{db}/windows",
        Endpoint::OrderWindow,
        HOLD,
        SMALL,
    ),
    route(
        Method::GET,
        "/v1/databases/{db}/windows",
        Endpoint::Windows,
        LOOK,
        SMALL,
    ),
    route(
        Method::GET,
        "/v1/windows/{id}",
        Endpoint::Window,
        LOOK,
        SMALL,
    ),
    route(
        Method::GET,
        "/v1/windows/{id}/events",
        Endpoint::WindowEvents,
        LOOK,
        SMALL,
    ),
    route(
        Method::POST,
        "/v1/windows/{id}/renew",
        Endpoint::RenewWindow,
        HOLD,
        SMALL,
    ),
    route(
        Method::POST,
        "/v1/windows/{id}/finish",
        Endpoint::FinishWindow,
        HOLD,
        SMALL,
    ),
    route(
        Method::POST,
        "/v1/windows/{id}/abort",
        Endpoint::AbortWindow,
        HOLD,
        SMALL,
    ),
    route(
        Method::GET,
        "/v1/databases/{db}/statements",
        Endpoint::Statements,
        LOOK,
        SMALL,
    ),
    route(
        Method::PUT,
        "/v1/databases/{db}/statements",
        Endpoint::MeasureStatements,
        HOLD,
        SMALL,
    ),
    route(
        Method::POST,
        "/v1/sessions/{id}/cancel",
        Endpoint::CancelSession,
        HOLD,
        SMALL,
    ),
    route(
        Method::POST,
        "/v1/sessions/{id}/terminate",
        Endpoint::TerminateSession,
        HOLD,
        SMALL,
    ),
    route(
        Method::POST,
        "/v1/sessions/{id}/abort",
        Endpoint::AbortSession,
        HOLD,
        SMALL,
    ),
    route(Method::GET, "/", Endpoint::Page, NOTHING, SMALL),
    route(
        Method::GET,
        "/dashboard/{file}",
        Endpoint::PageFile,
        NOTHING,
        SMALL,
    ),
    route(
        Method::GET,
        "/v1/databases/{db}/pace",
        Endpoint::Pace,
        LOOK,
        SMALL,
    ),
    route(
        Method::GET,
        "/v1/databases/{db}/running",
        Endpoint::Running,
        LOOK,
        SMALL,
    ),
    route(
        Method::GET,
        "/v1/databases/{db}/mode",
        Endpoint::Mode,
        LOOK,
        SMALL,
    ),
    route(Method::GET, "/v1/config", Endpoint::Config, LOOK, SMALL),
    route(
        Method::POST,
        "/v1/config/validate",
        Endpoint::ValidateConfig,
        ADMINISTER,
        CONFIG,
    ),
    route(
        Method::POST,
        "/v1/config/reload",
        Endpoint::ReloadConfig,
        ADMINISTER,
        SMALL,
    ),
    route(
        Method::GET,
        "/openapi.json",
        Endpoint::Document,
        NOTHING,
        SMALL,
    ),
    route(Method::GET, "/v1/caller", Endpoint::Caller, LOOK, SMALL),
];

/// A row that was found.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) endpoint: Endpoint,
    /// The text of the segment in braces; empty where the path has none.
    pub(super) parameter: String,
    /// Whether that is the name of a database.
    pub(super) names_database: bool,
    pub(super) needs: &'static [Permission],
    pub(super) body_max: usize,
}

/// Why no row was found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Miss {
    /// No row has this path.
    Path,
    /// Rows have this path, with these methods.
    Method { allowed: Vec<Method> },
}

/// Finds the row of a request.
pub(super) fn find(method: &Method, path: &str) -> Result<Found, Miss> {
    // HEAD is GET whose body hyper leaves out.
    let method = match *method {
        Method::HEAD => &Method::GET,
        _ => method,
    };
    let mut allowed = Vec::new();
    for route in ROUTES {
        let Some(parameter) = parameter(route.path, path) else {
            continue;
        };
        if route.method == *method {
            return Ok(Found {
                endpoint: route.endpoint,
                parameter,
                names_database: route.path.contains("{db}"),
                needs: route.needs,
                body_max: route.body_max,
            });
        }
        allowed.push(route.method.clone());
    }
    match allowed.is_empty() {
        true => Err(Miss::Path),
        false => Err(Miss::Method { allowed }),
    }
}

/// The text of the pattern's segment in braces if the path fits the pattern.
fn parameter(pattern: &str, path: &str) -> Option<String> {
    let mut found = String::new();
    let mut segments = path.split('/');
    for expected in pattern.split('/') {
        let segment = segments.next()?;
        if expected.starts_with('{') {
            let decoded = percent_encoding::percent_decode_str(segment).decode_utf8();
            found = decoded.ok().filter(|text| !text.is_empty())?.into_owned();
        } else if expected != segment {
            return None;
        }
    }
    segments.next().is_none().then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_found_with_its_parameter() {
        let found = |path| find(&Method::GET, path).map(|found| (found.endpoint, found.parameter));
        let sessions = |db: &str| Ok((Endpoint::Sessions, db.to_owned()));
        assert_eq!(found("/healthz"), Ok((Endpoint::Health, String::new())));
        assert_eq!(found("/v1/databases/shop/sessions"), sessions("shop"));
        assert_eq!(found("/v1/databases/*/sessions"), sessions("*"));
        assert_eq!(
            found("/v1/databases/a%2Fb%20c%C3%A9/sessions"),
            sessions("a/b cé")
        );
        assert_eq!(found("/"), Ok((Endpoint::Page, String::new())));
        for path in [
            "",
            "//",
            "/dashboard/",
            "/dashboard/../app.js",
            "/healthz/",
            "/v1",
            "/v1/databases//sessions",
            "/v1/databases/a/b/sessions",
            "/v1/databases/%ff/sessions",
        ] {
            assert_eq!(found(path), Err(Miss::Path), "{path}");
        }
    }

    #[test]
    fn a_wrong_method_is_told_the_right_ones() {
        let miss = find(&Method::POST, "/v1/databases/shop/mode");
        assert_eq!(
            miss,
            Err(Miss::Method {
                allowed: vec![Method::PUT, Method::GET]
            })
        );
        let miss = find(&Method::DELETE, "/v1/databases/shop/migrations");
        let allowed = vec![Method::POST, Method::GET];
        assert_eq!(miss, Err(Miss::Method { allowed }));
        assert!(find(&Method::HEAD, "/healthz").is_ok());
    }
}
