//! A whole maintenance: hold, drain, exclusive, reopen. The one place that commands go through.

mod beside;
mod canary;
mod caps;
mod connection;
pub mod controller;
pub mod desk;
pub(crate) mod drains;
pub mod fence;
pub mod generations;
mod holds;
pub mod journal;
pub mod lease;
mod lent;
mod opening;
pub mod pace;
pub mod precheck;
mod restart;
pub mod steps;
mod windows;

pub use caps::CapRequest;
pub use controller::{Controller, HoldRequest, OpenRefused, Target};
pub use desk::{CapAround, Desk, IfBusy, NotTaken, Order, Taken};
pub use drains::Draining;
pub use lent::Lent;
pub use opening::Steering;
pub use restart::LeftWindow;
pub use windows::{Granted, Refused, WindowRequest};
