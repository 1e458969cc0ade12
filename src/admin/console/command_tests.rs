//! The parser of commands: a table of what is meant, and any noise.

use proptest::prelude::*;

use super::*;
use crate::admin::console::help::HELP;
use crate::config::{Blocked, Bypass, Then};

fn one(text: &str) -> Command {
    let mut commands = read(text).expect(text);
    assert_eq!(commands.len(), 1, "{text}");
    commands.remove(0)
}

fn shows(what: What, argument: Option<&str>) -> Command {
    let argument = argument.map(str::to_owned);
    Command::Show { what, argument }
}

/// What a text is asked of which databases, as the body of the admin HTTP.
fn mode(text: &str) -> (&'static str, Databases, ModeRequest, Answer) {
    let Command::Mode {
        word,
        databases,
        request,
        answer,
    } = one(text)
    else {
        panic!("{text} is about no mode");
    };
    (word, databases, *request, answer)
}

fn shop() -> Databases {
    Databases::One("shop".to_owned())
}

#[test]
fn what_is_shown_is_named_in_any_case() {
    for (text, expected) in [
        ("SHOW POOLS", shows(What::Pools, None)),
        ("show Stats_Totals;", shows(What::StatsTotals, None)),
        (
            "show /* x */ holds shop -- y",
            shows(What::Holds, Some("shop")),
        ),
        (
            "SHOW HOLDS \"my \"\"db\"\"\"",
            shows(What::Holds, Some("my \"db\"")),
        ),
        ("show events 5", shows(What::Events, Some("5"))),
        ("help", shows(What::Help, None)),
        (
            "show client_encoding",
            Command::Parameter("client_encoding"),
        ),
        ("SHOW datestyle", Command::Parameter("DateStyle")),
        (
            "SHOW TRANSACTION ISOLATION LEVEL",
            Command::Parameter("transaction_isolation"),
        ),
    ] {
        assert_eq!(one(text), expected, "{text}");
    }
    for what in What::ALL {
        assert_eq!(What::named(&what.word().to_ascii_uppercase()), Some(what));
    }
}

#[test]
fn pgbouncers_words_mean_every_database_when_none_is_named() {
    let (word, databases, request, answer) = mode("pause");
    assert_eq!(
        (word, databases, answer),
        ("PAUSE", Databases::All, Answer::WhenDrained)
    );
    assert_eq!(request, ModeRequest::Hold(HoldRequest::default()));
    assert_eq!(mode("PAUSE shop;").1, shop());
    assert_eq!(mode("PAUSE FOR 5m").1, Databases::All);
    let named = Databases::One("for".to_owned());
    assert_eq!(mode("PAUSE \"for\"").1, named);
    let (word, databases, request, _) = mode("resume shop");
    assert_eq!((word, databases), ("RESUME", shop()));
    assert_eq!(request, ModeRequest::Open(OpenRequest::default()));
}

#[test]
fn options_are_the_keys_of_the_admin_http() {
    let (_, databases, request, answer) = mode(
        "HOLD shop FOR 5m, REASON = 'It''s the Index' LADDER Firm THEN stay BLOCKED reject BYPASS wait \
         USER Anna APPLICATION 'my app' CLIENT 10.0.0.0/8 SQLSTATE 55P03 WAIT 1s FENCE UNPROVED NOWAIT",
    );
    let time = |seconds| Some(HumanDuration(std::time::Duration::from_secs(seconds)));
    let expected = HoldRequest {
        user: Some("Anna".to_owned()),
        application_name: Some("my app".to_owned()),
        client: Some("10.0.0.0/8".parse().expect("a network")),
        duration: time(300),
        then: Some(Then::Stay),
        blocked: Some(Blocked::Reject),
        sqlstate: Some("55P03".parse().expect("a code")),
        ladder: Some(Preset::Firm),
        wait: time(1),
        bypass: Some(Bypass::Wait),
        fence: Some(true),
        reason: Some("It's the Index".to_owned()),
        unproved: true,
        ..HoldRequest::default()
    };
    assert_eq!((databases, answer), (shop(), Answer::AtOnce));
    assert_eq!(request, ModeRequest::Hold(expected));

    let (word, databases, request, _) = mode("read only * writes reject for 10m");
    let expected = ReadOnlyRequest {
        duration: time(600),
        writes: Some(Blocked::Reject),
        ..ReadOnlyRequest::default()
    };
    assert_eq!((word, databases), ("READ ONLY", Databases::All));
    assert_eq!(request, ModeRequest::ReadOnly(expected));

    let Command::Cap { database, request } = one("CAP shop 50% FOR 1m") else {
        panic!("a cap");
    };
    assert_eq!(database, "shop");
    assert_eq!(request.transactions, "50%".parse().expect("a part"));
    let Command::Drain { request, .. } = one("DRAIN shop LADDER force") else {
        panic!("a drain");
    };
    assert_eq!(request.ladder, Some(Preset::Force));
}

#[test]
fn each_option_that_is_listed_is_a_key_of_the_request() {
    let value = |word: &str| match word {
        "ladder" => "firm",
        "blocked" | "writes" => "queue",
        "then" => "open",
        "bypass" => "wait",
        "client" => "10.0.0.0/8",
        "sqlstate" => "55P03",
        "reason" | "user" | "application" => "x",
        _ => "1s",
    };
    let flags = ["fence", "unproved", "nowait", "force"];
    for (command, options) in [
        ("hold", &options::HOLD[..]),
        ("read only", &options::READ_ONLY),
        ("open", &options::OPEN),
        ("drain", &options::DRAIN),
    ] {
        for option in options {
            let word = option.word;
            let text = match flags.contains(&word) {
                true => format!("{command} shop {word}"),
                false => format!("{command} shop {word} {}", value(word)),
            };
            assert!(read(&text).is_ok(), "{text}: {:?}", read(&text));
        }
    }
}

#[test]
fn what_drivers_say_at_their_start_is_understood() {
    let set = |name: &str, value: &str| Command::Set {
        name: name.to_owned(),
        value: value.to_owned(),
    };
    for (text, expected) in [
        ("SET extra_float_digits = 3", set("extra_float_digits", "3")),
        (
            "SET application_name TO 'x y'",
            set("application_name", "x y"),
        ),
        (
            "SET SESSION datestyle TO ISO, MDY",
            set("datestyle", "ISO MDY"),
        ),
        ("SET NAMES 'UTF8'", set("client_encoding", "UTF8")),
        ("set time zone 'UTC'", set("timezone", "UTC")),
        (
            "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
            set("transaction", "AS TRANSACTION READ ONLY"),
        ),
        ("BEGIN ISOLATION LEVEL SERIALIZABLE", Command::Begin),
        ("DISCARD ALL", Command::Nothing("DISCARD ALL")),
        ("select 1", Command::Number(1)),
    ] {
        assert_eq!(one(text), expected, "{text}");
    }
    assert_eq!(read(" -- ping").expect("empty"), []);
    assert_eq!(read("show lists; show pools;").expect("two").len(), 2);
}

#[test]
fn what_is_wrong_is_told_with_what_is_near() {
    for (text, sqlstate, message, hint) in [
        (
            "PAUZE shop",
            "42601",
            "\"PAUZE\" is no command",
            "Did you mean PAUSE?",
        ),
        (
            "show pool",
            "42601",
            "\"pool\" is nothing",
            "Did you mean SHOW POOLS?",
        ),
        ("show", "42601", "SHOW needs a word", "SHOW HELP"),
        ("frobnicate", "42601", "no command", "SHOW HELP lists"),
        ("HOLD", "42601", "HOLD needs a database", "SHOW DATABASES"),
        (
            "HOLD FOR 5m",
            "42601",
            "HOLD needs a database",
            "SHOW DATABASES",
        ),
        (
            "HOLD shop resaon x",
            "42601",
            "\"resaon\" is no option",
            "Did you mean REASON?",
        ),
        ("HOLD shop FOR", "42601", "FOR needs a value", ""),
        ("HOLD shop FOR 5m FOR 6m", "42601", "FOR is given twice", ""),
        ("HOLD shop FOR 5", "22023", "FOR: ", ""),
        ("HOLD shop LADDER hard", "22023", "LADDER: ", ""),
        ("CAP shop 0", "22023", "", ""),
        ("CAP shop", "42601", "CAP needs", "CAP shop 50%"),
        ("DRAIN shop", "42601", "DRAIN needs", "LADDER firm"),
        ("KILL", "42601", "KILL needs a database", ""),
        (
            "DISABLE shop",
            "0A000",
            "DISABLE is not supported",
            "BLOCKED reject",
        ),
        ("ENABLE shop", "0A000", "ENABLE is not", "OPEN"),
        ("RECONNECT", "0A000", "RECONNECT is not", "SHOW SESSIONS"),
        ("WAIT_CLOSE", "0A000", "WAIT_CLOSE is not", "PAUSE"),
        ("SUSPEND", "0A000", "SUSPEND is not", "--take-over"),
        ("SELECT * FROM x", "0A000", "no tables", "SHOW HELP"),
        ("SHOW POOLS x", "42601", "\"x\" was not expected", ""),
        ("SET x", "42601", "SET needs", ""),
        ("\"show\" pools", "42601", "\"show\" is no command", ""),
    ] {
        let complaint = read(text).expect_err(text);
        assert_eq!(complaint.sqlstate, sqlstate, "{text}");
        assert!(complaint.message.contains(message), "{text}: {complaint:?}");
        let told = complaint.hint.clone().unwrap_or_default();
        assert!(told.contains(hint), "{text}: {complaint:?}");
    }
}

#[test]
fn one_wrong_statement_keeps_all_from_being_carried_out() {
    assert!(read("PAUSE shop; RESUM shop").is_err());
}

#[test]
fn each_command_of_the_help_is_one() {
    for help in HELP.iter().filter(|help| help.command != "option") {
        let verb = help.command.split(' ').next().expect("a word");
        let verb = verb.to_ascii_lowercase();
        let known = VERBS
            .iter()
            .any(|known| known.split(' ').next() == Some(&verb));
        assert!(known, "{}", help.command);
    }
}

#[test]
fn whoever_may_look_may_do_nothing_else() {
    for (text, needs) in [
        ("show pools", "look"),
        ("pause", "hold"),
        ("kill shop", "hold"),
        ("read only shop", "hold"),
        ("cap shop 5", "hold"),
        ("drain shop ladder firm", "hold"),
        ("resume", "open"),
    ] {
        let needed: Vec<_> = one(text).needs().iter().map(|it| it.as_str()).collect();
        assert_eq!(needed, [needs], "{text}");
    }
    assert!(one("set application_name to x").needs().is_empty());
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in ".*") {
        let _ = read(&text);
    }

    /// Texts that are nearly right reach further than noise does.
    #[test]
    fn any_words_are_read_or_refused(words in proptest::collection::vec(
        prop::sample::select(vec![
            "show", "pause", "hold", "read", "only", "open", "cap", "drain", "kill", "set", "shop",
            "*", "for", "5m", "=", ",", "'x'", "\"y\"", ";", "ladder", "firm", "nowait", "50%", "to",
            "(", "select", "1", "session", "time", "zone", "--", "/*", "*/",
        ]),
        0..8,
    )) {
        let _ = read(&words.join(" "));
    }
}
