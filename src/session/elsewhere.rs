//! Sessions that another process of ours serves.

use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;

use crate::wire::startup::CancelKey;

/// Where a cancel request goes whose session is not here.
pub trait Elsewhere: Debug + Send + Sync {
    /// Passes it on, and returns when it was acted on, or when there is nobody to pass it on to.
    fn cancel<'a>(&'a self, key: &'a CancelKey) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>>;
}

/// There is no other process.
#[derive(Debug, Clone, Copy)]
pub struct Nowhere;

impl Elsewhere for Nowhere {
    fn cancel<'a>(&'a self, _key: &'a CancelKey) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(std::future::ready(()))
    }
}
