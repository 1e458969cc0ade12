//! The part of validation that is about who has to approve a migration.

use std::time::Duration;

use super::raw::RawApprovals;
use super::validate::Check;
use super::words::words;

words! {
    /// What becomes of the go/no-go list when a run begins.
    #[derive(Default)]
    GateUse {
        /// It is not made.
        #[default]
        Off = "off",
        /// It is made, and recorded with the run.
        Record = "record",
        /// The same, and nothing runs up unless every line says go.
        Require = "require",
    }
}

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
    /// What becomes of the go/no-go list.
    pub gate: GateUse,
}

impl Default for Approvals {
    fn default() -> Self {
        Self {
            roles: Vec::new(),
            required: false,
            expire: Duration::from_secs(24 * 3600),
            rollback_by: false,
            gate: GateUse::default(),
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
        let rollback_by = raw.rollback_by.unwrap_or(default.rollback_by);
        // Whoever asks people wants to know afterwards what they knew.
        let asks = !roles.is_empty() || rollback_by;
        let gate = raw.gate.unwrap_or(match asks {
            true => GateUse::Record,
            false => GateUse::Off,
        });
        Approvals {
            gate,
            roles,
            required,
            expire: self.time("migrate.approvals.expire", raw.expire, default.expire),
            rollback_by,
        }
    }
}
