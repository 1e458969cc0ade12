//! The lines of the gate: document 4's decision gate, each from what is known. Pure.

use super::{Known, Line, Verdict};
use crate::config::Verify;
use crate::runner::Options;
use crate::runner::approvals;
use crate::runner::plan::Back;
use crate::runner::preflight::{Check, CheckOutcome};

/// A backup that is older leaves too much of what was written since.
const FRESH: i64 = 24 * 3600;

/// Checks of preflight that have lines of their own.
const OWN_LINES: [(&str, &str); 3] = [
    ("orphans", "no_orphans"),
    ("constraints", "constraints_validated"),
    ("indexes", "indexes_valid"),
];

pub(super) fn all(known: &Known<'_>, options: &Options) -> Vec<Line> {
    let mut lines = vec![preflight(known)];
    for (check, name) in OWN_LINES {
        let found = known.preflight.checks.iter().find(|it| it.name == check);
        lines.push(match found {
            Some(found) => of_check(name, found),
            None => unknown(name, "preflight did not get that far"),
        });
    }
    lines.extend([
        required_tables(known),
        lint(known),
        ways_back(known),
        rehearsal(known),
        approved(known, options),
        rollback_executor(known),
        time(known),
        backup(known, options),
        restore_point(known),
        monitoring(known, options),
    ]);
    lines
}

fn preflight(known: &Known<'_>) -> Line {
    let checks = &known.preflight.checks;
    let not_passed: Vec<_> = checks
        .iter()
        .filter(|it| !it.is_passed())
        .map(|it| it.name.as_str())
        .collect();
    match not_passed.as_slice() {
        [] => go("preflight", format!("all {} checks passed", checks.len())),
        names => no_go(
            "preflight",
            format!("not passed: {}", names.join(", ")),
            "`pgdrain migrate preflight` says what to do",
        ),
    }
}

fn required_tables(known: &Known<'_>) -> Line {
    let (name, rule) = ("required_tables", "missing-relation");
    if !known.lint.problems.is_empty() || known.lint.not_run.iter().any(|it| it.rule == rule) {
        return unknown(name, "lint could not look");
    }
    let mut missing = known.lint.findings.iter().filter(|it| it.rule == rule);
    match missing.next() {
        None => go(name, "everything that the files name is there"),
        Some(first) => no_go(
            name,
            first.message.clone(),
            "the schema has drifted, or a file is wrong",
        ),
    }
}

fn lint(known: &Known<'_>) -> Line {
    let report = known.lint;
    let (errors, warnings) = (report.errors, report.warnings);
    match (report.problems.first(), report.not_run.first()) {
        (Some(problem), _) => unknown("lint", problem.clone()),
        _ if errors > 0 => no_go(
            "lint",
            format!("{errors} errors, {warnings} warnings"),
            "`pgdrain migrate lint` shows them; an exception needs `-- pgdrain:allow RULE reason`",
        ),
        (None, Some(not_run)) => unknown("lint", format!("{}: {}", not_run.rule, not_run.why)),
        (None, None) => go("lint", format!("no errors, {warnings} warnings")),
    }
}

fn ways_back(known: &Known<'_>) -> Line {
    let name = "ways_back";
    if let Some(problem) = known.plan.problems.first() {
        return unknown(name, problem.clone());
    }
    let steps = &known.plan.steps;
    let only_backup: Vec<_> = steps
        .iter()
        .filter(|it| it.way_down.by == Back::Backup)
        .map(|it| it.file.as_str())
        .collect();
    match only_backup.as_slice() {
        [] => go(name, "every file has a way down"),
        files => no_go(
            name,
            format!("only a backup leads back behind {}", files.join(", ")),
            "write down files, or approve it with `up --force --reason`",
        ),
    }
}

fn rehearsal(known: &Known<'_>) -> Line {
    let name = "rehearsal";
    match &known.facts.rehearsal {
        Err(why) => unknown(name, why.clone()),
        Ok(None) => Line {
            hint: Some("rehearse these files before".to_owned()),
            ..unknown(name, "no rehearsal is known")
        },
        Ok(Some(it)) if it.exit_code == 0 => go(
            name,
            format!("up, down and up again went well at {}", it.at),
        ),
        Ok(Some(it)) => no_go(
            name,
            format!("the last one, at {}, ended with {}", it.at, it.exit_code),
            "correct the files and rehearse them again",
        ),
    }
}

fn approved(known: &Known<'_>, options: &Options) -> Line {
    match &known.facts.approvals {
        Some(check) => of_check("approvals", check),
        None if options.approvals.required => unknown("approvals", "nobody is named who approves"),
        None => no_go(
            "approvals",
            "nobody has to approve",
            "set migrate.approvals.roles",
        ),
    }
}

fn rollback_executor(known: &Known<'_>) -> Line {
    let check = approvals::rollback_executor(known.request.rollback_by.as_deref());
    of_check("rollback_executor", &check)
}

fn time(known: &Known<'_>) -> Line {
    let name = "time";
    let when = known.request.when.as_ref();
    let course = when.map(|it| it.course(jiff::Timestamp::now()));
    match course {
        Some(Ok(course)) => {
            let from = course.from.strftime("%Y-%m-%d %H:%M:%SZ");
            let quiet = match course.below {
                Some((limit, _)) => format!(", below {limit} transactions a second"),
                None => String::new(),
            };
            go(name, format!("begins at {from}{quiet}"))
        }
        Some(Err(why)) => no_go(name, why, "name another time"),
        None => no_go(
            name,
            "no time of little traffic is named",
            "`--at`, `--between` or `--when-below`",
        ),
    }
}

fn backup(known: &Known<'_>, options: &Options) -> Line {
    let name = "backup";
    let settings = &options.backup;
    let makes_one = known.request.backup.unwrap_or(settings.dir.is_some());
    if makes_one && settings.dir.is_some() && settings.verify != Verify::None {
        let how = settings.verify;
        return go(name, format!("the run makes one first, verified by {how}"));
    }
    match &known.facts.backup {
        Err(why) => unknown(name, why.clone()),
        Ok(Some((age, how))) if *age <= FRESH && how != "none" => go(
            name,
            format!("the newest is {} minutes old, verified by {how}", age / 60),
        ),
        Ok(Some((_, how))) if how == "none" => no_go(
            name,
            "the newest was not verified",
            "set migrate.backup.verify",
        ),
        Ok(Some((age, _))) => no_go(
            name,
            format!("the newest is {} hours old", age / 3600),
            "let the run make one (`--backup`)",
        ),
        Ok(None) => no_go(name, "there is none", "set migrate.backup.dir"),
    }
}

fn restore_point(known: &Known<'_>) -> Line {
    let name = "restore_point";
    match &known.facts.restore_point {
        Err(why) => unknown(name, why.clone()),
        Ok(Ok(())) => go(name, "the run makes one before its first file"),
        Ok(Err(why)) => no_go(
            name,
            why.clone(),
            "GRANT EXECUTE ON FUNCTION pg_create_restore_point TO the migrating role",
        ),
    }
}

fn monitoring(known: &Known<'_>, options: &Options) -> Line {
    let name = "monitoring";
    match &known.facts.statements {
        Err(why) => unknown(name, why.clone()),
        Ok(_) if options.notify.is_empty() => no_go(
            name,
            "nobody is told how the run goes",
            "set [[migrate.notify]]",
        ),
        Ok(true) => go(name, "pg_stat_statements is there, and somebody is told"),
        Ok(false) => no_go(
            name,
            "pg_stat_statements is not there",
            "add it to shared_preload_libraries, and CREATE EXTENSION",
        ),
    }
}

fn of_check(name: &str, check: &Check) -> Line {
    Line {
        name: name.to_owned(),
        verdict: match check.outcome {
            CheckOutcome::Passed => Verdict::Go,
            CheckOutcome::Failed => Verdict::NoGo,
            CheckOutcome::Unknown => Verdict::Unknown,
        },
        text: check.text.clone(),
        hint: check.hint.clone(),
    }
}

fn go(name: &str, text: impl Into<String>) -> Line {
    Line {
        name: name.to_owned(),
        verdict: Verdict::Go,
        text: text.into(),
        hint: None,
    }
}

fn no_go(name: &str, text: impl Into<String>, hint: &str) -> Line {
    Line {
        verdict: Verdict::NoGo,
        hint: Some(hint.to_owned()),
        ..go(name, text)
    }
}

fn unknown(name: &str, text: impl Into<String>) -> Line {
    Line {
        verdict: Verdict::Unknown,
        ..go(name, text)
    }
}
