//! `docs/CONFIG.md` is what the code says: every key, its type, its default, and when a change applies.
//!
//! Keys and types are those of `raw`, defaults and meanings those of `config/reference.toml` (whose
//! defaults are held against the code elsewhere), and what a reload applies is what `reload` does.
//! `UPDATE_DOCS=1 cargo test --lib documented` writes the table anew.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::approvals::GateUse;
use super::canary::OnCanaryFailure;
use super::compare::CompareWhen;
use super::permission::{AdminRole, Permission};
use super::postflight::{Analyze, Fingerprints, PostflightCheck};
use super::words::{
    AfterRestart, Blocked, Bypass, ClientTls, CountRows, LogFormat, LogLevel, OnDrift,
    PreflightCheck, Preset, ReplicationHold, SaveObjects, Stateful, Then, Verify, WhenFull,
};
use super::{CertificateName, raw, reload};

/// Between these the file is made; what is around is written by people.
const BEGIN: &str =
    "<!-- keys: made by the test `documented`; UPDATE_DOCS=1 writes them anew -->\n";
const END: &str = "<!-- end of keys -->\n";

/// What the reference says of a key.
#[derive(Clone, Debug, Default)]
struct Said {
    default: Option<String>,
    meaning: String,
}

fn read(path: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every key of the reference with what stands above it.
fn reference() -> BTreeMap<String, Said> {
    let mut said = BTreeMap::new();
    let (mut section, mut comment, mut last) = (String::new(), String::new(), String::new());
    for line in read("config/reference.toml").lines() {
        let bare = line.strip_prefix("# ").unwrap_or(line);
        if let Some(name) = bare.strip_prefix("[[").and_then(|it| it.strip_suffix("]]")) {
            let meaning = sentence(&comment);
            let listed = Said {
                default: None,
                meaning,
            };
            said.insert(name.to_owned(), listed);
            // Its keys are those of an item, which have no row of their own.
            section = format!("{name}[]");
        } else if let Some(name) = bare.strip_prefix('[').and_then(|it| it.strip_suffix(']')) {
            section = name
                .replace("databases.shop", "databases.NAME")
                .replace("users.anna", "users.NAME");
            // The first of a section may be told by what stands above its header.
            last = sentence(&comment);
        } else if let Some((key, value)) = key_of(bare) {
            let key = match section.as_str() {
                "" => key.to_owned(),
                section => format!("{section}.{key}"),
            };
            if !comment.is_empty() {
                last = sentence(&comment);
            }
            // Where it depends on the machine, the comment says on what.
            let written = (!line.starts_with('#')).then(|| format!("`{value}`"));
            let default = named_default(&comment).or(written);
            let meaning = last.clone();
            said.insert(key, Said { default, meaning });
        } else if let Some(text) = line.strip_prefix("# ") {
            comment.push_str(text);
            comment.push(' ');
            continue;
        }
        comment.clear();
    }
    said
}

fn key_of(line: &str) -> Option<(&str, &str)> {
    let (key, value) = line.split_once(" = ")?;
    let name = key
        .bytes()
        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    name.then_some((key, value))
}

/// The first sentence, which says what it is.
fn sentence(comment: &str) -> String {
    let comment = comment.trim().replace("(restart)", "").replace(" .", ".");
    let end = comment
        .match_indices(". ")
        .map(|(place, _)| place)
        .find(|place| !comment[..*place].ends_with("e.g"));
    let first = end.map_or(comment.as_str(), |end| &comment[..=end]);
    first.trim().replace('|', "\\|").replace('<', "&lt;")
}

/// What a comment names as default of a key without a value.
fn named_default(comment: &str) -> Option<String> {
    let (_, rest) = comment.split_once("Default: ")?;
    let end = rest.find(". ").unwrap_or(rest.trim_end().len());
    Some(rest[..end].trim_end_matches('.').replace('|', "\\|"))
}

/// A type in the words of the file.
fn kind(name: &str) -> String {
    let words = |words: &[&str]| {
        let words: Vec<_> = words.iter().map(|word| format!("`\"{word}\"`")).collect();
        words.join(", ")
    };
    let inner = name
        .strip_prefix("alloc::vec::Vec<")
        .and_then(|rest| rest.strip_suffix('>'));
    if let Some(inner) = inner {
        return match last(inner) {
            "String" => "list of texts".to_owned(),
            "PreflightCheck" => format!("list of {}", words(PreflightCheck::WORDS)),
            "PostflightCheck" => format!("list of {}", words(PostflightCheck::WORDS)),
            "Permission" => format!("list of {}", words(Permission::WORDS)),
            "RawListen" => "list of addresses or tables".to_owned(),
            "RawHook" | "RawNotify" | "RawRule" | "Exempt" | "Trigger" | "CertificateUser"
            | "RawCheckCommand" | "RawToken" | "ClientCertificate" => "list of tables".to_owned(),
            other => panic!("a list of {other} is not documented"),
        };
    }
    match last(name) {
        "HumanDuration" => "duration".to_owned(),
        "DurationOrNever" => "duration, or `\"never\"`".to_owned(),
        "ByteSize" => "size in bytes".to_owned(),
        "CountOrNone" => "number, or `\"none\"`".to_owned(),
        "usize" | "u32" | "u64" => "number".to_owned(),
        "bool" => "`true` or `false`".to_owned(),
        "PathBuf" => "path".to_owned(),
        "String" => "text".to_owned(),
        "Secret" => "text, secret".to_owned(),
        "TcpAddress" => "`\"IP:PORT\"`".to_owned(),
        "Sqlstate" => "SQLSTATE".to_owned(),
        "IpNet" => "address or network".to_owned(),
        "RawPlaces" => "address, or list of them".to_owned(),
        "AdminRole" => words(AdminRole::WORDS),
        "Analyze" => words(Analyze::WORDS),
        "GateUse" => words(GateUse::WORDS),
        "AfterRestart" => words(AfterRestart::WORDS),
        "Blocked" => words(Blocked::WORDS),
        "Bypass" => words(Bypass::WORDS),
        "ClientTls" => words(ClientTls::WORDS),
        "CompareWhen" => words(CompareWhen::WORDS),
        "CountRows" => words(CountRows::WORDS),
        "OnCanaryFailure" => words(OnCanaryFailure::WORDS),
        "LogFormat" => words(LogFormat::WORDS),
        "LogLevel" => words(LogLevel::WORDS),
        "Fingerprints" => words(Fingerprints::WORDS),
        "OnDrift" => words(OnDrift::WORDS),
        "Preset" => words(Preset::WORDS),
        "ReplicationHold" => words(ReplicationHold::WORDS),
        "SaveObjects" => words(SaveObjects::WORDS),
        "Stateful" => words(Stateful::WORDS),
        "Then" => words(Then::WORDS),
        "Verify" => words(Verify::WORDS),
        "WhenFull" => words(WhenFull::WORDS),
        "CertificateName" => words(CertificateName::WORDS),
        other => panic!("{other} is not documented: say here what is written for it"),
    }
}

fn last(name: &str) -> &str {
    name.rsplit("::").next().unwrap_or(name)
}

/// The table of all keys.
fn table() -> String {
    let reference = reference();
    let mut text = String::new();
    let mut section = None;
    for (key, type_name) in raw::keys_and_types() {
        let (of, name) = key.rsplit_once('.').unwrap_or(("", &key));
        if section.as_deref() != Some(of) {
            let title = match of {
                "" => "At the top".to_owned(),
                of => format!("`[{of}]`"),
            };
            text += &format!(
                "\n### {title}\n\n| key | type | default | reload | what it is |\n\
                 | --- | --- | --- | --- | --- |\n"
            );
            section = Some(of.to_owned());
        }
        let said = reference
            .get(&key)
            .unwrap_or_else(|| panic!("{key} is not in the reference"));
        let default = said.default.clone().unwrap_or_else(|| "none".to_owned());
        let now = reload::applies_now(&key).unwrap_or_else(|| panic!("{key} has no row"));
        let applies = if now { "applies" } else { "restart" };
        let kind = kind(type_name);
        text += &format!(
            "| `{name}` | {kind} | {default} | {applies} | {} |\n",
            said.meaning
        );
    }
    text + "\n"
}

#[test]
fn every_key_is_in_the_documentation_as_it_is() {
    let whole = read("docs/CONFIG.md");
    let (before, rest) = whole.split_once(BEGIN).expect("it has a place for keys");
    let (written, after) = rest.split_once(END).expect("it has an end of keys");
    let table = table();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/CONFIG.md");
        let text = format!("{before}{BEGIN}{table}{END}{after}");
        std::fs::write(path, text).expect("the documentation is ours");
        return;
    }
    for (is, should) in written.lines().zip(table.lines()) {
        assert_eq!(is, should, "UPDATE_DOCS=1 writes it anew");
    }
    assert_eq!(written, table, "UPDATE_DOCS=1 writes it anew");
}

#[test]
fn every_key_says_something() {
    for (key, said) in reference() {
        assert!(said.meaning.len() > 10, "{key}: {said:?}");
    }
}
