//! Who asks: what the connection tells, what was proved, and what follows from it.

use super::api::ApiError;
use super::types::{CallerView, RunningStatements};
use crate::config::{AdminRole, Permission};

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The address of the connection.
    pub from: String,
    /// The name of the token or certificate that was shown and found good; none where nothing was
    /// shown.
    pub name: Option<String>,
    /// Its role.
    pub role: Option<AdminRole>,
    /// What may be done.
    allowed: Vec<Permission>,
    /// The roles of `migrate.approvals` that it may speak for; nothing is each of them.
    approves: Option<Vec<String>>,
    /// Statements are shown to it with their constants whatever it may do.
    shown_constants: bool,
}

impl Caller {
    /// Somebody who showed nothing, and may do what is allowed there without.
    #[must_use]
    pub fn unnamed(from: impl Into<String>, allowed: &[Permission]) -> Caller {
        Caller {
            from: from.into(),
            name: None,
            role: None,
            allowed: allowed.to_vec(),
            approves: None,
            shown_constants: false,
        }
    }

    /// Somebody whose name was proved.
    #[must_use]
    pub fn known(from: impl Into<String>, name: impl Into<String>, role: AdminRole) -> Caller {
        Caller {
            from: from.into(),
            name: Some(name.into()),
            role: Some(role),
            allowed: role.permissions().to_vec(),
            approves: None,
            shown_constants: false,
        }
    }

    /// The same, and may speak for these roles alone when a plan is approved, unless there are none.
    #[must_use]
    pub(super) fn approving(mut self, roles: &[String]) -> Caller {
        if !roles.is_empty() {
            self.allowed.push(Permission::Approve);
            self.approves = Some(roles.to_vec());
        }
        self
    }

    /// The same, and sees the constants of statements though it may only look.
    #[must_use]
    pub(super) fn shown_constants(mut self, shown: bool) -> Caller {
        self.shown_constants = shown;
        self
    }

    /// Whether statements of others are shown to it with their constants: what an application wrote into
    /// its SQL is nothing for everybody who looks at figures. Who may hold may also end those sessions.
    #[must_use]
    pub(super) fn sees_constants(&self) -> bool {
        self.shown_constants || self.allowed.contains(&Permission::Hold)
    }

    /// What sessions run, as far as it may see that.
    #[must_use]
    pub(super) fn as_seen(&self, running: RunningStatements) -> RunningStatements {
        match self.sees_constants() {
            true => running,
            false => running.without_constants(),
        }
    }

    /// As it is told to itself.
    pub(super) fn view(&self) -> CallerView {
        CallerView {
            name: self.name.clone(),
            role: self.role,
            may: self.allowed.clone(),
            approves: self.approves.clone(),
            sees_constants: self.sees_constants(),
        }
    }

    /// Whether it may speak for a role of `migrate.approvals`.
    ///
    /// # Errors
    /// 403 when it may not.
    pub(super) fn may_speak_for(&self, role: &str) -> Result<(), ApiError> {
        match &self.approves {
            Some(roles) if !roles.iter().any(|it| it == role) => {
                let name = self.name.as_deref().unwrap_or_default();
                Err(ApiError::forbidden(format!(
                    "{name:?} may approve as {}, not as {role:?}: its `approves` in the configuration \
                     says so.",
                    roles.join(" or ")
                )))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Whether one of these may be done; nothing that is needed may be done by anybody.
    ///
    /// # Errors
    /// 401 for somebody who showed nothing, 403 for somebody whose role does not suffice.
    pub fn may(&self, needs: &[Permission]) -> Result<(), ApiError> {
        if needs.is_empty() || needs.iter().any(|it| self.allowed.contains(it)) {
            return Ok(());
        }
        let words = |words: Vec<&str>| words.join(" or ");
        let wanted = words(needs.iter().map(|it| it.as_str()).collect());
        let mut roles = Vec::new();
        for role in needs.iter().flat_map(|it| it.roles()) {
            if !roles.contains(&role.as_str()) {
                roles.push(role.as_str());
            }
        }
        let roles = words(roles);
        Err(match (&self.name, self.role) {
            (Some(name), Some(role)) => ApiError::forbidden(format!(
                "{name:?} has the role {role}, and this needs the permission {wanted}: the role \
                 {roles}{}.",
                match needs.contains(&Permission::Approve) {
                    true => ", or `approves` at its token",
                    false => "",
                }
            )),
            (Some(_), None) | (None, _) => ApiError::unauthorized(format!(
                "This needs the permission {wanted}, which nobody has here without a token: show one \
                 of the role {roles}{}.",
                match self.allowed.is_empty() {
                    true => "",
                    // Something is allowed here, so that it can be made more.
                    false => ", or let all of this machine by admin.local",
                }
            )),
        })
    }

    /// Who it was, for audits and histories: the proved name, or else what was claimed.
    #[must_use]
    pub fn signs(&self, claimed: Option<String>) -> Option<String> {
        self.name.clone().or(claimed)
    }
}

#[cfg(test)]
mod tests {
    use hyper::StatusCode;

    use super::*;

    #[test]
    fn what_is_needed_decides_and_the_refusal_says_what_would_do() {
        let viewer = Caller::known("10.0.0.1:5", "grafana", AdminRole::Viewer);
        assert_eq!(viewer.may(&[]), Ok(()));
        assert_eq!(viewer.may(&[Permission::Look]), Ok(()));
        let error = viewer.may(&[Permission::Hold, Permission::Open]);
        let error = error.expect_err("a viewer");
        assert_eq!(error.status, StatusCode::FORBIDDEN);
        assert_eq!(
            error.message,
            "\"grafana\" has the role viewer, and this needs the permission hold or open: the role \
             operator or migrator or admin."
        );
        let local = Caller::unnamed("127.0.0.1:5", &[Permission::Look, Permission::Hold]);
        assert_eq!(local.may(&[Permission::Hold, Permission::Open]), Ok(()));
        let error = local.may(&[Permission::Migrate]).expect_err("unknown");
        assert_eq!(error.status, StatusCode::UNAUTHORIZED);
        assert!(
            error.message.contains("migrator or admin"),
            "{}",
            error.message
        );
    }

    #[test]
    fn approvals_are_spoken_for_by_whom_they_are_given_to() {
        let dba = Caller::known("", "ann", AdminRole::Viewer).approving(&["dba".to_owned()]);
        assert_eq!(dba.may(&[Permission::Approve]), Ok(()));
        assert_eq!(dba.may_speak_for("dba"), Ok(()));
        let error = dba.may_speak_for("lead").expect_err("not hers");
        assert_eq!(error.status, StatusCode::FORBIDDEN);
        let viewer = Caller::known("", "bob", AdminRole::Viewer).approving(&[]);
        assert!(viewer.may(&[Permission::Approve]).is_err());
        let admin = Caller::known("", "root", AdminRole::Admin).approving(&[]);
        assert_eq!(admin.may(&[Permission::Approve]), Ok(()));
        assert_eq!(admin.may_speak_for("lead"), Ok(()));
    }

    #[test]
    fn constants_are_for_those_who_could_end_the_session() {
        let of = |role| Caller::known("", "it", role);
        assert!(!of(AdminRole::Viewer).sees_constants());
        assert!(of(AdminRole::Viewer).shown_constants(true).sees_constants());
        assert!(of(AdminRole::Operator).sees_constants());
        let local = |may: &[Permission]| Caller::unnamed("", may).sees_constants();
        assert!(!local(&[Permission::Look]));
        assert!(local(&[Permission::Look, Permission::Hold]));
        let dba = of(AdminRole::Viewer).approving(&["dba".to_owned()]);
        assert_eq!(dba.view().approves, Some(vec!["dba".to_owned()]));
        assert!(!dba.view().sees_constants);
    }

    #[test]
    fn a_proved_name_stands_for_whatever_was_claimed() {
        let claimed = || Some("root".to_owned());
        let known = Caller::known("[local]", "ci", AdminRole::Migrator);
        assert_eq!(known.signs(claimed()).as_deref(), Some("ci"));
        assert_eq!(known.signs(None).as_deref(), Some("ci"));
        let unnamed = Caller::unnamed("[local]", &[]);
        assert_eq!(unnamed.signs(claimed()), claimed());
    }
}
