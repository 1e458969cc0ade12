//! A whole maintenance: hold, drain, exclusive, reopen. The one place that commands go through.

pub mod controller;
pub mod journal;
mod restart;
mod windows;

pub use controller::{Controller, Draining, HoldRequest, OpenRefused, Target};
pub use restart::LeftWindow;
pub use windows::{Granted, Refused, WindowRequest};
