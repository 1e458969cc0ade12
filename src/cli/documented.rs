//! Every command that a document shows can be given: it parses as it is written.

use std::path::{Path, PathBuf};

use clap::Parser;

use super::Cli;

/// README, documents and examples.
fn documents() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = vec![root.join("README.md")];
    let mut places = vec![root.join("docs"), root.join("examples")];
    while let Some(place) = places.pop() {
        for entry in std::fs::read_dir(&place).expect("a directory of ours") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                places.push(path);
            } else if path.extension().is_some_and(|it| it == "md") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// The words of a line as a shell has them, up to a comment, a pipe, or another command. What stands in
/// brackets may be left out, and is given.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for letter in line.chars() {
        match (quote, letter) {
            (Some(open), _) if letter == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (None, ' ') => words.extend(word.take()),
            (None, '[' | ']') => {}
            (None, '#') if word.is_none() => break,
            (None, '|' | ';' | '&' | '>' | '<' | ')') => break,
            _ => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    words
}

/// Our commands in the blocks of a document that are for a shell, each with its line.
fn commands(text: &str) -> Vec<(usize, Vec<String>)> {
    let (mut found, mut shell) = (Vec::new(), false);
    let mut lines = text.lines().enumerate();
    while let Some((at, line)) = lines.next() {
        let line = line.trim_start();
        if let Some(kind) = line.strip_prefix("```") {
            shell = ["console", "sh", "bash", "shell"].contains(&kind);
            continue;
        }
        let mut line = line.strip_prefix("$ ").unwrap_or(line).to_owned();
        while line.ends_with('\\') {
            line.pop();
            line += lines.next().map_or("", |(_, more)| more.trim_start());
        }
        let mut words = words(&line);
        let set = words.iter().take_while(|it| it.contains('='));
        words.drain(..set.count());
        if shell && words.first().is_some_and(|it| it == "pgdrain") {
            found.push((at + 1, words));
        }
    }
    found
}

#[test]
fn every_command_in_the_documents_can_be_given() {
    let (mut tried, mut wrong) = (0, Vec::new());
    for path in documents() {
        let text = std::fs::read_to_string(&path).expect("a document");
        for (line, words) in commands(&text) {
            tried += 1;
            let Err(error) = Cli::try_parse_from(&words) else {
                continue;
            };
            // Help and version are no mistakes.
            if error.use_stderr() {
                wrong.push(format!("{}:{line}: {error}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(tried > 100, "{tried} commands were found");
}

#[test]
fn lines_are_read_as_a_shell_does() {
    for (line, expected) in [
        (
            "pgdrain hold '*' --for 5m   # all",
            "pgdrain,hold,*,--for,5m",
        ),
        ("pgdrain migrate new 'a b' | cat", "pgdrain,migrate,new,a b"),
        ("pgdrain top#1 \"\"", "pgdrain,top#1,"),
        (
            "pgdrain drift [--reason '[a]'] [--json]",
            "pgdrain,drift,--reason,[a],--json",
        ),
    ] {
        assert_eq!(words(line).join(","), expected);
    }
    let text = "```console\n$ A=1 pgdrain \\\n    status\n```\n    pgdrain no\n";
    let found = commands(text);
    assert_eq!(found, [(2, vec!["pgdrain".to_owned(), "status".into()])]);
}
