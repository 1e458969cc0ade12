//! The main job on each supported version of Postgres that this machine has.
//!
//! Debian's version is what every other test runs on. The others are fetched by `make versions`,
//! which says which it skipped; what is not there is not tested.

use std::path::PathBuf;

use crate::support::proxy::pgdrain;

/// Where `make versions` puts them.
const HOME: &str = "/var/tmp/pgdrain-postgres";

/// Hold, drain, migrate alone and reopen under load; the demo's exit code tells.
#[expect(clippy::print_stdout, reason = "a skipped version is said, not hidden")]
fn main_job_on(version: &str) {
    let home = std::env::var_os("PGDRAIN_POSTGRES_DIR").map_or_else(|| HOME.into(), PathBuf::from);
    let programs = home.join(version).join("bin");
    if !programs.join("initdb").exists() {
        println!(
            "skipped: there is no Postgres {version} in {}",
            home.display()
        );
        return;
    }
    let demo = pgdrain()
        .args([
            "demo",
            "--rows",
            "2000",
            "--clients",
            "4",
            "--seconds",
            "1",
            "--pg-bin",
        ])
        .arg(&programs)
        .output()
        .expect("the binary of this build");
    let text = String::from_utf8_lossy(&demo.stdout);
    let errors = String::from_utf8_lossy(&demo.stderr);
    assert!(
        demo.status.success(),
        "on Postgres {version}:\n{text}\n{errors}"
    );
    assert!(text.contains(&format!("PostgreSQL {version}")), "{text}");
}

#[test]
fn postgres_16() {
    main_job_on("16");
}

#[test]
fn postgres_17() {
    main_job_on("17");
}

#[test]
fn postgres_18() {
    main_job_on("18");
}

/// What looks deepest into catalogs, and so differs first: saved objects, validation, preflight, postflight,
/// fingerprints and drift, repair, plans' locks, the watcher, row-level security; and behind them what needs
/// pg_dump: backups that are restored and compared, and a rehearsal.
const CATALOGS: [&str; 12] = [
    "saved_objects::what_was_saved_comes_back_exactly",
    "validation::a_view_that_is_made_anew_has_the_grants_it_had",
    "validation::what_goes_by_cascade_or_by_a_text_that_is_run_is_named",
    "validation::what_statements_name_may_change",
    "preflight_people::a_plain_database_passes_everything_and_nothing_is_written",
    "preflight_files::what_is_validated_can_be_validated",
    "preflight_files::rows_that_lead_nowhere_are_found_before",
    "postflight::what_was_wrong_before_is_noted_and_what_is_new_ends_with_three",
    "schema_drift::what_is_changed_between_two_runs_stops_the_next_until_it_is_accepted",
    "runner_repairs::invalid_remains_go_and_up_goes_on_behind_what_is_done",
    "runner_watched::an_index_that_is_built_is_followed_to_its_end",
    "plan_locks::locks_are_those_that_the_server_takes",
];
const DUMPS: [&str; 3] = [
    "backup_compared::a_restored_backup_has_the_same_schema_and_rows",
    "backup_restored::it_brings_back_what_was",
    "rehearse::up_down_and_up_in_a_copy_tell_locks_rewrites_and_times_and_plans_know_them",
];

/// Tests of this very program once more, on another version.
#[expect(clippy::print_stdout, reason = "a skipped version is said, not hidden")]
fn runner_on(version: &str) {
    let home = std::env::var_os("PGDRAIN_POSTGRES_DIR").map_or_else(|| HOME.into(), PathBuf::from);
    let programs = home.join(version).join("bin");
    if !programs.join("initdb").exists() {
        println!("skipped: no Postgres {version} in {}", home.display());
        return;
    }
    let dumps = match programs.join("pg_dump").exists() {
        true => DUMPS.as_slice(),
        false => {
            println!("skipped: no pg_dump of {version} in {}", home.display());
            &[]
        }
    };
    let names = CATALOGS.iter().chain(dumps);
    let tests = std::process::Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "--test-threads=2"])
        .args(names.clone())
        .env("PG_BIN", &programs)
        .output()
        .expect("this program");
    let text = String::from_utf8_lossy(&tests.stdout);
    assert!(tests.status.success(), "on Postgres {version}:\n{text}");
    // A name that is none would be passed over.
    let passed = format!("{} passed", names.count());
    assert!(text.contains(&passed), "not {passed} on {version}:\n{text}");
}

#[test]
fn runner_on_16() {
    runner_on("16");
}

#[test]
fn runner_on_17() {
    runner_on("17");
}

#[test]
fn runner_on_18() {
    runner_on("18");
}
