//! What to do next about an answer that is an error: by its code, which stays from version to version.

use super::client::ClientError;

/// The next step, where the error itself does not name it.
pub(super) fn next_step(error: &anyhow::Error) -> Option<&'static str> {
    let asked = error.downcast_ref::<ClientError>()?;
    STEPS
        .iter()
        .find(|(code, _)| asked.has_code(code))
        .map(|(_, step)| *step)
}

/// What to do about those who keep a hold or a window from being granted.
pub(super) fn in_the_way(database: &str) -> String {
    format!(
        "`pgdrain sessions '{database}' --running` shows what they run, and ids for `pgdrain sessions \
         cancel|abort|terminate`; --ladder firm cancels statements and aborts idle transactions, --ladder \
         force also terminates"
    )
}

/// By code. What is not here says in its own sentence what to do.
const STEPS: &[(&str, &str)] = &[
    (
        "unauthorized",
        "`pgdrain config token NAME --role ROLE` makes a token and says what to write into the \
         configuration; to let all of this machine, start `pgdrain serve` with \
         PGDRAIN_ADMIN_LOCAL=look,hold,open,migrate",
    ),
    (
        "not_found",
        "`pgdrain status` lists databases and migrations that run, `pgdrain sessions '*'` sessions, \
         `pgdrain window list` windows",
    ),
    (
        "held",
        "`pgdrain status` shows who holds it; `pgdrain open DB --force` opens all the same",
    ),
    (
        "busy",
        "`pgdrain migrate attach DB` follows what runs there, `pgdrain window list` shows whose turn \
         it is",
    ),
    (
        "over",
        "`pgdrain window list` shows how a window ended, `pgdrain migrate attach DB` how a migration did",
    ),
    (
        "not_draining",
        "`pgdrain hold DB` begins one; `pgdrain status` shows what is held",
    ),
    (
        "late_term",
        "`pgdrain window list --json` shows the term it has now",
    ),
    (
        "journal_failed",
        "is the disk of the state directory full? `pgdrain open '*' --force` opens without it",
    ),
    (
        "no_history",
        "can the role of [migrate] log in? `pgdrain migrate preflight DB --dir DIR` says what it lacks",
    ),
    (
        "no_backups",
        "name a directory in [migrate.backup] and restart pgdrain",
    ),
    (
        "former_process",
        "`pgdrain status` shows the former process and when it ends",
    ),
    (
        "hand_over",
        "`pgdrain status` shows both processes; ask again when one is left",
    ),
    (
        "stopping",
        "ask again when it has started anew; `pgdrain status --watch` shows when",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::types::{ErrorBody, ErrorDetail};

    fn refused(code: &str) -> anyhow::Error {
        let error = ErrorDetail {
            code: code.to_owned(),
            message: "No.".to_owned(),
        };
        let body = ErrorBody {
            error,
            results: Vec::new(),
            present: None,
            problems: Vec::new(),
        };
        ClientError::Refused {
            status: hyper::StatusCode::CONFLICT,
            body,
        }
        .into()
    }

    #[test]
    fn a_code_leads_to_a_step_and_an_unknown_one_to_none() {
        let step = next_step(&refused("journal_failed")).expect("a step");
        assert!(step.contains("pgdrain open '*' --force"), "{step}");
        assert_eq!(next_step(&refused("bad_request")), None);
        assert_eq!(next_step(&anyhow::anyhow!("held")), None);
    }
}
