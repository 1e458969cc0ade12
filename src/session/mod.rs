//! A client's life with its server connection: the relay between them, and what it knows.

mod cached_plan;
pub mod class;
pub mod elsewhere;
mod enforcement;
mod forwarded;
mod guard;
pub mod inbox;
mod injected;
pub mod life;
mod login;
mod measure;
mod parked;
pub mod passes;
mod places;
mod portable;
mod reader;
mod refused_write;
pub mod registry;
pub mod relay;
pub mod room;
pub mod scan;
mod settings;
pub mod silent;
pub mod standbys;
mod terminated;
pub mod transaction;
pub mod verb;
