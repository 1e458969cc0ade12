//! Rust sources as tokens: paths that they name, texts that they hold, with and without tests.

use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, Spacing, TokenStream, TokenTree};

/// One file.
#[derive(Debug)]
pub(crate) struct Source {
    /// Relative to the repository, with `/` between the parts.
    pub(crate) path: String,
    /// The whole text.
    pub(crate) text: String,
}

/// What is wrong in a file, and where.
#[derive(Debug)]
pub(crate) struct Complaint {
    /// Counted from 1.
    pub(crate) line: usize,
    /// A sentence.
    pub(crate) text: String,
}

impl Complaint {
    pub(crate) fn new(line: usize, text: String) -> Self {
        Self { line, text }
    }
}

/// A path such as `crate::wire::Frame`, however it was written.
#[derive(Debug)]
pub(crate) struct NamedPath {
    /// Where it ends.
    pub(crate) line: usize,
    /// Its parts. One that a `use` names alone has `self` behind it, unlike a plain word.
    pub(crate) segments: Vec<String>,
    /// In how many `mod { }` it stands; each makes `super` one step shorter.
    inline_modules: usize,
}

/// Every `.rs` file below `folder` of the repository; none if there is no such folder.
pub(crate) fn all(folder: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    collect(&root.join(folder), &mut files);
    files.sort();
    let read = |file: PathBuf| Source {
        text: fs::read_to_string(&file).expect("sources are UTF-8"),
        path: file
            .strip_prefix(root)
            .expect("a file of ours")
            .to_string_lossy()
            .into_owned(),
    };
    files.into_iter().map(read).collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries {
        let path = entry.expect("a readable folder").path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

impl Source {
    /// The top-level module: `gate` for `src/gate/queue.rs` and for `src/gate.rs`.
    pub(crate) fn module(&self) -> &str {
        self.module_path()[0]
    }

    /// `["gate", "queue"]` for `src/gate/queue.rs`, `["gate"]` for `src/gate/mod.rs`.
    fn module_path(&self) -> Vec<&str> {
        let path = self.path.trim_start_matches("src/").trim_end_matches(".rs");
        path.trim_end_matches("/mod").split('/').collect()
    }

    /// The top-level module that a path of this file leads to, if it starts at the crate's root.
    pub(crate) fn module_named_by<'p>(&self, path: &'p NamedPath) -> Option<&'p str> {
        let ups = path
            .segments
            .iter()
            .take_while(|segment| *segment == "super")
            .count();
        let depth = self.module_path().len() + path.inline_modules;
        let rest = match path.segments.first()?.as_str() {
            "crate" => &path.segments[1..],
            _ if ups == depth => &path.segments[ups..],
            _ => return None,
        };
        rest.first().map(String::as_str)
    }

    /// Every path that the file names.
    pub(crate) fn paths(&self) -> Vec<NamedPath> {
        self.code(true).paths()
    }

    /// The file as it is compiled for users.
    pub(crate) fn without_tests(&self) -> Code {
        self.code(false)
    }

    fn code(&self, with_tests: bool) -> Code {
        let stream: TokenStream = self
            .text
            .parse()
            .unwrap_or_else(|error| panic!("{}: {error}", self.path));
        let mut code = Code::default();
        let all_test = self.path.ends_with("/tests.rs") || self.path.contains("/tests/");
        if with_tests || !all_test {
            code.flatten(stream, with_tests);
        }
        code
    }
}

/// Tokens in a row, with the brackets as tokens.
#[derive(Debug, Default)]
pub(crate) struct Code {
    tokens: Vec<Token>,
}

#[derive(Debug)]
struct Token {
    line: usize,
    text: String,
}

impl Code {
    /// Appends a stream. Comments are no tokens, and doc comments are attributes with a text.
    fn flatten(&mut self, stream: TokenStream, with_tests: bool) {
        let mut trees = stream.into_iter().peekable();
        while let Some(tree) = trees.next() {
            let line = tree.span().start().line;
            match tree {
                TokenTree::Punct(mark) if mark.as_char() == '#' => {
                    let attribute = trees.peek().map(ToString::to_string).unwrap_or_default();
                    if !with_tests && is_test_only(&attribute) {
                        skip_item(&mut trees);
                    }
                }
                // Two colons that belong together arrive as two marks.
                TokenTree::Punct(mark) if mark.as_char() == ':' => {
                    let is_colon = |tree: &TokenTree| tree.to_string() == ":";
                    let joint = mark.spacing() == Spacing::Joint;
                    let second = if joint { trees.next_if(is_colon) } else { None };
                    self.push(line, if second.is_some() { "::" } else { ":" });
                }
                TokenTree::Group(group) => {
                    let (open, close) = match group.delimiter() {
                        Delimiter::Brace => ("{", "}"),
                        Delimiter::Bracket => ("[", "]"),
                        Delimiter::Parenthesis => ("(", ")"),
                        Delimiter::None => ("", ""),
                    };
                    self.push(line, open);
                    self.flatten(group.stream(), with_tests);
                    self.push(group.span_close().start().line, close);
                }
                TokenTree::Ident(_) | TokenTree::Punct(_) | TokenTree::Literal(_) => {
                    self.push(line, &tree.to_string());
                }
            }
        }
    }

    fn push(&mut self, line: usize, text: &str) {
        self.tokens.push(Token {
            line,
            text: text.to_owned(),
        });
    }

    fn text(&self, index: usize) -> &str {
        self.tokens
            .get(index)
            .map_or("", |token| token.text.as_str())
    }

    /// Every path, those of `use` trees written out.
    pub(crate) fn paths(&self) -> Vec<NamedPath> {
        let mut paths = Vec::new();
        let mut scopes = Scopes::default();
        let mut index = 0;
        while index < self.tokens.len() {
            let before = paths.len();
            if self.text(index) == "use" {
                index = self.use_tree(index + 1, &[], &mut paths);
            } else if is_word(self.text(index)) {
                index = self.plain_path(index, &mut paths);
            } else {
                scopes.see(self, index);
                index += 1;
            }
            for path in &mut paths[before..] {
                path.inline_modules = scopes.modules();
            }
        }
        paths
    }

    fn plain_path(&self, mut index: usize, paths: &mut Vec<NamedPath>) -> usize {
        let mut segments = vec![self.text(index).to_owned()];
        while self.text(index + 1) == "::" && is_word(self.text(index + 2)) {
            index += 2;
            segments.push(self.text(index).to_owned());
        }
        let line = self.tokens[index].line;
        if segments.len() > 1 || segments[0].starts_with(char::is_uppercase) {
            paths.push(NamedPath {
                line,
                segments,
                inline_modules: 0,
            });
        }
        index + 1
    }

    /// Reads one tree and returns the index behind it.
    fn use_tree(&self, mut index: usize, prefix: &[String], paths: &mut Vec<NamedPath>) -> usize {
        let mut segments = prefix.to_vec();
        loop {
            match self.text(index) {
                "::" => index += 1,
                "{" => {
                    index += 1;
                    while !matches!(self.text(index), "}" | "") {
                        index = self.use_tree(index, &segments, paths);
                        index += usize::from(self.text(index) == ",");
                    }
                    return index + 1;
                }
                "as" => index += 2,
                word if is_word(word) || word == "*" => {
                    segments.push(word.to_owned());
                    index += 1;
                }
                _ => break,
            }
        }
        if segments.len() == 1 {
            segments.push("self".to_owned());
        }
        let line = self.tokens.get(index - 1).map_or(0, |token| token.line);
        paths.push(NamedPath {
            line,
            segments,
            inline_modules: 0,
        });
        index
    }

    /// The lines on which a method of this name is called.
    pub(crate) fn lines_of_method(&self, name: &str) -> Vec<usize> {
        let calls = self.tokens.windows(3).filter(|window| {
            window[0].text == "." && window[1].text == name && window[2].text == "("
        });
        calls.map(|window| window[1].line).collect()
    }

    /// Every string literal without escapes, with its line.
    pub(crate) fn strings(&self) -> Vec<(usize, String)> {
        let literals = self.tokens.iter().filter_map(|token| {
            let text = token.text.strip_prefix('b').unwrap_or(&token.text);
            let text = text.strip_prefix('"')?.strip_suffix('"')?;
            Some((token.line, text.to_owned()))
        });
        literals.collect()
    }
}

/// Which of the open braces belong to a `mod`.
#[derive(Debug, Default)]
struct Scopes {
    open: Vec<bool>,
}

impl Scopes {
    fn see(&mut self, code: &Code, index: usize) {
        match code.text(index) {
            "{" => {
                let is_module = index >= 2 && code.text(index - 2) == "mod";
                self.open.push(is_module);
            }
            "}" => {
                self.open.pop();
            }
            _ => {}
        }
    }

    fn modules(&self) -> usize {
        self.open.iter().filter(|is_module| **is_module).count()
    }
}

fn is_word(text: &str) -> bool {
    text.starts_with(|first: char| first.is_alphabetic() || first == '_') && !text.ends_with('"')
}

/// An attribute as `[cfg (test)]`, spaces aside.
fn is_test_only(attribute: &str) -> bool {
    let attribute: String = attribute.split_whitespace().collect();
    attribute.starts_with("[cfg(test)") || attribute.starts_with("[cfg(all(test")
}

/// Skips an item up to its block or semicolon.
fn skip_item(trees: &mut impl Iterator<Item = TokenTree>) {
    for tree in trees {
        match tree {
            TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => return,
            TokenTree::Punct(mark) if mark.as_char() == ';' => return,
            TokenTree::Group(_)
            | TokenTree::Punct(_)
            | TokenTree::Ident(_)
            | TokenTree::Literal(_) => {}
        }
    }
}
