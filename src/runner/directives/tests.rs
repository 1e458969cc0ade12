//! Directives are read, and near misses are told with their place.

use jiff::civil::date;
use proptest::prelude::*;

use super::*;

fn faults(text: &str) -> Vec<String> {
    let errors = Directives::read(text).expect_err("a fault");
    errors.iter().map(ToString::to_string).collect()
}

#[test]
fn every_directive_is_read() {
    let text = "-- pgdrain:tx none\n--pgdrain:traffic read_only\n-- pgdrain:lock_timeout 2s\n\
        -- pgdrain:statement_timeout 0s\n-- pgdrain:assert pre select count(*) = 0 from t;\n\
        select 1; -- pgdrain:assert post select true\n-- pgdrain:irreversible the data is gone\n\
        -- pgdrain:disabled-until 2026-12-01\n-- pgdrain:owner \"App Owner\"\n\
        -- pgdrain:rows public.\"T\" +3\n-- pgdrain:rows u -1\n\
        -- pgdrain:batch table=public.t size=10000 pause=100ms key=\"No\" done=\"n is null and b <> ')'\" \
        vacuum=20 max_lag=3s max_lag_bytes=1MiB max_blocked=0 max_p99=50ms\n\
        -- pgdrain:changes view \"V\", app.w\n";
    let read = Directives::read(text).unwrap();
    let expected = Directives {
        no_transaction: true,
        traffic: Some(TrafficMode::ReadOnly),
        lock_timeout: Some(Duration::from_secs(2)),
        statement_timeout: Some(Duration::ZERO),
        asserts: vec![
            Assertion {
                when: When::Pre,
                sql: "select count(*) = 0 from t".to_owned(),
                line: 5,
            },
            Assertion {
                when: When::Post,
                sql: "select true".to_owned(),
                line: 6,
            },
        ],
        batch: Some(Located {
            line: 12,
            value: Batch {
                table: "public.t".to_owned(),
                size: 10_000,
                pause: Duration::from_millis(100),
                by: By::Column("\"No\"".to_owned()),
                done: Some("n is null and b <> ')'".to_owned()),
                vacuum: Some(20),
                limits: Limits {
                    lag: Duration::from_secs(3),
                    lag_bytes: 1 << 20,
                    blocked: 0,
                    p99: Some(Duration::from_millis(50)),
                },
            },
        }),
        irreversible: Some("the data is gone".to_owned()),
        disabled_until: Some(date(2026, 12, 1)),
        owner: Some("App Owner".to_owned()),
        changes: vec![Located {
            line: 13,
            value: Changed {
                what: Changes::View,
                names: ["\"V\"", "app.w"]
                    .map(|it| Name::parse(it).unwrap())
                    .to_vec(),
            },
        }],
        rows: [("public.\"T\"", 3, 10), ("u", -1, 11)]
            .map(|(table, change, line)| Located {
                line,
                value: RowChange {
                    table: table.to_owned(),
                    change,
                },
            })
            .to_vec(),
    };
    assert_eq!(read, expected);
    assert!(read.is_disabled(date(2026, 11, 30)));
    assert!(!read.is_disabled(date(2026, 12, 1)));
}

#[test]
fn every_fault_is_told_at_once_with_line_and_column() {
    let text = "-- pgdrain:lock_timout 2s\nselect 1;\n  -- PGDrain: tx none\n\
        -- é pgdrain:tx none is only mentioned\n/* pgdrain:tx none */\n-- pgdrain:tx none\n\
        -- pgdrain:tx none\n";
    assert_eq!(
        faults(text),
        [
            "line 1, column 4: \"lock_timout\" is not one of tx, traffic, lock_timeout, \
             statement_timeout, assert, batch, irreversible, disabled-until, owner, rows, changes, allow, allow-file, did you \
             mean \"lock_timeout\"?",
            "line 3, column 6: a directive is written `-- pgdrain:NAME VALUE`",
            "line 5, column 4: directives are written behind --, a line each",
            "line 7, column 4: pgdrain:tx stands in this file for the second time",
        ]
    );
}

#[test]
fn values_are_checked() {
    let table = [
        ("tx file", "\"file\" is not one of none"),
        ("traffic exclusiv", "did you mean \"exclusive\"?"),
        ("lock_timeout 0s", "at least 1ms"),
        ("lock_timeout 5", "is not a duration"),
        ("statement_timeout 30days", "at most 24 days"),
        (
            "assert before select 1",
            "\"before\" is not one of pre, post",
        ),
        ("assert pre", "one query has to follow, found 0"),
        (
            "assert pre select 1; select 2",
            "one query has to follow, found 2",
        ),
        ("assert post delete from t", "begin with SELECT"),
        ("assert post select 'a", "this string is not closed"),
        ("irreversible", "a reason has to follow"),
        ("disabled-until tomorrow", "is no date"),
        ("disabled-until 2026-02-30", "is no date"),
        ("owner a.b", "is no name of a role"),
        ("owner", "is no name of a role"),
        ("rows t", "write the table and the change"),
        ("rows t 3", "write the table and the change"),
        ("rows t;drop +3", "is no name of a table"),
        ("batch size=1", "table=NAME is missing"),
        ("batch table=t size=0", "is no number of rows"),
        ("batch table=t size=1 pauze=1s", "did you mean \"pause\"?"),
        ("batch table=t table=t size=1", "table is given twice"),
        ("batch table=t size=1 by=block", "is not one of ctid"),
        ("batch table=t size=1 by=ctid", "by=ctid needs done="),
        ("batch table=t size=1 key=a by=ctid done=\"a\"", "exclude"),
        ("batch table=t size=1 key=a,b", "is no name of a column"),
        ("batch table=t size=1 done=a", "between double quotes"),
        ("batch table=t size=1 done=\"\"", "between double quotes"),
        (
            "batch table=t size=1 done=\"a",
            "a double quote is not closed",
        ),
        ("batch table=t size=1 done=\"a) or (b\"", "closes too much"),
        ("batch table=t size=1 done=\"(a\"", "is not complete"),
        ("batch table=t size=1 done=\"a; b\"", "only a condition"),
        ("batch table=t size=1 done=\"a -- b\"", "only a condition"),
        ("batch table=t size=1 vacuum=0", "is no number of batches"),
        (
            "batch table=t size=1 max_p99=0s",
            "nothing stays below zero",
        ),
        (
            "batch table=t size=1 max_blocked=some",
            "is no number of sessions",
        ),
        (
            "batch table=t size=1 max_lag_bytes=1MB",
            "max_lag_bytes=1MB",
        ),
    ];
    for (directive, text) in table {
        let found = faults(&format!("-- pgdrain:{directive}"));
        assert!(found[0].contains(text), "{directive}: {found:?}");
    }
}

#[test]
fn nothing_in_strings_and_bodies_counts() {
    let text = "select '\n-- pgdrain:nonsense\n';\ndo $$ begin\n-- pgdrain:nonsense\nend $$;";
    assert_eq!(Directives::read(text), Ok(Directives::default()));
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused_with_a_place_in_it(text in "(-- pgdrain:[a-z_ =+0-9-]{0,20}\n|[a-z' ;\n/*-]{0,10}){0,6}") {
        if let Err(errors) = Directives::read(&text) {
            for error in errors {
                let line = text.split('\n').nth(error.line as usize - 1).expect("a line of the text");
                prop_assert!(error.column as usize <= line.chars().count());
            }
        }
    }
}
