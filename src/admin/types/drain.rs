//! What a drain has to say is the drain's own report.

pub use crate::drain::escalation::Step as DrainStep;
pub use crate::drain::report::{Blocker, DrainReport, Outcome as DrainOutcome};
pub use crate::server::control::Obstacle;
