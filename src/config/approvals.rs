//! The part of validation that is about who has to approve a migration.

use std::time::Duration;

use super::raw::RawApprovals;
use super::validate::Check;

/// `[migrate.approvals]`: who has to say yes to a plan before it runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approvals {
    /// The roles that have to approve; each approves once.
    pub roles: Vec<String>,
    /// Whether nothing runs up without all of them.
    pub required: bool,
    /// How long an approval holds, if it does not say.
    pub expire: Duration,
    /// Whether nothing runs up unless it is said who would lead it back.
    pub rollback_by: bool,
}

impl Default for Approvals {
    fn default() -> Self {
        Self {
            roles: Vec::new(),
            required: false,
            expire: Duration::from_secs(24 * 3600),
            rollback_by: false,
        }
    }
}

impl Check<'_> {
    pub(super) fn approvals(&mut self, raw: RawApprovals) -> Approvals {
        let default = Approvals::default();
        let roles = raw.roles.unwrap_or_default();
        let required = raw.required.unwrap_or(default.required);
        for (index, role) in roles.iter().enumerate() {
            if role.trim().is_empty() {
                self.wrong("migrate.approvals.roles", "a role has no name");
            }
            if roles[..index].contains(role) {
                let text = format!("{role} is named twice");
                self.wrong("migrate.approvals.roles", text);
            }
        }
        if required && roles.is_empty() {
            let text = "it is set, but migrate.approvals.roles names nobody";
            self.wrong("migrate.approvals.required", text);
        }
        Approvals {
            roles,
            required,
            expire: self.time("migrate.approvals.expire", raw.expire, default.expire),
            rollback_by: raw.rollback_by.unwrap_or(default.rollback_by),
        }
    }
}
