//! The console answers psql and drivers, whatever traffic is held, and is nobody's but an operator's.

use serde_json::json;
use tokio_postgres::NoTls;

use crate::support::cluster::Postgres;
use crate::support::holds::DB;
use crate::support::message::{self, Message};
use crate::support::poll::{SOON, within};
use crate::support::proxy::Proxy;
use crate::support::tool;
use crate::support::wire::Wire;

/// psql with these commands, each one a query of its own.
async fn psql(proxy: &Proxy, commands: &[&str]) -> tool::Left {
    let mut args = vec!["-X", "-w", "-v", "ON_ERROR_STOP=1", "-d", "pgdrain"];
    for command in commands {
        args.extend(["-c", command]);
    }
    tool::run("psql", proxy.addr(), &args).await
}

fn errors(answer: &[Message]) -> Vec<String> {
    let errors = answer.iter().filter(|message| message.tag == b'E');
    errors.map(Message::sqlstate).collect()
}

fn rows(answer: &[Message]) -> Vec<Vec<Option<String>>> {
    let rows = answer.iter().filter(|message| message.tag == b'D');
    rows.map(Message::columns).collect()
}

#[tokio::test]
async fn psql_shows_and_does_everything_also_in_a_hold() {
    let postgres = Postgres::start().await;
    let proxy = Proxy::start(&postgres).await;
    let _client = proxy.session(DB).await;
    let left = psql(&proxy, &["PAUSE postgres FOR 1m REASON 'an index'"]).await;
    assert_eq!(
        (left.code, left.stdout.as_str()),
        (Some(0), "PAUSE\n"),
        "{}",
        left.stderr
    );
    assert!(
        left.stderr.contains("NOTICE:  postgres: held"),
        "{}",
        left.stderr
    );
    assert!(left.stderr.contains("then open"), "{}", left.stderr);

    let shown = psql(&proxy, &["SHOW HELP"]).await.ok();
    let lines: Vec<&str> = shown
        .lines()
        .filter_map(|line| line.split('|').next()?.trim().strip_prefix("SHOW "))
        .collect();
    assert!(lines.len() > 20, "{shown}");
    let commands = lines.iter().filter_map(|line| match line.split_once(' ') {
        // There is no migration.
        Some((_, "id")) => None,
        Some((word, "db")) => Some(format!("SHOW {word} postgres")),
        Some((word, _)) => Some(format!("show {}", word.to_lowercase())),
        None => Some(format!("show {}", line.to_lowercase())),
    });
    let commands: Vec<String> = commands.collect();
    let commands: Vec<&str> = commands.iter().map(String::as_str).collect();
    let shown = psql(&proxy, &commands).await.ok();
    for part in [
        "an index",
        "operator",
        "hold",
        "total_xact_count",
        "max_client_conn",
    ] {
        assert!(shown.contains(part), "{part} in {shown}");
    }

    for (command, tag, mode) in [
        ("READ ONLY postgres", "READ ONLY\n", "read_only"),
        ("open postgres;", "OPEN\n", "open"),
        ("KILL postgres", "KILL\n", "hold"),
        ("RESUME", "RESUME\n", "open"),
        ("RESUME \"postgres\" -- now", "RESUME\n", "open"),
        ("CAP postgres 7 FOR 1m", "CAP\n", "open"),
        ("CAP postgres off", "CAP\n", "open"),
    ] {
        let left = psql(&proxy, &[command]).await;
        assert_eq!(left.code, Some(0), "{command}: {}", left.stderr);
        assert_eq!(left.stdout, tag, "{command}");
        assert_eq!(proxy.status(DB).await["mode"], mode, "{command}");
    }
    // Who did it, and from where.
    let events = proxy.admin().get("/v1/events").await.expect(200);
    let paused = &events["events"].as_array().expect("events").iter();
    let paused = paused.clone().find(|event| event["reason"] == "an index");
    let paused = paused.expect("the event of the hold");
    assert_eq!(paused["by"], "postgres", "{paused}");
    let from = paused["from"].as_str().expect("an origin");
    assert!(from.starts_with("console 127.0.0.1:"), "{paused}");
}

#[tokio::test]
async fn several_statements_come_in_one_text_and_a_wrong_one_stops_all() {
    let postgres = Postgres::start().await;
    let proxy = Proxy::start(&postgres).await;
    let _client = proxy.session(DB).await;
    let mut console = proxy.session("pgbouncer").await;
    let answer = console.query("SHOW VERSION; ; show state;").await;
    let tags: Vec<u8> = answer.iter().map(|message| message.tag).collect();
    assert_eq!(tags, b"TDCTDDDDCZ");
    let answer = console.query("PAUSE postgres; RESUM postgres").await;
    assert_eq!(errors(&answer), ["42601"]);
    let hint = answer[0].field(b'H').expect("a hint");
    assert!(hint.contains("RESUME"), "{hint}");
    assert_eq!(proxy.status(DB).await["mode"], "open");
    let answer = console.query("-- ping").await;
    assert_eq!(answer[0].tag, b'I', "{answer:?}");
    // The connection goes on, as does a transaction that can be rolled back, and no other.
    console.execute("BEGIN").await;
    assert_eq!(
        console
            .query("SHOW LISTS")
            .await
            .last()
            .expect("ready")
            .body,
        b"T"
    );
    assert_eq!(errors(&console.query("PAUSE postgres").await), ["25001"]);
    assert_eq!(errors(&console.query("SHOW LISTS").await), ["25P02"]);
    console.execute("ROLLBACK").await;
    assert_eq!(
        console.query("SELECT 1").await.last().expect("ready").body,
        b"I"
    );
    assert_eq!(proxy.status(DB).await["mode"], "open");
}

#[tokio::test]
async fn what_pgbouncers_exporter_asks_is_answered_in_numbers() {
    let postgres = Postgres::start().await;
    let proxy = Proxy::start(&postgres).await;
    let _client = proxy.session(DB).await;
    let mut console = proxy.session("pgbouncer").await;
    // As its collector asks; every item has to be a number.
    let lists = rows(&console.query("SHOW LISTS;").await);
    for row in &lists {
        let items = row[1].as_deref().map(str::parse::<f64>);
        assert!(matches!(items, Some(Ok(_))), "{row:?}");
    }
    assert!(
        lists
            .iter()
            .any(|row| row[0].as_deref() == Some("databases"))
    );
    let config = rows(&console.query("SHOW CONFIG;").await);
    for key in ["max_client_conn", "max_user_connections"] {
        let row = config.iter().find(|row| row[0].as_deref() == Some(key));
        let row = row.unwrap_or_else(|| panic!("{key} in {config:?}"));
        assert!(
            row[1]
                .as_deref()
                .is_some_and(|text| text.parse::<f64>().is_ok()),
            "{row:?}"
        );
        assert!(row[3].is_some(), "{row:?}");
    }
    for (query, database) in [
        ("SHOW stats_totals;", 0),
        ("SHOW pools;", 0),
        ("SHOW databases;", 0),
        ("SHOW CLIENTS;", 2),
    ] {
        let rows = rows(&console.query(query).await);
        assert_eq!(rows[0][database].as_deref(), Some(DB), "{query}: {rows:?}");
    }
    assert_eq!(rows(&console.query("SHOW VERSION;").await).len(), 1);
}

#[tokio::test]
async fn a_driver_speaks_by_the_extended_protocol() {
    let postgres = Postgres::start().await;
    let proxy = Proxy::start(&postgres).await;
    let _client = proxy.session(DB).await;
    let (client, connection) = tokio_postgres::connect(&proxy.url("pgdrain"), NoTls)
        .await
        .expect("a console");
    let driver = tokio::task::JoinSet::from_iter([async move { drop(connection.await) }]);
    // This driver asks for every result in the binary format.
    let rows = client.query("SHOW POOLS", &[]).await.expect("pools");
    let pool = rows.iter().find(|row| row.get::<_, &str>("database") == DB);
    assert_eq!(pool.expect("a pool").get::<_, i32>("cl_active"), 1);
    let statement = client.prepare("show sessions").await.expect("prepared");
    assert_eq!(statement.columns()[0].name(), "id");
    for _ in 0..2 {
        let rows = client.query(&statement, &[]).await.expect("sessions");
        assert!(rows[0].get::<_, i64>("id") > 0);
        assert_eq!(rows[0].get::<_, Option<&str>>("window"), None);
    }
    assert_eq!(client.execute("HOLD postgres", &[]).await.expect("held"), 0);
    assert_eq!(proxy.status(DB).await["mode"], "hold");
    client
        .batch_execute("RESUME postgres; SHOW STATE")
        .await
        .expect("resumed");
    for (text, sqlstate) in [
        ("SHOW NOTHING", "42601"),
        ("SELECT now()", "0A000"),
        ("PAUSE; RESUME", "42601"),
    ] {
        let error = client.query(text, &[]).await.expect_err(text);
        assert_eq!(
            error.code().map(|code| code.code()),
            Some(sqlstate),
            "{text}"
        );
    }
    let row = client
        .query_one("SHOW server_version", &[])
        .await
        .expect("still there");
    assert!(row.get::<_, &str>(0).starts_with("14.0 (pgdrain"));
    drop(driver);
}

#[tokio::test]
async fn batches_suspend_fail_and_end_as_in_the_server() {
    let postgres = Postgres::start().await;
    let proxy = Proxy::start(&postgres).await;
    let mut console = proxy.session("pgdrain").await;
    let batch = |parts: &[Vec<u8>]| parts.concat();
    let tags = |answer: &[Message]| {
        answer
            .iter()
            .map(|it| char::from(it.tag))
            .collect::<String>()
    };
    let first = batch(&[
        message::parse("s", "show state"),
        message::describe(b'S', "s"),
        message::bind("p", "s", &[]),
        message::describe(b'P', "p"),
        message::execute("p", 3),
        message::execute("p", 3),
        message::close(b'S', "s"),
        message::sync(),
    ]);
    let answer = console.units(&first, 1).await;
    assert_eq!(tags(&answer), "1tT2TDDDsDC3Z");
    for (parts, sqlstate) in [
        (vec![message::bind("", "nobody", &[])], "26000"),
        (vec![message::execute("nobody", 0)], "34000"),
        (vec![message::parse("", "show x y z")], "42601"),
        (
            vec![
                message::parse("", "show state"),
                message::bind("", "", &[Some("x")]),
            ],
            "08P01",
        ),
    ] {
        // What follows the error is passed over up to the end of the batch.
        let rest = [message::parse("", "show state"), message::sync()].concat();
        let answer = console.units(&[parts.concat(), rest].concat(), 1).await;
        assert_eq!(errors(&answer), [sqlstate], "{answer:?}");
        assert_eq!(tags(&answer).trim_start_matches('1'), "EZ", "{answer:?}");
    }
    let empty = batch(&[
        message::parse("", ""),
        message::bind("", "", &[]),
        message::describe(b'P', ""),
        message::execute("", 0),
        message::sync(),
    ]);
    assert_eq!(tags(&console.units(&empty, 1).await), "12nIZ");
}

#[tokio::test]
async fn hostile_packets_end_only_their_own_connection() {
    let postgres = Postgres::start().await;
    let proxy = Proxy::start(&postgres).await;
    let mut witness = proxy.session("pgdrain").await;
    for (bytes, sqlstate) in [
        (b"Q\0\0\0\x03".to_vec(), "08P01"),
        (b"Q\x7f\xff\xff\xff".to_vec(), "08P01"),
        (b"Q\0\x40\0\0".to_vec(), "54000"),
        (b"Q\0\0\0\x06ab".to_vec(), "08P01"),
        (b"P\0\0\0\x04".to_vec(), "08P01"),
        (b"!\0\0\0\x04".to_vec(), "08P01"),
        (b"p\0\0\0\x05\0".to_vec(), "08P01"),
    ] {
        let mut console = proxy.session("pgdrain").await;
        console.send(&bytes).await;
        let rest = console.read_to_end().await;
        assert_eq!(errors(&rest), [sqlstate], "{bytes:?}: {rest:?}");
    }
    let mut console = proxy.session("pgdrain").await;
    console.send(&message::function_call(1, &[])).await;
    assert_eq!(errors(&console.read_until_ready().await), ["0A000"]);
    console
        .send(&[message::tagged(b'Q', b"show \xff\0")].concat())
        .await;
    assert_eq!(errors(&console.read_until_ready().await), ["22021"]);
    let many: String = (0..1000).map(|n| format!("select {n};")).collect();
    assert_eq!(rows(&console.query(&many).await).len(), 1000);
    witness.execute("SHOW STATE").await;
}

#[tokio::test]
async fn it_comes_in_when_all_is_full_and_a_forgotten_one_makes_room() {
    let postgres = Postgres::start().await;
    let settings = [
        ("LIMITS_CONNECTIONS", "1"),
        ("LIMITS_CONNECTIONS_PER_DATABASE", "1"),
        ("LIMITS_CONNECTIONS_PER_USER", "1"),
        ("LIMITS_CONNECTIONS_PER_ADDRESS", "2"),
        ("CONSOLE_CONNECTIONS", "2"),
        ("HOLD_CLIENTS_MAX_TOTAL", "1"),
        ("HOLD_CLIENTS_MAX", "1"),
    ];
    let proxy = Proxy::start_set(&postgres, &settings).await;
    let _full = proxy.session(DB).await;
    let mut forgotten = proxy.session("pgdrain").await;
    let mut used = proxy.session("pgdrain").await;
    used.execute("SHOW STATE").await;
    let mut new = proxy.session("pgdrain").await;
    let gone = forgotten.read_to_end().await;
    assert_eq!(errors(&gone), ["57P01"], "{gone:?}");
    used.execute("SHOW STATE").await;
    new.execute("PAUSE").await;
    new.execute("RESUME").await;
}

#[tokio::test]
async fn its_name_is_a_setting_and_a_database_of_that_name_can_be_had() {
    let mut postgres = Postgres::start().await;
    postgres.execute("CREATE DATABASE pgdrain").await;
    let is_console = async |proxy: &Proxy, name: &str| {
        let mut session = proxy.session(name).await;
        errors(&session.query("SELECT pg_backend_pid()").await) == ["0A000"]
    };
    let proxy = Proxy::start(&postgres).await;
    assert!(is_console(&proxy, "pgdrain").await && is_console(&proxy, "pgbouncer").await);
    let proxy = Proxy::start_set(&postgres, &[("CONSOLE_NAME", "ops")]).await;
    assert!(is_console(&proxy, "ops").await && !is_console(&proxy, "pgdrain").await);
    let proxy = Proxy::start_set(&postgres, &[("CONSOLE_ENABLED", "false")]).await;
    assert!(!is_console(&proxy, "pgdrain").await);
    let parameters = [("user", "postgres"), ("database", "pgbouncer")];
    let refused = Wire::login_with(proxy.addr(), &parameters, None).await;
    assert_eq!(
        refused.expect_err("the server has none").sqlstate(),
        "3D000"
    );
}

#[tokio::test]
async fn who_is_listed_proves_it_and_may_do_what_the_role_says() {
    let postgres = Postgres::start().await;
    let config = "listen = ['127.0.0.1:0']\n\
                  [console.users.grafana]\nrole = 'viewer'\npassword = 'look'\n\
                  [console.users.anna]\nrole = 'operator'\npassword = 'hush'\n";
    let proxy = Proxy::start_configured(&postgres, config).await;
    let _client = proxy.session(DB).await;
    let log_in = async |user: &str, password: Option<&str>| {
        let parameters = [("user", user), ("database", "pgdrain")];
        let wire = Wire::login_with(proxy.addr(), &parameters, password).await;
        wire.map_err(|error| error.sqlstate())
    };
    let mut viewer = log_in("grafana", Some("look")).await.expect("listed");
    viewer.execute("SHOW STATS").await;
    let refused = viewer.query("PAUSE").await;
    assert_eq!(errors(&refused), ["42501"]);
    let hint = refused[0].field(b'H').expect("a hint");
    assert!(hint.contains("operator"), "{hint}");
    let mut operator = log_in("anna", Some("hush")).await.expect("listed");
    operator.execute("HOLD postgres REASON 'mine'").await;
    let events = proxy.admin().get("/v1/events").await.expect(200);
    let events = events["events"].as_array().expect("events").clone();
    let held = events.iter().find(|event| event["reason"] == "mine");
    assert_eq!(held.expect("an event")["by"], "anna");
    operator.execute("OPEN postgres").await;
    for (user, password) in [("anna", "look"), ("postgres", "hush"), ("nobody", "")] {
        let refused = log_in(user, Some(password)).await;
        assert_eq!(refused.err().as_deref(), Some("28P01"), "{user}");
    }
    let audit = std::fs::read_to_string(proxy.state_dir().join("audit.jsonl")).expect("written");
    // One address once a minute.
    assert_eq!(audit.matches(r#""kind":"access""#).count(), 1, "{audit}");
    assert!(audit.contains("a login of the console as"), "{audit}");
}

#[tokio::test]
async fn without_a_password_it_lets_do_what_the_admin_http_does() {
    let postgres = Postgres::start().await;
    for (local, look, hold) in [
        ("look", true, false),
        ("open", false, false),
        ("hold", false, true),
    ] {
        let proxy = Proxy::start_set(&postgres, &[("ADMIN_LOCAL", local)]).await;
        let mut console = proxy.session("pgdrain").await;
        for (command, allowed) in [("SHOW STATS", look), ("HOLD postgres", hold)] {
            let answer = console.query(command).await;
            let expected: &[&str] = if allowed { &[] } else { &["42501"] };
            assert_eq!(errors(&answer), expected, "{command} with {local}");
            if !allowed {
                let hint = answer[0].field(b'H').expect("a hint");
                assert!(hint.contains("admin.local"), "{hint}");
            }
        }
    }
}

#[tokio::test]
async fn from_elsewhere_it_is_for_those_who_are_listed() {
    let postgres = Postgres::start().await;
    let listen = "listen = [{ address = '127.0.0.1:0', proxy_protocol = ['127.0.0.2/32'] }]\n";
    let user = "[console.users.anna]\nrole = 'operator'\npassword = 'hush'\n";
    for (config, expected) in [("", Err("28000")), (user, Ok(()))] {
        let proxy = Proxy::start_configured(&postgres, &format!("{listen}{config}")).await;
        // A proxy in front of us speaks for a client that is not on this machine.
        let mut wire = Wire::connect_from([127, 0, 0, 2], proxy.addr()).await;
        wire.send(b"PROXY TCP4 127.0.0.1 127.0.0.1 50122 6432\r\n")
            .await;
        let parameters = [("user", "anna"), ("database", "pgdrain")];
        let outcome = wire.log_in(&parameters, Some("hush")).await;
        let outcome = outcome.map_err(|error| error.sqlstate());
        assert_eq!(outcome, expected.map_err(str::to_owned), "{config}");
    }
}

#[tokio::test]
async fn a_console_is_told_when_the_proxy_stops() {
    let postgres = Postgres::start().await;
    let mut proxy = Proxy::start(&postgres).await;
    let mut client = proxy.session(DB).await;
    client.execute("BEGIN").await;
    let mut idle = proxy.session("pgdrain").await;
    let mut waiting = proxy.session("pgdrain").await;
    waiting.send(&message::query("PAUSE postgres")).await;
    proxy.until_mode(DB, "hold").await;
    proxy.signal(pgdrain::cli::demo::cluster::process::Signal::Terminate);
    client.execute("COMMIT").await;
    let told = within("the idle one's end", SOON, idle.read_to_end()).await;
    assert_eq!(errors(&told), ["57P01"], "{told:?}");
    let told = within("the waiting one's end", SOON, waiting.read_to_end()).await;
    // The hold came to its end, or could not be waited for: it says which.
    let ended = errors(&told);
    assert_eq!(ended, ["57P01"], "{told:?}");
    proxy.ended().await;
}

#[tokio::test]
async fn other_holds_are_seen_and_told_apart() {
    let postgres = Postgres::start().await;
    let proxy = Proxy::start(&postgres).await;
    let _client = proxy.session(DB).await;
    proxy.hold("*", json!({"by": "ben", "reason": "all"})).await;
    let mut console = proxy.session("pgdrain").await;
    let holds = rows(&console.query("SHOW HOLDS").await);
    assert_eq!(holds.len(), 1, "{holds:?}");
    assert_eq!(holds[0][3].as_deref(), Some("everywhere"));
    assert_eq!(holds[0][4].as_deref(), Some("ben"));
    let answer = console.query("RESUME postgres").await;
    assert_eq!(errors(&answer), ["55000"], "{answer:?}");
    console.execute("RESUME").await;
    assert_eq!(proxy.status(DB).await["mode"], "open");
    let answer = console.query("PAUSE nowhere").await;
    assert_eq!(errors(&answer), ["42704"], "{answer:?}");
    let answer = console.query("PAUSE template1").await;
    let notice = answer.iter().find(|message| message.tag == b'N');
    let text = notice.and_then(|it| it.field(b'M')).expect("a notice");
    assert!(text.contains("template1"), "{text}");
}
