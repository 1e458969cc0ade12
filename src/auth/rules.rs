//! Which rule is for a client: the first one that matches, as in `pg_hba.conf`.

use std::net::IpAddr;

use crate::config::{AuthMethod, Rule};

/// What rules look at.
#[derive(Debug, Clone, Copy)]
pub struct Applicant<'a> {
    /// The database it names.
    pub database: &'a str,
    /// The user it names.
    pub user: &'a str,
    /// Its address; `None` for a client on a Unix socket.
    pub address: Option<IpAddr>,
    /// Whether its connection is encrypted.
    pub tls: bool,
}

/// `NAMEDATALEN - 1`: the server cuts longer names of users and databases, and takes what is left.
const NAME_MAX: usize = 63;

/// How this client has to prove who it is; `None` when there are rules and none is for it. Without
/// rules all pass through.
#[must_use]
pub fn method(rules: &[Rule], applicant: Applicant<'_>) -> Option<AuthMethod> {
    if rules.is_empty() {
        return Some(AuthMethod::PassThrough);
    }
    // Rules would look at one name and the server at another.
    if applicant.user.len() > NAME_MAX || applicant.database.len() > NAME_MAX {
        return None;
    }
    let rule = rules.iter().find(|rule| matches(rule, applicant));
    rule.map(|rule| rule.method)
}

fn matches(rule: &Rule, applicant: Applicant<'_>) -> bool {
    rule.databases.contain(applicant.database)
        && rule.users.contain(applicant.user)
        && rule.tls.is_none_or(|tls| tls == applicant.tls)
        && rule
            .from
            .iter()
            .any(|place| place.contains(applicant.address))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Names, Place};

    fn rule(change: impl FnOnce(&mut Rule), method: AuthMethod) -> Rule {
        let mut rule = Rule {
            databases: Names::All,
            users: Names::All,
            from: vec![Place::All],
            tls: None,
            method,
        };
        change(&mut rule);
        rule
    }

    fn names(name: &str) -> Names {
        Names::These(vec![name.to_owned()])
    }

    #[test]
    fn the_first_rule_that_matches_counts() {
        use AuthMethod::{Cert, Md5, Password, Reject, ScramSha256, Trust};
        let net = |text: &str| vec![Place::Net(text.parse().expect("a network"))];
        let rules = [
            rule(|r| r.users = names("banned"), Reject),
            rule(|r| r.from = vec![Place::Local], Trust),
            rule(
                |r| {
                    r.databases = names("shop");
                    r.tls = Some(true);
                },
                Cert,
            ),
            rule(|r| r.from = net("10.0.0.0/8"), ScramSha256),
            rule(
                |r| {
                    r.tls = Some(false);
                    r.from = net("fd00::/8");
                },
                Password,
            ),
            rule(|r| r.databases = names("old"), Md5),
        ];
        // Database, user, address, TLS, and what is asked.
        let cases = [
            ("shop", "banned", None, false, Some(Reject)),
            ("shop", "anna", None, true, Some(Trust)),
            ("shop", "anna", Some("10.1.2.3"), true, Some(Cert)),
            ("shop", "anna", Some("10.1.2.3"), false, Some(ScramSha256)),
            (
                "x",
                "anna",
                Some("::ffff:10.1.2.3"),
                true,
                Some(ScramSha256),
            ),
            ("x", "anna", Some("11.1.2.3"), true, None),
            ("x", "anna", Some("fd00::1"), false, Some(Password)),
            ("x", "anna", Some("fd00::1"), true, None),
            ("old", "anna", Some("192.0.2.1"), true, Some(Md5)),
            ("Old", "anna", Some("192.0.2.1"), true, None),
        ];
        for (database, user, address, tls, expected) in cases {
            let address = address.map(|text| text.parse().expect("an address"));
            let applicant = Applicant {
                database,
                user,
                address,
                tls,
            };
            assert_eq!(method(&rules, applicant), expected, "{applicant:?}");
        }
    }

    #[test]
    fn a_name_that_the_server_would_cut_has_no_rule() {
        let rules = [rule(|_| {}, AuthMethod::Trust)];
        let longest = "x".repeat(63);
        for (database, user, expected) in [
            (&longest[..], &longest[..], Some(AuthMethod::Trust)),
            (&longest, &format!("{longest}x"), None),
            (&format!("{longest}x"), &longest, None),
        ] {
            let applicant = Applicant {
                database,
                user,
                address: None,
                tls: true,
            };
            assert_eq!(method(&rules, applicant), expected);
        }
    }

    #[test]
    fn without_rules_all_pass_through() {
        let applicant = Applicant {
            database: "shop",
            user: "anna",
            address: None,
            tls: false,
        };
        assert_eq!(method(&[], applicant), Some(AuthMethod::PassThrough));
    }
}
