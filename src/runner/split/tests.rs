//! Scripts, cut at each statement.

use super::*;
use squawk_syntax::SourceFile;
use squawk_syntax::ast::AstNode as _;

fn texts(script: &str) -> Vec<&str> {
    split(script)
        .unwrap()
        .into_iter()
        .map(|it| &script[it.range])
        .collect()
}

fn fault(script: &str) -> String {
    split(script).unwrap_err().to_string()
}

/// Scripts whose `;` are not where a naive cut would look.
const HARD: [&str; 9] = [
    "select 1; select 2",
    "-- one;\nselect ';' ; /* ; /* ; */ ; */ select \"a;b\", E'\\';' ;",
    "do $$ begin perform 1; perform 2; end $$; select $a$ $$ ; $a$;",
    "create function f() returns int language plpgsql as $body$ begin return 1; end; $body$;\n\
     select f();",
    "create function f(a int) returns int begin atomic select case when a > 1 then 2 else 3 end; \
     select 4; end; select 1",
    "create or replace procedure p() begin atomic insert into t values (1); delete from t; end;\n\
     call p();",
    "create rule r as on insert to t do also (insert into a values (1); insert into b values (2));\n\
     select 1;",
    "select U&'d;\\0061' uescape '!'; select a$b$c from t; select x'1f', b'01', n';';",
    "insert into t values ('é;ü'); select '漢;字' as \"名;前\";",
];

#[test]
fn cuts_as_a_full_grammar_does() {
    for script in HARD {
        let tree = SourceFile::parse(script).tree();
        let grammar: Vec<_> = tree
            .stmts()
            .map(|it| &script[Range::<usize>::from(it.syntax().text_range())])
            .map(|it| it.trim_end_matches(';').trim_end())
            .collect();
        assert_eq!(texts(script), grammar, "{script}");
    }
}

#[test]
fn statements_carry_no_comments_around_them_and_know_their_line() {
    let script = "-- head\n\n/* a\n b */ select 1 -- tail\n;;\r\n ; select\n 2 /* end */";
    let found = split(script).unwrap();
    let seen: Vec<_> = found
        .iter()
        .map(|it| (&script[it.range.clone()], it.line))
        .collect();
    assert_eq!(seen, [("select 1", 4), ("select\n 2", 6)]);
    assert!(split(" -- nothing\n;").unwrap().is_empty());
}

#[test]
fn what_only_psql_understands_is_refused_with_its_line() {
    assert_eq!(
        fault("select 1;\n\\connect other\n"),
        "line 2: \\connect is a command of psql, not SQL"
    );
    assert!(fault("select 1 \\gset").starts_with("line 1: \\gset is a command"));
    let copy = "select 1;\n\ncopy t (a, b) from stdin with (format csv);\n1,'open\n\\.\n";
    assert!(
        fault(copy).starts_with("line 3: COPY from STDIN"),
        "{}",
        fault(copy)
    );
    assert!(fault("copy (select 1) to stdout").contains("COPY"));
    assert_eq!(
        texts("copy t from '/tmp/stdin'; copy t to program 'cat'").len(),
        2
    );
}

#[test]
fn what_never_ends_is_refused_where_it_starts() {
    assert_eq!(
        fault("select 1;\nselect 'a;"),
        "line 2: this string is not closed"
    );
    assert_eq!(
        fault("select 1;\n\n/* /* */"),
        "line 3: this comment is not closed"
    );
    assert_eq!(
        fault("do $x$ $$"),
        "line 1: this dollar quote is not closed"
    );
    assert_eq!(
        fault("select \"a"),
        "line 1: this quoted identifier is not closed"
    );
    assert!(
        fault("select 1;\nselect (2;").starts_with("line 2: the last statement is not complete")
    );
    assert!(fault("select E'a'\n'b\\'; drop table t; --'").contains("one string"));
}

#[test]
fn depth_and_size_cost_neither_stack_nor_quadratic_time() {
    let deep = format!(
        "select {}1{};",
        "(".repeat(1_000_000),
        ")".repeat(1_000_000)
    );
    assert_eq!(split(&deep).unwrap().len(), 1);
    let long = "select 1;\n".repeat(500_000);
    assert_eq!(split(&long).unwrap().last().unwrap().line, 500_000);
    let huge = " ".repeat(FILE_BYTES_MAX + 1);
    assert_eq!(fault(&huge), "line 1: the file is larger than 16 MiB");
}

#[test]
fn columns_are_characters() {
    assert_eq!(line_and_column("é\nüb", "é\nü".len()), (2, 2));
    assert_eq!(line_and_column("ab", 0), (1, 1));
}
