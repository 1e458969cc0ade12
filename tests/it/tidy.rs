//! What holds the architecture together: floors, module comments, purity, one home for refusals.
//!
//! Each check is a function from a source to its complaints, so that a test can show that it
//! complains. Sizes are printed and never refused.

mod source;

use self::source::{Complaint, Source};

/// A module may name modules of lower floors only, never one beside it.
const FLOORS: [(&str, u32); 21] = [
    ("clock", 0),
    ("faults", 0),
    ("wire", 0),
    ("classify", 0),
    ("tls", 0),
    ("config", 1),
    ("metrics", 1),
    ("tasks", 1),
    ("logging", 1),
    ("audit", 2),
    ("auth", 2),
    ("client", 3),
    ("server", 3),
    ("gate", 4),
    ("session", 5),
    ("drain", 6),
    ("window", 7),
    ("runner", 8),
    ("admin", 9),
    ("app", 10),
    ("cli", 11),
];

/// State machines and formats: events in, effects out. A name that ends in `/` is a folder.
const PURE: [&str; 41] = [
    "src/wire/",
    "src/classify/",
    "src/config/permission.rs",
    "src/gate/mode.rs",
    "src/gate/state.rs",
    "src/gate/admission.rs",
    "src/gate/cap.rs",
    "src/gate/reopen.rs",
    "src/session/transaction.rs",
    "src/session/injected.rs",
    "src/session/settings.rs",
    "src/session/verb.rs",
    "src/session/guard/",
    "src/session/refused_write.rs",
    "src/session/class/",
    "src/session/measure/",
    "src/session/portable.rs",
    "src/drain/escalation.rs",
    "src/window/steps.rs",
    "src/window/lease.rs",
    "src/runner/batch.rs",
    "src/runner/class.rs",
    "src/runner/directives/",
    "src/runner/plan.rs",
    "src/runner/plan/",
    "src/runner/shape/",
    "src/runner/catalog/mod.rs",
    "src/runner/catalog/world.rs",
    "src/runner/script.rs",
    "src/runner/split.rs",
    "src/runner/saved/compare.rs",
    "src/runner/aftermath/catalog/bloat.rs",
    "src/runner/aftermath/catalog/compare.rs",
    "src/runner/aftermath/plans/compare.rs",
    "src/runner/aftermath/plans/shape.rs",
    "src/runner/aftermath/thresholds.rs",
    "src/runner/execute/batches/throttle.rs",
    "src/runner/validate/compare.rs",
    "src/runner/validate/declared.rs",
    "src/auth/scram/",
    "src/auth/rules.rs",
];

/// Crates, modules, types and functions that read a clock, open something, run something, or log.
const IMPURE: [&[&str]; 15] = [
    &["tokio"],
    &["tracing"],
    &["metrics"],
    &["hyper"],
    &["std", "fs"],
    &["std", "thread"],
    &["std", "process"],
    &["std", "env"],
    &["TcpStream"],
    &["TcpListener"],
    &["UdpSocket"],
    &["UnixStream"],
    &["UnixListener"],
    &["SystemTime"],
    &["Instant", "now"],
];

/// The SQLSTATEs of our own refusals.
const REFUSALS: [&str; 12] = [
    "55P03", "25006", "25P02", "40001", "57014", "57P01", "57P03", "53300", "08P01", "08006",
    "28000", "28P01",
];

/// Modules that speak to clients; others may compare with an SQLSTATE that a server sent.
const CLIENT_FACING: [&str; 6] = ["tls", "auth", "client", "server", "gate", "session"];

/// Where the errors of ours are written.
const HOME_OF_REFUSALS: &str = "src/wire/refusal.rs";

#[test]
fn modules_import_only_lower_floors() {
    assert_tidy(source::all("src"), floors);
}

#[test]
fn every_file_opens_with_a_sentence() {
    for folder in [
        "src",
        "tests",
        "benches",
        "fuzz/bodies",
        "fuzz/fuzz_targets",
    ] {
        assert_tidy(source::all(folder), opening_sentence);
    }
}

#[test]
fn pure_files_have_no_clock_socket_task_or_log() {
    assert_tidy(source::all("src"), purity);
}

#[test]
fn refusals_have_one_home() {
    assert_tidy(source::all("src"), refusals);
}

#[test]
fn long_files_are_printed() {
    for source in source::all("src") {
        let lines = source.text.lines().count();
        if lines > 300 {
            println!("{}: {lines} lines; are these two ideas?", source.path);
        }
    }
}

fn assert_tidy(sources: Vec<Source>, check: fn(&Source) -> Vec<Complaint>) {
    let complaints: Vec<String> = sources
        .iter()
        .flat_map(|source| {
            check(source).into_iter().map(move |complaint| {
                format!("{}:{}: {}", source.path, complaint.line, complaint.text)
            })
        })
        .collect();
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

fn floors(source: &Source) -> Vec<Complaint> {
    // The map of the crate and the entry point stand above all floors.
    if matches!(source.path.as_str(), "src/lib.rs" | "src/main.rs") {
        return Vec::new();
    }
    let module = source.module();
    let Some(own) = floor(module) else {
        return vec![Complaint::new(
            1,
            format!("module `{module}` has no floor in tidy.rs"),
        )];
    };
    let mut complaints = Vec::new();
    for path in source.paths() {
        let Some(named) = source.module_named_by(&path) else {
            continue;
        };
        if named == module {
            continue;
        }
        match floor(named) {
            Some(floor) if floor < own => {}
            Some(floor) => complaints.push(Complaint::new(
                path.line,
                format!("`{module}` on floor {own} names `{named}` on floor {floor}"),
            )),
            None => complaints.push(Complaint::new(
                path.line,
                format!("`{module}` names `{named}`, which has no floor"),
            )),
        }
    }
    complaints
}

fn floor(module: &str) -> Option<u32> {
    FLOORS
        .iter()
        .find(|(name, _)| *name == module)
        .map(|(_, floor)| *floor)
}

fn opening_sentence(source: &Source) -> Vec<Complaint> {
    match source.text.lines().next() {
        Some(line) if line.starts_with("//! ") => Vec::new(),
        Some(_) | None => vec![Complaint::new(
            1,
            "the file does not open with `//! `".to_owned(),
        )],
    }
}

fn purity(source: &Source) -> Vec<Complaint> {
    let in_folder = |name: &str| name.ends_with('/') && source.path.starts_with(name);
    if !PURE
        .iter()
        .any(|name| source.path == *name || in_folder(name))
    {
        return Vec::new();
    }
    let code = source.without_tests();
    let mut complaints = Vec::new();
    for path in code.paths() {
        let names = |impure: &&&[&str]| path.segments.windows(impure.len()).any(|w| w == **impure);
        if let Some(impure) = IMPURE.iter().find(names) {
            complaints.push(Complaint::new(
                path.line,
                format!("a pure file names `{}`", impure.join("::")),
            ));
        }
    }
    // The one way to read a clock without naming it.
    for line in code.lines_of_method("elapsed") {
        complaints.push(Complaint::new(
            line,
            "a pure file reads a clock by `elapsed`".to_owned(),
        ));
    }
    complaints
}

fn refusals(source: &Source) -> Vec<Complaint> {
    if source.path == HOME_OF_REFUSALS {
        return Vec::new();
    }
    let code = source.without_tests();
    let mut complaints = Vec::new();
    for path in code.paths() {
        let builds = path
            .segments
            .ends_with(&["ErrorResponse".to_owned(), "new".to_owned()])
            || path.segments.iter().any(|segment| segment == "ErrorInfo");
        if builds {
            complaints.push(Complaint::new(
                path.line,
                format!("an error for a client is built outside {HOME_OF_REFUSALS}"),
            ));
        }
    }
    if CLIENT_FACING.contains(&source.module()) {
        for (line, text) in code.strings() {
            if REFUSALS.contains(&text.as_str()) {
                complaints.push(Complaint::new(
                    line,
                    format!("SQLSTATE {text} of a refusal is written outside {HOME_OF_REFUSALS}"),
                ));
            }
        }
    }
    complaints
}

#[cfg(test)]
mod each_check_can_fail {
    use super::*;

    /// The lines that `check` complains about.
    fn lines(check: fn(&Source) -> Vec<Complaint>, path: &str, text: &str) -> Vec<usize> {
        let source = Source {
            path: path.to_owned(),
            text: text.to_owned(),
        };
        let mut lines: Vec<usize> = check(&source)
            .iter()
            .map(|complaint| complaint.line)
            .collect();
        lines.dedup();
        lines
    }

    #[test]
    fn floors_see_every_way_to_name_a_module() {
        let upwards = [
            "use crate::session::Relay;",
            "pub(crate) use crate::{wire::Frame, session::{self, Relay}};",
            "use {crate::session};",
            "fn f() { crate::session::run() }",
            "fn f(x: &crate::session::Relay) {}",
            "use super::super::session;",
            "use super::super::{wire, session};",
        ];
        for text in upwards {
            assert_eq!(lines(floors, "src/gate/queue.rs", text), [1], "{text}");
        }
        // From a module that is a file of its own, one step up is the root.
        assert_eq!(lines(floors, "src/tasks.rs", "use super::session;"), [1]);
        assert_eq!(lines(floors, "src/gate/mod.rs", "use super::session;"), [1]);
    }

    #[test]
    fn floors_refuse_neighbours_and_modules_without_a_floor() {
        assert_eq!(
            lines(floors, "src/client/a.rs", "\nuse crate::server::Server;"),
            [2]
        );
        assert_eq!(
            lines(floors, "src/client/a.rs", "use crate::attic::Thing;"),
            [1]
        );
        assert_eq!(lines(floors, "src/attic.rs", ""), [1]);
    }

    #[test]
    fn floors_allow_lower_ones_itself_comments_and_texts() {
        let fine = "
            //! Unlike [`crate::cli`].
            use crate::{gate::mode, wire};
            use super::mode::Mode;
            /// See [`crate::cli`].
            fn f() -> &'static str { \"crate::cli::run\" }
            mod tests { use super::super::mode; }";
        assert!(lines(floors, "src/gate/queue.rs", fine).is_empty());
    }

    #[test]
    fn a_file_without_an_opening_is_found() {
        assert_eq!(lines(opening_sentence, "src/a.rs", ""), [1]);
        assert_eq!(
            lines(opening_sentence, "src/a.rs", "use std::io;\n//! Late."),
            [1]
        );
        assert!(lines(opening_sentence, "src/a.rs", "//! In time.\n").is_empty());
    }

    #[test]
    fn purity_sees_clocks_sockets_tasks_and_logs() {
        let impure = [
            "use std::{io, fs};",
            "use std::time::SystemTime;",
            "fn f() -> Instant { std::time::Instant::now() }",
            "fn f() { let now = Instant::now(); }",
            "fn f(since: Instant) -> Duration { since.elapsed() }",
            "use tokio::sync::watch;",
            "use tokio as runtime;",
            "fn f() { tracing::info!(\"so\") }",
            "use metrics::counter;",
            "use std::net::{IpAddr, TcpStream};",
        ];
        for text in impure {
            assert_eq!(lines(purity, "src/gate/state.rs", text), [1], "{text}");
            assert_eq!(lines(purity, "src/wire/deep/frame.rs", text), [1], "{text}");
            assert!(
                lines(purity, "src/gate/driver.rs", text).is_empty(),
                "{text}"
            );
        }
    }

    #[test]
    fn purity_allows_types_and_tests() {
        let fine = "
            use std::net::SocketAddr;
            use std::time::{Duration, Instant};
            fn f(now: Instant, metrics: u8) -> Instant { now }
            #[cfg(test)]
            #[allow(unused)]
            mod tests { fn f() { let now = std::time::Instant::now(); } }
            #[cfg(test)]
            use tokio::sync;";
        assert!(lines(purity, "src/gate/state.rs", fine).is_empty());
        // What follows a test counts again.
        let after = "#[cfg(test)] mod tests { fn f() {} } use tokio::sync;";
        assert_eq!(lines(purity, "src/gate/state.rs", after), [1]);
    }

    #[test]
    fn refusals_elsewhere_are_found() {
        let built = "fn f() { ErrorResponse::new(vec![]) }";
        assert_eq!(lines(refusals, "src/admin/a.rs", built), [1]);
        assert!(lines(refusals, HOME_OF_REFUSALS, built).is_empty());
        let written = "fn f() { refuse(\"57014\") }";
        assert_eq!(lines(refusals, "src/session/relay.rs", written), [1]);
        // A runner compares with what the server said.
        assert!(lines(refusals, "src/runner/execute.rs", written).is_empty());
    }
}
