//! What becomes of a `pgbouncer.ini`, read again by our own reader.

use super::*;
use crate::config::{Source, Surroundings};

/// A file as an installation has it.
const USUAL: &str = r#"
;; the shop
[databases]
shop = host=10.0.0.5 port=5433 dbname=shop pool_size=20
"report""s" = host=10.0.0.5 port=5433 user=reader password='it''s secret'
logs = host=/run/postgresql connect_query='select 1'

[pgbouncer]
listen_addr = 10.0.0.1, ::1
listen_port = 6433
unix_socket_dir =
auth_type = scram-sha-256
auth_file = AUTH_FILE
auth_user = asker
auth_query = SELECT usename, passwd FROM public.lookup($1);
pool_mode = transaction
max_client_conn = 500
max_user_connections = 0
query_wait_timeout = 90
client_login_timeout = 7.5
server_connect_timeout = 0
tcp_keepidle = 30
tcp_user_timeout = 12500
server_tls_sslmode = require
application_name_add_host = 1
default_pool_size = 20
idle_transaction_timeout = 60
colour = blue
[peers]
1 = host=x
"#;

/// What our own reading makes of a translation.
fn load(text: &str) -> crate::config::Config {
    let dir = tempfile::tempdir().expect("a directory");
    let (users, file) = (dir.path().join("users"), dir.path().join("pgdrain.toml"));
    std::fs::write(&users, "").expect("a users file");
    let text = text.replace("AUTH_FILE", users.to_str().expect("a path in UTF-8"));
    std::fs::write(&file, &text).expect("a file");
    let home = ("HOME".to_owned(), "/home/nobody".to_owned());
    let around = Surroundings {
        variables: [home].into(),
        cores: 1,
    };
    let loaded = Source::new(Some(file)).load(&around);
    loaded
        .unwrap_or_else(|error| panic!("{error:#}\n{text}"))
        .config
}

#[test]
fn a_usual_file_becomes_one_that_can_be_read_and_says_the_same() {
    let text = translate(USUAL).expect("a translation");
    let config = load(&text);
    let listen: Vec<_> = config
        .listen
        .iter()
        .map(|it| it.address.to_string())
        .collect();
    assert_eq!(listen, ["10.0.0.1:6433", "[::1]:6433"]);
    assert_eq!(config.limits.connections, 500);
    assert_eq!(config.limits.login_time.as_millis(), 7_500);
    assert_eq!(config.hold.client_deadline.as_secs(), 90);
    assert_eq!(config.databases.len(), 3);
    assert!(config.databases["logs"].upstream.is_some());
    assert!(config.databases["report\"s"].upstream.is_none());
    for line in [
        "url = \"postgres://10.0.0.5:5433/?sslmode=require\" # [databases] shop",
        "upstream = \"postgres:///?host=/run/postgresql&sslmode=require\"",
        "user_timeout = \"12s 500ms\" # tcp_user_timeout",
        "application_name_add_client = true # application_name_add_host",
        "method = \"scram-sha-256\"",
        "query = \"select q.rolpassword from (SELECT usename, passwd FROM public.lookup($1)) as q \
         (rolname, rolpassword)\" # auth_query",
        "# It had pool_mode = transaction: count the clients",
        "# Not needed here: default_pool_size, max_user_connections.",
        "# line 5, user of report\"s: clients log in to the server as themselves",
        "# line 6, connect_query of logs: ALTER DATABASE or ALTER ROLE ... SET",
        "# line 21, server_connect_timeout: it is no time that has an end",
        "# line 27, idle_transaction_timeout: idle_in_transaction_session_timeout of the server",
        "# line 28, colour: this translation does not know it",
        "# line 29, [peers]: the section has no counterpart",
    ] {
        assert!(text.contains(line), "no {line:?} in\n{text}");
    }
    assert!(!text.contains("secret"), "{text}");
}

#[test]
fn a_server_for_all_databases_is_the_upstream_and_nothing_is_listed() {
    let text = translate("[databases]\n* = host=db.internal\n[pgbouncer]\nlisten_addr = *\n");
    let text = text.expect("a translation");
    let config = load(&text);
    assert!(config.databases.is_empty());
    assert!(
        text.contains("url = \"postgres://db.internal\" # [databases] *"),
        "{text}"
    );
    assert!(
        text.contains("listen = [\"0.0.0.0:6432\", \"unix:/tmp\"]"),
        "{text}"
    );
    // Nobody has a list of users: clients prove themselves to the server.
    assert!(!text.contains("auth.rules"), "{text}");
}

#[test]
fn a_database_elsewhere_beside_all_others_is_told() {
    let text =
        translate("[databases]\n* = host=a\nlogs = host=b,c port=1\n").expect("a translation");
    load(&text);
    assert!(text.contains("add those that * stood for"), "{text}");
    assert!(text.contains("upstream = \"postgres://b:1,c:1\""), "{text}");
}

#[test]
fn encryption_of_clients_is_kept() {
    let text = "[databases]\na = host=b\n[pgbouncer]\nclient_tls_sslmode = prefer\n\
                client_tls_cert_file = /c.crt\nclient_tls_key_file = /c.key\nlogfile = /x";
    let text = translate(text).expect("a translation");
    for line in [
        "[tls]\nmode = \"allow\" # client_tls_sslmode\ncertificate = \"/c.crt\"",
        "key = \"/c.key\" # client_tls_key_file",
        "# line 7, logfile: the log goes to standard error",
    ] {
        assert!(text.contains(line), "no {line:?} in\n{text}");
    }
}

#[test]
fn what_is_no_such_file_is_refused_with_its_line() {
    for (text, told) in [
        ("a = b", "line 1: a key stands before the first section"),
        ("[databases\n", "line 1: the section lacks its ]"),
        (
            "\n[databases]\nshop",
            "line 3: it is neither a section nor KEY = VALUE",
        ),
        ("[databases]\n\"shop = x", "line 2: a quoted key has no end"),
        ("[pgbouncer]\n = 1", "line 2: a key is missing before ="),
        (
            "[pgbouncer]\n%include other.ini",
            "line 2: %include is not followed: put the contents of that file in its place",
        ),
    ] {
        assert_eq!(translate(text).expect_err(text).to_string(), told);
    }
}

/// A value with both kinds of quotes is written over three quotes; a key cannot be.
#[test]
fn a_database_may_have_any_name() {
    let name = r"it's a \ name";
    let text =
        translate(&format!("[databases]\na = host=h1\n\"{name}\" = host=h2\n")).expect("a text");
    let table: ::toml::Table = text.parse().expect(&text);
    assert!(
        table["databases"][name]["upstream"].is_str(),
        "unexpected: {text}"
    );
}

/// TOML allows no control characters in comments.
#[test]
fn comments_hold_no_control_characters() {
    let text =
        translate("[databases]\na = host=h\n[pgbouncer]\nno\u{1b}key = 1\n").expect("a text");
    assert!(text.contains("no?key"), "{text}");
    text.parse::<::toml::Table>().expect(&text);
}

proptest::proptest! {
    #[test]
    fn any_text_is_translated_or_refused(lines in proptest::collection::vec(
        proptest::prop_oneof![
            "[^\n]{0,30}",
            "[^\n]{0,12} ?= ?(host|port|user)=[^\n]{0,20}",
            "(a|\\*|\"b c\") ?= ?(host|port|user)=[ -~]{0,20}",
            proptest::strategy::Just("[databases]".to_owned()),
            proptest::strategy::Just("[pgbouncer]".to_owned()),
            "(listen_addr|listen_port|auth_type|tcp_keepidle|max_client_conn) = [ -~]{0,12}",
        ], 0..12)) {
        if let Ok(text) = translate(&lines.join("\n")) {
            text.parse::<::toml::Table>().unwrap_or_else(|error| panic!("{error}\n{text}"));
        }
    }
}
