//! Decides whether a transaction may start: one gate for each database, and one for each hold on some
//! of its clients.
//!
//! The hot path is [`Gate::admit`] and [`Gate::release`], one atomic operation each. Commands come
//! in by [`Gate::hold`], [`Gate::end_hold`] and [`Gate::cap`]; everything else observes.

pub mod admission;
mod busiest;
pub mod cap;
mod driver;
pub mod fence;
mod gates;
mod holding;
pub mod mode;
mod queue;
mod read_only;
pub mod reopen;
pub mod state;
mod sync;
#[cfg(test)]
mod tests;
mod turns;

pub use busiest::{LOOK_EVERY, LOOK_IDLE};
pub use driver::Gate;
pub use gates::{Closed, Gates};
pub use queue::{Place, Room, Waiters};
