//! What holds for any text: no panic, few steps, and no change by what the server does not see.

use proptest::prelude::*;
use proptest::sample::select;

use super::super::lexer::{Token, Tokens};
use super::*;

/// Bytes looked at for each byte of the text, at most.
const STEPS_PER_BYTE: usize = 3;

/// The shape, and whether it took few steps.
fn measured(text: &[u8]) -> (Shape<'_>, bool) {
    let mut tokens = Tokens::new(text);
    let shape = Unit::of(&mut tokens).shape();
    let few = tokens.looked_at <= STEPS_PER_BYTE * text.len() + 16;
    (shape, few)
}

/// Whether a text means one thing only.
fn is_clear(text: &[u8]) -> bool {
    let mut tokens = Tokens::new(text);
    std::iter::from_fn(|| tokens.next()).all(|token| token != Token::Unclear)
}

fn writes(shape: Shape<'_>) -> bool {
    matches!(shape, Shape::Writes(_))
}

#[test]
fn nothing_takes_many_steps() {
    let often = |part: &str| part.repeat(1_000_000 / part.len());
    for text in [
        often("("),
        often("select ("),
        often("select 1;"),
        often("'"),
        often("''a"),
        often("E'\\"),
        often("E'a'\n"),
        often("select \"a\"\"b"),
        often("$"),
        often("$$"),
        often("$a"),
        often("$a$b"),
        format!("select ${}${}", often("a"), often("$aaaa")),
        format!("select $a${}", often("$a $")),
        often("/*"),
        often("/**/"),
        often("/*/"),
        often("--"),
        often("-- \n"),
        often("- "),
        often("select set_config("),
        often("select set_config('work_mem',"),
        often("select 'a\\b',"),
        often("explain "),
        often("explain ("),
        often("explain (analyze "),
        often("set session "),
        often("begin isolation level "),
        often("with a as (select nextval "),
        often("1."),
        often("é"),
        often("u&"),
        often("begin;"),
    ] {
        for text in [format!("select {text}"), text] {
            let (_, few) = measured(text.as_bytes());
            assert!(few, "{}...", &text[..40]);
        }
    }
}

/// What stands before and behind a statement does not hide what it is.
#[test]
fn a_write_among_others_is_a_write() {
    for (name, text) in statements() {
        let text = text.as_bytes();
        let behind = [b"select 1;\n", text].concat();
        if writes(named(name)) {
            assert!(writes(shape(&behind)), "{name} {:?}", shape(&behind));
            assert!(writes(shape(&[text, b"\n; select 1"].concat())), "{name}");
        }
        assert!(writes(shape(
            &[text, b"\n; insert into t values (1)"].concat()
        )));
    }
}

#[test]
fn reads_stay_reads_among_reads() {
    for (name, text) in statements().filter(|(name, _)| *name == "read") {
        let twice = format!("select 1;{text}\n;{text}");
        let commits = text.contains("commit");
        assert!(commits || shape(twice.as_bytes()) == named(name), "{twice}");
    }
}

/// What can stand between two tokens without being seen.
fn unseen() -> impl Strategy<Value = &'static str> {
    select(&[
        " ",
        "\n",
        "\t",
        "\r\n",
        "\u{b}",
        "\u{c}",
        "/**/",
        "/* ; */",
        " -- insert into t\n",
        "--'\n",
        "/* /* ' */ \" $$ */",
        "/***/",
        "--\r",
    ])
}

/// A clear text of the list in another spelling.
fn spelled_anew() -> impl Strategy<Value = (&'static str, String, String)> {
    let clear = statements().filter(|(_, text)| is_clear(text.as_bytes()));
    let clear: Vec<_> = clear.collect();
    (
        select(clear),
        prop::collection::vec((unseen(), any::<u64>()), 8..40),
    )
        .prop_map(|((name, text), changes)| {
            let anew = spell(&text, &changes, !text.contains("execute"));
            (name, text, anew)
        })
}

/// The same tokens with something unseen before each, and words in any case.
fn spell(text: &str, changes: &[(&str, u64)], fold: bool) -> String {
    let mut anew = String::new();
    let mut tokens = Tokens::new(text.as_bytes());
    let mut changes = changes.iter().cycle();
    while let (Some((token, range)), Some((unseen, case))) = (tokens.next_at(), changes.next()) {
        anew.push_str(unseen);
        let letters = text[range].chars().enumerate().map(|(index, char)| {
            let upper = case >> (index % 64) & 1 == 1;
            match (fold && matches!(token, Token::Word(_)), upper) {
                (false, _) => char,
                (true, true) => char.to_ascii_uppercase(),
                (true, false) => char.to_ascii_lowercase(),
            }
        });
        anew.extend(letters);
    }
    anew
}

/// Pieces that mean much to the lexer or the rules.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let telling = select(&[
        "'",
        "''",
        "\"",
        "$$",
        "$a$",
        "$",
        "E'",
        "e'\\",
        "U&'",
        "u&\"",
        "N'",
        "B'",
        "/*",
        "*/",
        "--",
        "\n",
        ";",
        "(",
        ")",
        ",",
        ".",
        "\\",
        "1",
        "1.",
        "e5",
        "select ",
        "insert ",
        "into ",
        "update ",
        "delete ",
        "from ",
        "for ",
        "share ",
        "with ",
        "as ",
        "set_config(",
        "nextval(",
        "begin ",
        "commit ",
        "read ",
        "write ",
        "set ",
        "reset ",
        "all ",
        "explain ",
        "analyze ",
        "copy ",
        "to ",
        "stdout ",
        "execute ",
        "prepare ",
        "é",
    ]);
    prop_oneof![
        4 => telling.prop_map(|text| text.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 1..4),
    ]
}

proptest! {
    #[test]
    fn no_text_panics_or_takes_many_steps(pieces in prop::collection::vec(piece(), 0..60)) {
        let text = pieces.concat();
        let (shape_of_it, few) = measured(&text);
        prop_assert!(few, "{}", text.escape_ascii());
        prop_assert!(!reads_alone(&text) || shape_of_it == Shape::Reads);
        prop_assert!(is_clear(&text) || writes(shape_of_it), "{}", text.escape_ascii());
    }

    #[test]
    fn no_text_hides_the_write_behind_it(pieces in prop::collection::vec(piece(), 0..60)) {
        let text = [&pieces.concat()[..], b"\n; insert into t values (1)"].concat();
        prop_assert!(writes(shape(&text)), "{}", text.escape_ascii());
    }

    #[test]
    fn comments_blanks_and_case_change_nothing((name, text, anew) in spelled_anew()) {
        prop_assert_eq!(shape(anew.as_bytes()), named(name), "{} -> {}", text, anew);
    }
}
