//! What the admin HTTP needs of the program behind it for single sessions, for changes of mode that
//! depend on what is there, and for the configuration.

use std::future::Future;

use super::api::{Answer, ApiError, Databases};
use super::caller::Caller;
use super::replays::Replays;
use super::types::{
    Action, ActionRequest, ConfigChecked, ConfigReloaded, ConfigView, IfMatch, ModeRequest,
    ModeResults, ModeStates, SessionActed, Shutdown,
};

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

    /// Whether no database has this name. One that clients have used is asked about only if it is
    /// `doubted`; what cannot be asked in a moment is not lacking.
    fn lacks(&self, database: &str, doubted: bool) -> impl Future<Output = bool> + Send;

    /// What traffic may do now.
    fn mode(
        &self,
        databases: Databases,
    ) -> impl Future<Output = Result<ModeStates, ApiError>> + Send;

    /// Holds or opens as [`super::Api::set_mode`] does, if the mode is the one that is meant; of several
    /// at once that mean the same one, the first is carried out.
    fn set_mode_if(
        &self,
        databases: Databases,
        request: ModeRequest,
        answer: Answer,
        caller: Caller,
        condition: IfMatch,
    ) -> impl Future<Output = Result<ModeResults, ApiError>> + Send;

    /// The configuration in use, without its secrets.
    fn config(&self) -> impl Future<Output = ConfigView> + Send;

    /// What is to be said about another configuration. Changes nothing.
    fn validate_config(&self, text: String) -> impl Future<Output = ConfigChecked> + Send;

    /// Reads the configuration again; one that cannot be used changes nothing.
    fn reload_config(
        &self,
        request: ActionRequest,
        caller: Caller,
    ) -> impl Future<Output = Result<ConfigReloaded, ApiError>> + Send;

    /// Tells the process to stop; answers when that is under way, and long before it has ended.
    fn shut_down(
        &self,
        how: Shutdown,
        request: ActionRequest,
        caller: Caller,
    ) -> impl Future<Output = Result<(), ApiError>> + Send;

    /// What was started under which keys.
    fn replays(&self) -> &Replays;
}
