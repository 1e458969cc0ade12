//! What may be done over the admin HTTP, and which roles may do it.

use super::words::words;

words! {
    /// A kind of action.
    Permission {
        /// See how things are: status, sessions, events, windows, migrations, plans, metrics.
        Look = "look",
        /// Keep traffic waiting: hold, read-only, drains, caps, windows, and act on single sessions,
        /// which a hold's ladder could do too; stop a migration, which it never harms.
        Hold = "hold",
        /// Let traffic go on.
        Open = "open",
        /// Change what is in a database, or run expressions of files in it: migrations, rehearsals,
        /// preflight, repair, backups.
        Migrate = "migrate",
        /// Speak for any of `migrate.approvals.roles`. Who may speak for some of them has these in the
        /// configuration, at the token.
        Approve = "approve",
        /// Change how pgdrain itself works.
        Administer = "administer",
    }
}

words! {
    /// What somebody is to the admin HTTP. Each role may do what those before it may.
    AdminRole {
        /// Looks.
        Viewer = "viewer",
        /// Holds and opens.
        Operator = "operator",
        /// Runs migrations.
        Migrator = "migrator",
        /// Does everything.
        Admin = "admin",
    }
}

/// Every role and what it may do: the one place that says so.
const ROLES: [(AdminRole, &[Permission]); 4] = [
    (AdminRole::Viewer, &[Permission::Look]),
    (
        AdminRole::Operator,
        &[Permission::Look, Permission::Hold, Permission::Open],
    ),
    (
        AdminRole::Migrator,
        &[
            Permission::Look,
            Permission::Hold,
            Permission::Open,
            Permission::Migrate,
        ],
    ),
    (AdminRole::Admin, &Permission::ALL),
];

impl Permission {
    /// Every one.
    pub const ALL: [Permission; 6] = [
        Permission::Look,
        Permission::Hold,
        Permission::Open,
        Permission::Migrate,
        Permission::Approve,
        Permission::Administer,
    ];

    /// The roles that have it, the least one first.
    pub fn roles(self) -> impl Iterator<Item = AdminRole> {
        let having = ROLES
            .iter()
            .filter(move |(_, allowed)| allowed.contains(&self));
        having.map(|(role, _)| *role)
    }
}

impl AdminRole {
    /// What it may do.
    #[must_use]
    pub fn permissions(self) -> &'static [Permission] {
        let row = ROLES.iter().find(|(role, _)| *role == self);
        row.map_or(&[], |(_, allowed)| *allowed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_in_the_table() {
        let words: Vec<_> = Permission::ALL.iter().map(|it| it.as_str()).collect();
        assert_eq!(words, Permission::WORDS);
        let roles: Vec<_> = ROLES.iter().map(|(role, _)| role.as_str()).collect();
        assert_eq!(roles, AdminRole::WORDS);
    }

    #[test]
    fn each_role_may_do_what_those_before_it_may_and_more() {
        for two in ROLES.windows(2) {
            let [(less, some), (more, all)] = two else {
                panic!("two rows");
            };
            assert!(some.iter().all(|it| all.contains(it)), "{less} and {more}");
            assert!(some.len() < all.len(), "{less} and {more}");
        }
    }

    #[test]
    fn only_who_runs_migrations_may_change_a_database() {
        let roles = |of: Permission| of.roles().collect::<Vec<_>>();
        assert_eq!(
            roles(Permission::Migrate),
            [AdminRole::Migrator, AdminRole::Admin]
        );
        assert_eq!(roles(Permission::Approve), [AdminRole::Admin]);
        assert_eq!(roles(Permission::Look).first(), Some(&AdminRole::Viewer));
        assert_eq!(roles(Permission::Hold), roles(Permission::Open));
    }
}
