//! Each test that `docs/demands.md` names is there, so that no row of it promises what nothing shows.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn place(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Every file of Rust below a folder, with the path of its module.
fn modules(root: &str) -> Vec<(String, String)> {
    let (mut folders, mut found) = (vec![place(root)], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|it| it == "rs") {
                let name = path.strip_prefix(place(root)).expect("it is below");
                let name = name.with_extension("").to_string_lossy().replace('/', "::");
                let name = name.strip_suffix("::mod").unwrap_or(&name).to_owned();
                found.push((name, fs::read_to_string(&path).expect("a file")));
            }
        }
    }
    found
}

/// The names of the tests in a file: the function behind each `#[test]`, whatever stands between.
fn tests_in(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut marked = false;
    for line in text.lines().map(str::trim) {
        if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            marked = true;
        } else if let Some((_, rest)) = line.split_once("fn ").filter(|_| marked) {
            let name = rest.split(|c: char| !c.is_alphanumeric() && c != '_');
            names.extend(name.into_iter().next().map(str::to_owned));
            marked = false;
        }
    }
    names
}

/// What may be named: each test by its path, and each module that holds some.
fn there() -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut tests, mut holders) = (BTreeSet::new(), BTreeSet::new());
    for (module, text) in modules("tests/it").into_iter().chain(modules("src")) {
        let names = tests_in(&text);
        // A module is as good as those below it.
        let mut holder = module.as_str();
        while !names.is_empty() && holders.insert(holder.to_owned()) {
            holder = holder.rsplit_once("::").map_or(holder, |(above, _)| above);
        }
        if text.contains("mod tests {") {
            holders.insert(format!("{module}::tests"));
        }
        for name in names {
            tests.insert(format!("{module}::tests::{name}"));
            tests.insert(format!("{module}::{name}"));
        }
    }
    (tests, holders)
}

/// What a cell names between backquotes, in order.
fn quoted(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

/// Whether a name is that of something which is there; `last` is the module of the one before it in its
/// cell, which `…` stands for.
fn is_there<'a>(
    name: &'a str,
    last: &mut &'a str,
    (tests, holders): &(BTreeSet<String>, BTreeSet<String>),
) -> bool {
    if let Some(rest) = name.strip_prefix('…') {
        return tests.contains(&format!("{last}::{rest}"));
    }
    if let Some(begin) = name.strip_suffix('*') {
        return holders.iter().any(|it| it.starts_with(begin));
    }
    if let Some(target) = name.strip_prefix("make ") {
        let makefile = fs::read_to_string(place("Makefile")).expect("a Makefile");
        return makefile.contains(&format!("\n{target}:"));
    }
    if name.contains('/') {
        return place(name).exists();
    }
    if holders.contains(name) {
        *last = name;
        return true;
    }
    *last = name.rsplit_once("::").map_or(name, |(module, _)| module);
    tests.contains(name)
}

#[test]
fn every_test_that_is_named_for_a_demand_is_there() {
    let known = there();
    let page = fs::read_to_string(place("docs/demands.md")).expect("the page");
    let (table, left) = page
        .split_once("## Left out")
        .expect("it says what is left out");
    let (mut rows, mut wrong) = (0, Vec::new());
    for line in table.lines().filter(|it| it.starts_with("| ")) {
        // A bar within code is written `\|`.
        let line = line.replace("\\|", "/");
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        let [_, demand, _, _, cell, _] = cells.as_slice() else {
            panic!("a row of four cells: {line}");
        };
        if *demand == "demand" || demand.starts_with("---") {
            continue;
        }
        rows += 1;
        let (names, mut last) = (quoted(cell), "");
        if names.is_empty() && !cell.starts_with("the same") {
            wrong.push(format!("{demand}: no test"));
        }
        for name in names {
            if !is_there(name, &mut last, &known) {
                wrong.push(format!("{demand}: {name}"));
            }
        }
    }
    assert_eq!(wrong, [""; 0]);
    assert!(rows > 100, "{rows} rows");
    for line in left.lines().filter(|it| it.starts_with("| ")) {
        let why = line.split('|').nth(3).unwrap_or_default().trim();
        assert!(!why.is_empty(), "no reason: {line}");
    }
    // And it would be seen if one were not.
    assert!(!is_there(
        "runner_fails::nothing_of_this_name",
        &mut "",
        &known
    ));
    assert!(!is_there("runner_of_nothing", &mut "", &known));
    assert!(!is_there(
        "…nothing_of_this_name",
        &mut "runner_fails",
        &known
    ));
}
