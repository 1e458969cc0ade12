//! The form of a statement that is run over a table piece by piece: pure, told from its tokens.
//!
//! `WHERE :batch` is the marker: each batch puts a range of the table in its place. The form is
//! narrow on purpose. The marker stands first in the statement's own WHERE, and nothing beside it can
//! reach a row outside of the range: no OR, no second query. Nothing looks at more rows than one
//! batch has: no LIMIT, no GROUP BY. The table is the one that the directive names.

use std::ops::Range;

use squawk_lexer::{TokenKind, tokenize};

use super::shape::Name;

/// What takes the marker's place where a statement is only looked at; as long as the marker, so that
/// places stay what they are.
const ANY_ROW: &str = "(true)";

/// Clauses that see all rows of a query at once, and so would see those of one batch.
const WHOLE: [&str; 9] = [
    "group",
    "having",
    "window",
    "limit",
    "offset",
    "fetch",
    "union",
    "intersect",
    "except",
];

/// A statement with its marker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Form {
    /// Bytes of the statement that are the marker.
    marker: Range<usize>,
    /// The table as the statement names it, with ONLY and its alias: what stands behind FROM.
    pub source: String,
    /// What a column of the table is qualified with, as SQL has it.
    pub alias: String,
    /// The columns that an UPDATE sets, folded as the server does.
    pub sets: Vec<String>,
}

/// Why a statement cannot be run in batches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormError {
    /// The byte of the statement at fault.
    pub at: usize,
    /// What is wrong there.
    pub text: String,
}

/// A token that means something.
#[derive(Clone, Copy, Debug)]
struct Token<'a> {
    kind: TokenKind,
    text: &'a str,
    start: usize,
    /// How many parentheses and brackets are open around it.
    depth: usize,
}

impl Token<'_> {
    fn is(&self, word: &str) -> bool {
        self.kind == TokenKind::Ident && self.text.eq_ignore_ascii_case(word)
    }

    fn is_name(&self) -> bool {
        self.kind == TokenKind::Ident || matches!(self.kind, TokenKind::QuotedIdent { .. })
    }

    fn end(&self) -> usize {
        self.start + self.text.len()
    }

    fn fault<T>(&self, text: impl Into<String>) -> Result<T, FormError> {
        fault(self.start, text)
    }
}

fn fault<T>(at: usize, text: impl Into<String>) -> Result<T, FormError> {
    let text = text.into();
    Err(FormError { at, text })
}

impl Form {
    /// Reads a statement, which has to be about a table.
    ///
    /// # Errors
    /// When it is no statement that can be run over the table piece by piece.
    pub fn read(sql: &str, table: &str) -> Result<Self, FormError> {
        let tokens = tokens(sql);
        let Some(verb) = tokens.first() else {
            return fault(0, "there is no statement");
        };
        if !["update", "delete", "insert"].iter().any(|it| verb.is(it)) {
            return verb.fault("only UPDATE, DELETE and INSERT ... SELECT can be run in batches");
        }
        let marker = marker(&tokens)?;
        own_condition(&tokens, marker)?;
        row_by_row(&tokens, marker)?;
        let (source, alias) = source(sql, &tokens, table)?;
        Ok(Self {
            marker: tokens[marker].start..tokens[marker + 1].end(),
            source,
            alias,
            sets: match verb.is("update") {
                true => sets(&tokens),
                false => Vec::new(),
            },
        })
    }

    /// The statement with a condition in the marker's place.
    pub fn with(&self, sql: &str, condition: &str) -> String {
        let Range { start, end } = self.marker;
        format!("{}({condition}){}", &sql[..start], &sql[end..])
    }

    /// The statement as one over all rows, each character at its place.
    pub fn whole(&self, sql: &str) -> String {
        let Range { start, end } = self.marker;
        format!("{}{ANY_ROW}{}", &sql[..start], &sql[end..])
    }

    /// Where a character of `with(condition)` stands in the statement, both counted from 1.
    pub fn position(&self, sql: &str, condition: &str, position: u32) -> u32 {
        let count = |text: &str| u32::try_from(text.chars().count()).unwrap_or(u32::MAX);
        let before = count(&sql[..self.marker.start]);
        let (marker, put) = (count(ANY_ROW), count(condition).saturating_add(2));
        match position.saturating_sub(1) {
            at if at < before => position,
            at if at < before.saturating_add(put) => before + 1,
            _ => position.saturating_sub(put).saturating_add(marker),
        }
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the list is the lexer's and grows with it"
)]
fn tokens(sql: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let (mut start, mut depth) = (0, 0_usize);
    for token in tokenize(sql) {
        let text = &sql[start..start + token.len as usize];
        let kind = token.kind;
        match kind {
            TokenKind::Whitespace
            | TokenKind::LineComment
            | TokenKind::BlockComment { .. }
            | TokenKind::Eof => {
                start += text.len();
                continue;
            }
            TokenKind::CloseParen | TokenKind::CloseBracket => depth = depth.saturating_sub(1),
            _ => {}
        }
        tokens.push(Token {
            kind,
            text,
            start,
            depth,
        });
        if matches!(kind, TokenKind::OpenParen | TokenKind::OpenBracket) {
            depth += 1;
        }
        start += text.len();
    }
    tokens
}

/// The place of the one marker: a colon with the word behind it, and no cast.
fn marker(tokens: &[Token<'_>]) -> Result<usize, FormError> {
    let is_marker = |at: &usize| {
        let colon = &tokens[*at];
        let cast = at
            .checked_sub(1)
            .is_some_and(|before| tokens[before].kind == TokenKind::Colon);
        colon.kind == TokenKind::Colon
            && !cast
            && tokens
                .get(at + 1)
                .is_some_and(|word| word.is("batch") && word.start == colon.end())
    };
    let mut found = (0..tokens.len()).filter(is_marker);
    match (found.next(), found.next()) {
        (Some(only), None) => Ok(only),
        (Some(_), Some(second)) => tokens[second].fault(":batch stands here a second time"),
        (None, _) => fault(
            0,
            "the statement has to say WHERE :batch, where each batch puts its rows",
        ),
    }
}

/// The marker is the first condition of the statement's own WHERE, and all of them have to hold.
fn own_condition(tokens: &[Token<'_>], marker: usize) -> Result<(), FormError> {
    let at = &tokens[marker];
    let first = marker
        .checked_sub(1)
        .is_some_and(|before| tokens[before].is("where"));
    if at.depth > 0 || !first {
        return at.fault(":batch has to be the first condition of the statement's own WHERE");
    }
    let behind = tokens.get(marker + 2);
    if let Some(next) = behind
        && !["and", "returning", "on"].iter().any(|it| next.is(it))
    {
        return next.fault("only AND may join :batch with other conditions");
    }
    let or = |it: &&Token<'_>| it.depth == 0 && it.is("or");
    match tokens[marker..].iter().find(or) {
        Some(or) => or.fault("OR reaches rows outside of the batch: put parentheses around it"),
        None => Ok(()),
    }
}

/// Nothing in the statement needs more rows than one at a time.
fn row_by_row(tokens: &[Token<'_>], marker: usize) -> Result<(), FormError> {
    for (at, token) in tokens.iter().enumerate().filter(|(_, it)| it.depth == 0) {
        let before = at.checked_sub(1).map(|it| &tokens[it]);
        if before.is_some_and(|it| it.kind == TokenKind::Dot) {
            continue;
        }
        let distinct = token.is("distinct") && before.is_some_and(|it| it.is("select"));
        if distinct || WHOLE.iter().any(|it| token.is(it)) {
            let word = token.text.to_uppercase();
            return token.fault(format!("{word} would see the rows of one batch only"));
        }
        if token.is("where") && at < marker.saturating_sub(1) {
            return token.fault("the statement has another WHERE before that of :batch");
        }
    }
    Ok(())
}

/// The table behind FROM, and what its columns are qualified with.
fn source(sql: &str, tokens: &[Token<'_>], table: &str) -> Result<(String, String), FormError> {
    let top = |it: &Token<'_>| it.depth == 0;
    let verb = &tokens[0];
    let behind = match () {
        () if verb.is("update") => Some(1),
        () if verb.is("delete") => Some(2),
        () => tokens
            .iter()
            .enumerate()
            .skip_while(|(_, it)| !(top(it) && it.is("select")))
            // `a IS DISTINCT FROM b` is no source.
            .find(|(at, it)| top(it) && it.is("from") && !tokens[at - 1].is("distinct"))
            .map(|(at, _)| at + 1),
    };
    let Some(from) = behind else {
        return verb
            .fault("an INSERT in batches has to SELECT ... FROM the table of the directive");
    };
    let mut at = from;
    let only = tokens.get(at).is_some_and(|it| it.is("only"));
    at += usize::from(only);
    let begin = at;
    while tokens.get(at).is_some_and(Token::is_name)
        && tokens
            .get(at + 1)
            .is_some_and(|it| it.kind == TokenKind::Dot)
    {
        at += 2;
    }
    let Some((first, last)) = tokens
        .get(begin)
        .zip(tokens.get(at))
        .filter(|(_, it)| it.is_name())
    else {
        return fault(
            tokens.get(from).map_or(0, |it| it.start),
            format!("here the table {table} of the directive is expected"),
        );
    };
    let name = &sql[first.start..last.end()];
    if Name::parse(name).is_none() || Name::parse(name) != Name::parse(table) {
        let text = format!("the statement is about {name}, the directive about {table}");
        return first.fault(text);
    }
    at += 1;
    at += usize::from(tokens.get(at).is_some_and(|it| it.kind == TokenKind::Star));
    let said = tokens.get(at).is_some_and(|it| it.is("as"));
    at += usize::from(said);
    let alias = tokens
        .get(at)
        .filter(|it| it.is_name() && (said || !may_follow_a_table(it)));
    let only = if only { "only " } else { "" };
    Ok(match alias {
        Some(alias) => (
            format!("{only}{name} as {}", alias.text),
            alias.text.to_owned(),
        ),
        None => (format!("{only}{name}"), last.text.to_owned()),
    })
}

/// Words behind a table that are no alias.
fn may_follow_a_table(token: &Token<'_>) -> bool {
    [
        "set",
        "where",
        "using",
        "join",
        "inner",
        "left",
        "right",
        "full",
        "cross",
        "natural",
        "tablesample",
    ]
    .iter()
    .any(|it| token.is(it))
}

/// The columns that an UPDATE sets.
fn sets(tokens: &[Token<'_>]) -> Vec<String> {
    let mut columns = Vec::new();
    let mut expected = false;
    for token in tokens {
        let top = token.depth == 0;
        match () {
            () if top && token.is("set") => expected = true,
            () if top && (token.is("where") || token.is("from")) => break,
            () if top && token.kind == TokenKind::Eq => expected = false,
            // A comma between two of them, or between those of `(a, b) = ...`.
            () if top && token.kind == TokenKind::Comma => expected = true,
            () if expected && token.is_name() => {
                columns.extend(Name::parse(token.text).map(|it| it.name));
            }
            () => {}
        }
    }
    columns
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(sql: &str) -> Result<Form, String> {
        Form::read(sql, "shop.orders").map_err(|it| format!("{} at {}", it.text, it.at))
    }

    fn fault(sql: &str) -> String {
        read(sql).expect_err("a fault")
    }

    #[test]
    fn tables_are_found_with_their_aliases() {
        let source = |sql: &str| read(sql).map(|it| (it.source, it.alias));
        let found = |source: &str, alias: &str| Ok((source.to_owned(), alias.to_owned()));
        assert_eq!(
            source("update shop.orders set a = 1 where :batch"),
            found("shop.orders", "orders")
        );
        assert_eq!(
            source(
                "UPDATE ONLY Shop.\"orders\" * AS o SET a = 1 FROM u WHERE :batch AND u.i = o.i"
            ),
            found("only Shop.\"orders\" as o", "o")
        );
        assert_eq!(
            source("delete from shop.orders o using u where :batch and (a or b) returning a"),
            found("shop.orders as o", "o")
        );
        let insert = "insert into u (a, b) select a is distinct from b, (select 1 from x limit 1) \
                      from shop.orders left join u on true where :batch on conflict do nothing";
        assert_eq!(source(insert), found("shop.orders", "orders"));
    }

    #[test]
    fn what_could_reach_other_rows_is_refused() {
        let table = [
            ("update shop.orders set a = 1", "has to say WHERE :batch"),
            (
                "update shop.orders set a = ':batch' -- :batch",
                "has to say WHERE :batch",
            ),
            (
                "update shop.orders set a = b::batch",
                "has to say WHERE :batch",
            ),
            (
                "update shop.orders set a = 1 where :batch and :batch",
                "a second time",
            ),
            (
                "update shop.orders set a = 1 where not :batch",
                "the first condition",
            ),
            (
                "update shop.orders set a = 1 where b and :batch",
                "the first condition",
            ),
            (
                "update shop.orders set a = 1 where (:batch)",
                "the first condition",
            ),
            ("update shop.orders set a = 1 where :batch or b", "only AND"),
            (
                "update shop.orders set a = 1 where :batch is null",
                "only AND",
            ),
            (
                "update shop.orders set a = 1 where :batch and b or c",
                "OR reaches rows",
            ),
            (
                "update orders set a = 1 where :batch",
                "about orders, the directive about",
            ),
            (
                "update shop.items set a = 1 where :batch",
                "about shop.items",
            ),
            (
                "with x as (select 1) update shop.orders set a = 1 where :batch",
                "only UPDATE",
            ),
            ("merge into shop.orders using x on :batch", "only UPDATE"),
            ("insert into u values (1)", "has to say WHERE :batch"),
            (
                "insert into u select 1 where :batch",
                "has to SELECT ... FROM",
            ),
            (
                "insert into u select a from (select 1) where :batch",
                "is expected",
            ),
            (
                "insert into u select a from shop.orders where :batch limit 1",
                "only AND",
            ),
            (
                "insert into u select a from shop.orders where :batch and b limit 1",
                "LIMIT would",
            ),
            (
                "insert into u select distinct a from shop.orders where :batch",
                "DISTINCT would",
            ),
            (
                "insert into u select a from shop.orders where :batch and b group by a",
                "GROUP would",
            ),
            (
                "insert into u select a from shop.orders where :batch and b union select 1",
                "UNION would",
            ),
            (
                "insert into u select a from shop.orders where b union select 1 from x where :batch",
                "another WHERE",
            ),
        ];
        for (sql, text) in table {
            let found = fault(sql);
            assert!(found.contains(text), "{sql}: {found}");
        }
        assert!(fault("update shop.orders set a = 1 where :batch or b").ends_with("at 42"));
    }

    #[test]
    fn columns_that_are_set_are_known() {
        let sets = |sql: &str| read(sql).map(|it| it.sets);
        let sql = "update shop.orders o set A = f(b, c), (\"D\", e) = (select 1, x where y = 2), \
                   g = case when h = 1 then 2 end where :batch";
        let names = ["a", "D", "e", "g"].map(str::to_owned).to_vec();
        assert_eq!(sets(sql), Ok(names));
    }

    #[test]
    fn places_stay_where_they_are() {
        let sql = "update shop.orders set é = 1 where :batch and nope";
        let form = read(sql).expect("a form");
        let place = |sql: &str, word: &str| {
            u32::try_from(
                sql.chars().count() - sql.split_once(word).map_or(0, |it| it.1.chars().count()),
            )
            .expect("a small number")
        };
        let sent = form.with(sql, "id > 1 and id <= 2");
        assert_eq!(
            sent,
            "update shop.orders set é = 1 where (id > 1 and id <= 2) and nope"
        );
        let back = |at| form.position(sql, "id > 1 and id <= 2", at);
        assert_eq!(back(place(&sent, "nope")), place(sql, "nope"));
        assert_eq!(back(3), 3);
        assert_eq!(back(place(&sent, "id <=")), place(sql, "where ") + 1);
        let whole = form.whole(sql);
        assert_eq!(whole.find("nope"), sql.find("nope"));
    }
}
