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
