//! Requests that say who asks: the name that was proved stands for whatever they say.

use serde::de::DeserializeOwned;

use super::api::ApiError;
use super::caller::Caller;
use super::routes::parse;
use super::types::{
    CancelRequest, CapRequest, DrainRequest, ModeRequest, WindowCommand, WindowOrder,
};
use crate::runner::approvals::{ApproveRequest, DecideRequest, RevokeRequest};
use crate::runner::rehearse::RehearseRequest;
use crate::runner::repair::RepairRequest;
use crate::runner::saved::ReplayRequest;
use crate::runner::types::MigrationRequest;

/// A request with a `by`.
pub(super) trait Signed: DeserializeOwned {
    /// Who asks, as the request says.
    fn by(&mut self) -> &mut Option<String>;
}

/// Reads a request whose `by` is the caller's name, if that was proved.
pub(super) fn signed<T: Signed>(body: &[u8], caller: &Caller) -> Result<T, ApiError> {
    parse(body).map(|request| sign(request, caller))
}

/// The same for a body that may be left out.
pub(super) fn signed_or_default<T: Signed + Default>(
    body: &[u8],
    caller: &Caller,
) -> Result<T, ApiError> {
    match body.is_empty() {
        true => Ok(sign(T::default(), caller)),
        false => signed(body, caller),
    }
}

/// Puts the caller's name into a request.
pub(super) fn sign<T: Signed>(mut request: T, caller: &Caller) -> T {
    let claimed = request.by().take();
    *request.by() = caller.signs(claimed);
    request
}

macro_rules! signed {
    ($($request:ty,)+) => {
        $(impl Signed for $request {
            fn by(&mut self) -> &mut Option<String> {
                &mut self.by
            }
        })+
    };
}

signed! {
    ApproveRequest,
    CancelRequest,
    CapRequest,
    DecideRequest,
    DrainRequest,
    MigrationRequest,
    RehearseRequest,
    RepairRequest,
    ReplayRequest,
    RevokeRequest,
    WindowCommand,
    WindowOrder,
}

impl Signed for ModeRequest {
    fn by(&mut self) -> &mut Option<String> {
        match self {
            Self::Hold(request) => &mut request.by,
            Self::ReadOnly(request) => &mut request.by,
            Self::Open(request) => &mut request.by,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::AdminRole;

    #[test]
    fn a_proved_name_is_written_into_every_mode() {
        let caller = Caller::known("10.0.0.1:5", "ci", AdminRole::Operator);
        for mode in ["hold", "read_only", "open"] {
            for by in ["", r#","by":"root""#] {
                let body = format!(r#"{{"mode":"{mode}"{by}}}"#);
                let mut request: ModeRequest = signed(body.as_bytes(), &caller).expect(&body);
                assert_eq!(request.by().as_deref(), Some("ci"), "{body}");
            }
        }
        let unnamed = Caller::unnamed("127.0.0.1:5", &[]);
        let mut claimed: ModeRequest =
            signed(br#"{"mode":"open","by":"me"}"#, &unnamed).expect("as documented");
        assert_eq!(claimed.by().as_deref(), Some("me"));
        let mut nothing: CancelRequest = signed_or_default(b"", &caller).expect("no body");
        assert_eq!(nothing.by().as_deref(), Some("ci"));
    }
}
