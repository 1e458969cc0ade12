//! Commands that need no pgdrain to be running: what they print, and their exit codes.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::proxy::pgdrain;

/// Exit code, standard output, standard error.
fn run(args: &[&str]) -> (Option<i32>, String, String) {
    let output = pgdrain().args(args).stdin(Stdio::null()).output();
    let output = output.expect("the binary starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let code = output.status.code();
    (code, text(&output.stdout), text(&output.stderr))
}

fn path(dir: &Path, name: &str, text: &str) -> String {
    let path = dir.join(name);
    std::fs::write(&path, text).expect("a file");
    path.to_str().expect("a path in UTF-8").to_owned()
}

#[test]
fn a_configuration_is_checked_without_serving() {
    let dir = tempfile::tempdir().expect("a directory");
    let state = dir.path().display();
    let good = format!("state_dir = '{state}'\n[upstream]\nurl = 'postgres://a@b'\n");
    let file = path(dir.path(), "good.toml", &good);
    let (code, out, err) = run(&["config", "check", "--config", &file]);
    assert_eq!(
        (code, out.trim()),
        (Some(0), "the configuration can be used"),
        "{err}"
    );

    let bad = format!("{good}[hold]\nfor = 'long'\nlader = 'firm'\n");
    let file = path(dir.path(), "bad.toml", &bad);
    let (code, out, err) = run(&["config", "check", "--config", &file]);
    assert_eq!((code, out.as_str()), (Some(5), ""));
    for part in ["line 5: hold.for", "line 6: hold.lader", "ladder"] {
        assert!(err.contains(part), "{part} in {err}");
    }
    let (code, _, err) = run(&["config", "check", "--config", "/nowhere/pgdrain.toml"]);
    assert_eq!(code, Some(5));
    assert!(err.contains("/nowhere/pgdrain.toml"), "{err}");
}

#[test]
fn a_configuration_of_pgbouncer_becomes_one_that_can_be_used() {
    let dir = tempfile::tempdir().expect("a directory");
    let text = "[databases]\nshop = host=10.0.0.5\n[pgbouncer]\nlisten_addr = 127.0.0.1\n";
    let file = path(dir.path(), "pgbouncer.ini", text);
    let (code, out, err) = run(&["config", "from-pgbouncer", &file]);
    assert_eq!(code, Some(0), "{err}");
    let state = dir.path().display();
    let file = path(
        dir.path(),
        "made.toml",
        &format!("state_dir = '{state}'\n{out}"),
    );
    let (code, out, err) = run(&["config", "check", "--config", &file]);
    assert_eq!(
        (code, out.trim()),
        (Some(0), "the configuration can be used"),
        "{err}"
    );

    let file = path(dir.path(), "broken.ini", "[databases]\nshop\n");
    let (code, out, err) = run(&["config", "from-pgbouncer", &file]);
    assert_eq!((code, out.as_str()), (Some(5), ""));
    assert!(err.contains("broken.ini: line 2: "), "{err}");
}

#[test]
fn shells_and_man_can_read_what_is_made_for_them() {
    let (code, out, _) = run(&["completions", "bash"]);
    assert_eq!(code, Some(0));
    let dir = tempfile::tempdir().expect("a directory");
    let file = path(dir.path(), "completions", &out);
    let words = "COMP_WORDS=(pgdrain migrate pre); COMP_CWORD=2; _pgdrain pgdrain pre migrate; \
                 echo \"${COMPREPLY[@]}\"";
    let bash = Command::new("bash")
        .args(["-c", &format!("source '{file}'; {words}")])
        .output()
        .expect("bash");
    let offered = String::from_utf8_lossy(&bash.stdout);
    assert!(offered.contains("preflight"), "{bash:?}");
    for shell in ["zsh", "fish", "elvish", "powershell"] {
        let (code, out, _) = run(&["completions", shell]);
        assert!(code == Some(0) && out.contains("read-only"), "{shell}");
    }

    let (code, out, _) = run(&["man"]);
    assert!(code == Some(0) && out.contains(".TH pgdrain 1"), "{out}");
    let to = dir.path().to_str().expect("a path in UTF-8");
    let (code, _, err) = run(&["man", "--dir", to]);
    assert_eq!(code, Some(0), "{err}");
    let page = std::fs::read_to_string(dir.path().join("pgdrain-migrate-up.1"));
    assert!(page.expect("a page for each command").contains("lock"));
    let (code, _, err) = run(&["man", "--dir", "/nowhere"]);
    assert_eq!(code, Some(5));
    assert!(err.contains("/nowhere"), "{err}");
}
