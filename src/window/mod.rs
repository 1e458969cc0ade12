//! A whole maintenance: hold, drain, exclusive, reopen. The one place that commands go through.

pub mod controller;
mod drains;
pub mod journal;
mod restart;
mod windows;

pub use controller::{Controller, HoldRequest, OpenRefused, Target};
pub use drains::Draining;
pub use restart::LeftWindow;
pub use windows::{Granted, Refused, WindowRequest};
