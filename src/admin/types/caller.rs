//! Who asks, as it is known.

use serde::{Deserialize, Serialize};

use crate::config::{AdminRole, Permission};

/// Answer of `GET /v1/caller`: what whoever asks may do here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallerView {
    /// The name of the token or certificate that was shown; absent where nothing was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<AdminRole>,
    /// What may be done.
    pub may: Vec<Permission>,
    /// The roles of `migrate.approvals` that may be spoken for; absent where that is each of them, or none
    /// for want of the permission.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approves: Option<Vec<String>>,
    /// Whether statements are shown with their constants.
    pub sees_constants: bool,
}
