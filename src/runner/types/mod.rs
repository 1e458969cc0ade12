//! What goes in and out of the runner: the JSON of the admin interface, and exit codes.

mod answer;
mod request;

pub use answer::{
    Event, EventKind, Exit, FileStatus, RunState, RunSummary, RunView, Running, StatusReport,
};
pub(super) use request::TIMEOUT_MAX;
pub use request::{
    Direction, MigrationRequest, PlanRequest, StatusRequest, StepTraffic, TrafficMode,
};
