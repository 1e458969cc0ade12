//! The atomics that `admission` is written against, so that loom's can take their place in a test.

pub(super) use std::sync::atomic::{AtomicU64, Ordering};
