//! What the fuzz targets have found, and what they start from, as tests on any compiler: every file
//! of `fuzz/corpus` through the body of its target.

#[path = "../../fuzz/bodies/backend.rs"]
mod backend;
#[path = "../../fuzz/bodies/class.rs"]
mod class;
#[path = "../../fuzz/bodies/conversation.rs"]
mod conversation;
#[path = "../../fuzz/bodies/frontend.rs"]
mod frontend;
#[path = "../../fuzz/bodies/startup.rs"]
mod startup;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;

/// Runs all files of a target, and says which it was that failed.
#[expect(clippy::print_stdout, reason = "the harness shows it with a failure")]
fn run_corpus(target: &str, body: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(target);
    let files = fs::read_dir(&folder).expect("a corpus for each target");
    let mut count = 0;
    for file in files {
        let path = file.expect("a readable folder").path();
        let data = fs::read(&path).expect("a readable file");
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| body(&data))) {
            println!("{}: \"{}\"", path.display(), data.escape_ascii());
            resume_unwind(panic);
        }
        count += 1;
    }
    assert!(count > 20, "{count} files in {}", folder.display());
}

#[test]
fn first_packets() {
    run_corpus("startup", startup::run);
}

#[test]
fn messages_of_clients() {
    run_corpus("frontend", frontend::run);
}

#[test]
fn messages_of_servers() {
    run_corpus("backend", backend::run);
}

#[test]
fn query_strings() {
    run_corpus("class", class::run);
}

#[test]
fn conversations() {
    run_corpus("conversation", conversation::run);
}

/// A body that checks nothing would pass whatever it is given.
#[test]
fn a_body_can_fail() {
    let failed = catch_unwind(|| run_corpus("startup", |data| assert!(data.len() < 9000)));
    assert!(failed.is_err());
}
