//! What the admin HTTP needs of the program behind it for single sessions.

use std::future::Future;

use super::api::ApiError;
use super::caller::Caller;
use super::types::{Action, ActionRequest, SessionActed};

/// A part of [`super::Api`], with its promises.
pub trait Surface: Send + Sync + 'static {
    /// Cancels, aborts or terminates one session, and answers when it has come to pass, or after a few
    /// seconds.
    fn act_on_session(
        &self,
        id: u64,
        action: Action,
        request: ActionRequest,
        caller: Caller,
    ) -> impl Future<Output = Result<SessionActed, ApiError>> + Send;
}
