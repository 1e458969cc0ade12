//! The table in `docs/protocol.md` names tests: each is there, and no test of the wire is left out.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// `module::test` in backticks, from the lines of tables.
fn named(document: &str) -> BTreeSet<String> {
    let rows = document.lines().filter(|line| line.starts_with('|'));
    let words = rows.flat_map(|row| row.split('`').skip(1).step_by(2));
    let tests = words.filter(|word| word.contains("::"));
    tests.map(ToOwned::to_owned).collect()
}

/// The tests of a source: functions below a line that says so.
fn tests(module: &str, source: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut lines = source.lines();
    while let Some(line) = lines.next() {
        if !matches!(line, "#[test]" | "#[tokio::test]") {
            continue;
        }
        let function = lines
            .find_map(|line| line.split_once("fn "))
            .map(|(_, rest)| rest);
        let name = function.and_then(|rest| rest.split('(').next());
        found.insert(format!(
            "{module}::{}",
            name.expect("a function below the attribute")
        ));
    }
    found
}

/// Every test directly in `tests/it`.
fn written() -> BTreeSet<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it");
    let files = fs::read_dir(folder).expect("the folder of the tests");
    let files = files.map(|file| file.expect("a file").path());
    files
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .flat_map(|path| {
            let module = path
                .file_stem()
                .and_then(|stem| stem.to_str())
                .expect("a plain name");
            tests(module, &fs::read_to_string(&path).expect("a source"))
        })
        .collect()
}

#[test]
fn each_test_that_the_table_names_is_there_and_none_of_the_wire_is_missing() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/protocol.md");
    let named = named(&fs::read_to_string(path).expect("the document"));
    let written = written();
    let invented: Vec<_> = named.difference(&written).collect();
    assert!(
        invented.is_empty(),
        "named, but there is no such test: {invented:?}"
    );
    let left_out = written.difference(&named);
    let left_out: Vec<_> = left_out
        .filter(|test| test.starts_with("wire_") && !test.starts_with("wire_documented::"))
        .collect();
    assert!(left_out.is_empty(), "not in the table: {left_out:?}");
}

#[test]
fn the_table_is_read_as_it_is_written() {
    let document = "text `a::b`\n| one | `c::d` `e` `f::g` |\n| two | none |\n";
    assert_eq!(named(document), ["c::d", "f::g"].map(String::from).into());
    let source =
        "#[test]\nfn one() {}\nfn two() {}\n#[tokio::test]\n#[ignore]\nasync fn three() {}\n";
    assert_eq!(
        tests("m", source),
        ["m::one", "m::three"].map(String::from).into()
    );
}
