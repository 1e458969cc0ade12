//! Whole configurations: every mistake named with its key and place, layers, reload, the samples.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use proptest::prelude::*;

use super::*;

/// Surroundings with a home that holds nothing.
fn around(variables: &[(&str, &str)]) -> Surroundings {
    let mut all = BTreeMap::from([("STATE_DIRECTORY".into(), "/var/lib/pgdrain".into())]);
    all.extend(
        variables
            .iter()
            .map(|(n, v)| (n.to_string(), v.to_string())),
    );
    Surroundings {
        variables: all,
        cores: 8,
    }
}

/// A private file with this text.
fn file(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), text).expect("writable");
    file
}

fn load_text(text: &str, variables: &[(&str, &str)]) -> Result<Loaded, ConfigError> {
    let file = file(text);
    Source::new(Some(file.path().to_owned())).load(&around(variables))
}

pub(super) fn config(text: &str) -> Config {
    load_text(text, &[]).expect(text).config
}

/// The problems of a text, one a line.
pub(super) fn problems(text: &str, variables: &[(&str, &str)]) -> Vec<String> {
    match load_text(text, variables) {
        Err(ConfigError::Invalid { problems, .. }) => {
            problems.iter().map(Problem::to_string).collect()
        }
        other => panic!("expected problems, not {other:?}"),
    }
}

pub(super) const GOOD: &str = "[upstream]\nurl = 'postgres://app@db'\n";

#[test]
fn tries_are_bounded() {
    assert_eq!(config(GOOD).migrate.retry, Retry::default());
    let text = GOOD.to_owned() + "[migrate.retry]\ntries = 100\ntime = '5min'\n";
    let retry = config(&text).migrate.retry;
    assert_eq!((retry.tries, retry.time), (100, Duration::from_secs(300)));
    let found = problems(
        &format!("{GOOD}[migrate.retry]\ntries = 0\ntime = '0s'\n"),
        &[],
    );
    assert!(
        found[0].contains("migrate.retry.tries: 0 is not between 1 and 100"),
        "{found:?}"
    );
    assert!(
        found[1].contains("migrate.retry.time: it must be longer than zero"),
        "{found:?}"
    );
}

#[test]
fn backups_are_off_and_a_command_verifies_by_itself() {
    assert_eq!(config(GOOD).migrate.backup, Backup::default());
    assert_eq!(Backup::default().dir, None);
    let text = GOOD.to_owned() + "[migrate.backup]\ndir = '/b'\ncommand = 'true'\n";
    assert_eq!(config(&text).migrate.backup.verify, Verify::None);
    // A section within a section has variables too.
    let variables = [
        ("PGDRAIN_MIGRATE_BACKUP_DIR", "/c"),
        ("PGDRAIN_MIGRATE_BACKUP_JOBS", "3"),
        ("PGDRAIN_MIGRATE_BACKUP_KEEP", "1h"),
    ];
    let loaded = load_text(&text, &variables).expect("a configuration");
    let backup = loaded.config.migrate.backup;
    assert_eq!(backup.dir, Some(PathBuf::from("/c")));
    assert_eq!((backup.jobs, backup.keep), (3, Duration::from_secs(3600)));

    for (text, problem) in [
        (
            "dir = 'b'",
            "line 4: migrate.backup.dir: it must be an absolute path",
        ),
        (
            "command = 'true'",
            "line 4: migrate.backup.command: it is set, but",
        ),
        (
            "jobs = 0",
            "line 4: migrate.backup.jobs: 0 is not between 1 and 64",
        ),
        (
            "keep = '0s'",
            "line 4: migrate.backup.keep: it must be longer than zero",
        ),
        ("verify = 'much'", "line 4: migrate.backup.verify: "),
    ] {
        let found = problems(&format!("{GOOD}[migrate.backup]\n{text}\n"), &[]);
        assert!(
            found.len() == 1 && found[0].starts_with(problem),
            "{text}: {found:?}"
        );
    }
    let both = "[migrate.backup]\ndir = '/b'\ncommand = 'true'\nverify = 'list'\n";
    let found = problems(&format!("{GOOD}{both}"), &[]);
    assert!(found[0].contains("only \"none\" is possible"), "{found:?}");
}

#[test]
fn each_mistake_is_named_with_its_key_and_line() {
    // A text, and how each of its problems begins.
    let cases: &[(&str, &[&str])] = &[
        ("", &["upstream.url: it is missing"]),
        (
            "listen = 5",
            &[
                "line 1: listen: invalid type: integer `5`",
                "upstream.url: it is missing",
            ],
        ),
        ("workers = [\n\n[upstream", &["line 3: "]),
        (
            "lisen = []\nworkers = 'many'\n[hold]\nfor = 'soon'\nblocked = 'drop'\nladder = 'rude'\n\
             [holt]\nfor = '1s'\n[upstream]\nurl = 'postgres://db'\nuser = 'x'\n",
            &[
                "line 7: holt: unknown key, found `holt`, expected one of `listen`, `state_dir`",
                "line 1: lisen: unknown key, found `lisen`, expected one of",
                "line 2: workers: it is a string, expected usize",
                "line 11: upstream.user: unknown key, found `user`, expected one of `url`",
                "line 4: hold.for: \"soon\" is not a duration; write a number with a unit",
                "line 5: hold.blocked: unknown variant `drop`, expected `queue` or `reject`",
                "line 6: hold.ladder: unknown variant `rude`, expected one of `gentle`, `firm`",
            ],
        ),
        (
            "workers = 0\nlisten = ['127.0.0.1:6432', '127.0.0.1:6432', '127.0.0.1:6433']\n\
             [upstream]\nurl = 'mysql://db'\nconnect_timeout = '0s'\n[admin]\nlisten = '0.0.0.0:6433'\n\
             [control]\nuser = ''\npassword = 'hunter2'\npassword_file = '/x'\n\
             [hold]\nclients_max = 0\nbytes_per_client = '10'\n[limits]\nlogin_time = '0s'\n\
             [databases.'*']\n[databases.shop]\nupstream = 'nowhere'\n",
            &[
                "line 7: admin.listen: 0.0.0.0:6433 can be reached from other machines",
                "line 2: listen: 127.0.0.1:6432 is named twice",
                "line 1: workers: 0 is not between 1 and 256",
                "line 5: upstream.connect_timeout: it must be longer than zero",
                "line 4: upstream.url: it must start with postgres://",
                "line 17: databases.*: it is no name of a database",
                "line 19: databases.shop.upstream: it must start with postgres://",
                "line 9: control.user: it is empty",
                "line 11: control.password_file: both it and control.password are set",
                "line 13: hold.clients_max: 0 is not between 1 and 1000000",
                "line 14: hold.bytes_per_client: 10 is not between 1024 and",
                "line 16: limits.login_time: it must be longer than zero",
            ],
        ),
        (
            "[upstream]\nurl = 'postgres://a@db'\n[hold]\nreplication = 'kill'\n[limits]\nlogins = 0\n\
             connections_per_user = 'all'\nconnections_per_database = 0\nclient_stalled = '0s'\n\
             connections_per_address = -1\ncancels = 0\n[tcp]\nkeepalive_idle = '1500ms'\n\
             keepalive_interval = '10h'\nkeepalive_count = 128\nuser_timeout = '25days'\n",
            &[
                "line 4: hold.replication: unknown variant `kill`, expected `exempt` or `hold`",
                "line 6: limits.logins: 0 is not between 1 and 1000000",
                "line 7: limits.connections_per_user: \"all\" is not a number; write one, or \"none\"",
                "line 8: limits.connections_per_database: 0 is not between 1",
                "line 9: limits.client_stalled: it must be longer than zero",
                "line 10: limits.connections_per_address: \"-1\" is not a number",
                "line 11: limits.cancels: 0 is not between 1",
                "line 13: tcp.keepalive_idle: it is not in whole seconds between",
                "line 14: tcp.keepalive_interval: it is not in whole seconds",
                "line 15: tcp.keepalive_count: 128 is not between 1 and 127",
                "line 16: tcp.user_timeout: it is longer than 24days",
            ],
        ),
        (
            "listen = [{ address = 'unix:/run', proxy_protocol = ['10.0.0.0/8'] }]\n[upstream]\n\
             url = 'postgres://a@db'\n",
            &["line 1: listen: unix:/run: a Unix socket has no addresses to list"],
        ),
        (
            "listen = [{ address = '127.0.0.1:1', proxy_protocol = ['10.0.0.0/33'] }]\n[upstream]\n\
             url = 'postgres://a@db'\n",
            &["line 1: listen: invalid IP address syntax"],
        ),
        (
            "listen = ['127.0.0.1:6433', 'unix:run']\n[upstream]\nurl = 5\n[control]\npassword = 12345\n",
            &[
                "line 1: listen: the socket directory run must be an absolute path",
                "line 5: control.password: write the value as a string",
                "line 3: upstream.url: write the value as a string",
            ],
        ),
        (
            "upstream = 'postgres://a:hunter2@db'\n[databases]\nshop = 'postgres://a:hunter2@db'\n",
            &[
                "line 1: upstream: it is a string, expected a section",
                "line 3: databases.shop: it is a string, expected a section",
                "upstream.url: it is missing",
            ],
        ),
        (
            "listen = ['127.0.0.1:6433']\n[upstream]\nurl = 'postgres://db'\n\
             [control]\npassword = 'hunter2'\n[migrate]\npassword_file = '/nonexistent'\n",
            &[
                "line 1: listen: 127.0.0.1:6433 is where the admin HTTP listens",
                "line 7: migrate.password_file: /nonexistent cannot be read: No such file",
                "line 5: control.password: it is set, but no user is",
            ],
        ),
    ];
    for (text, expected) in cases {
        let found = problems(text, &[]);
        for start in *expected {
            let hit = found.iter().any(|problem| problem.starts_with(start));
            assert!(hit, "{start:?} in {found:#?} of:\n{text}");
        }
        assert_eq!(found.len(), expected.len(), "{found:#?} of:\n{text}");
        let all = found.concat();
        assert!(!all.contains("hunter2") && !all.contains("12345"), "{all}");
    }
}

#[test]
fn a_mistake_in_a_variable_or_flag_is_named_with_it() {
    let variables = [("PGDRAIN_WORKERS", "two"), ("PGDRAIN_HOLD_FOR", "x")];
    let found = problems(GOOD, &variables);
    assert!(
        found[0].starts_with("PGDRAIN_HOLD_FOR: hold.for: \"x\" is not"),
        "{found:?}"
    );
    assert!(
        found[1].starts_with("PGDRAIN_WORKERS: workers: invalid type"),
        "{found:?}"
    );

    let source = Source::new(None).flag("--upstream", "upstream.url", "db:5432");
    let error = source.load(&around(&[])).expect_err("no URL").to_string();
    assert!(
        error.contains("\n  --upstream: upstream.url: it must start with"),
        "{error}"
    );
}

#[test]
fn flags_go_over_the_environment_and_that_over_the_file() {
    let text = "workers = 3\nlisten = ['127.0.0.1:1']\nclient_gone = 'never'\n[upstream]\nurl = 'postgres://file'\n";
    let file = file(text);
    let variables = [
        ("PGDRAIN_LISTEN", "127.0.0.1:2, unix:/run/x"),
        ("PGDRAIN_UPSTREAM_URL", "postgres://variable"),
        ("PGDRAIN_ALLOW_UNAUTHENTICATED", "true"),
        ("PGDRAIN_HOLD_BLOCKED", "reject"),
        ("PGDRAIN_HOLD_CLIENTS_MAX", "7"),
        ("PGDRAIN_HOLD_THEN", ""),
    ];
    let loaded = Source::new(Some(file.path().to_owned()))
        .flag("--listen", "listen", "127.0.0.1:3,[::1]:4")
        .load(&around(&variables[..5]))
        .expect("all well formed");
    let config = loaded.config;
    let listen: Vec<_> = config
        .listen
        .iter()
        .map(|listen| listen.address.to_string())
        .collect();
    assert_eq!(listen, ["127.0.0.1:3", "[::1]:4"]);
    assert_eq!(config.upstream.hosts[0].to_string(), "variable:5432");
    assert_eq!(config.workers, 3);
    assert_eq!(config.client_gone, None);
    assert!(config.allow_unauthenticated);
    assert_eq!(config.hold.blocked, Blocked::Reject);
    assert_eq!(config.hold.clients_max, 7);
    // A variable that is set to nothing is one that somebody cleared.
    let cleared = Source::new(Some(file.path().to_owned())).load(&around(&variables[5..]));
    assert_eq!(cleared.expect("as if unset").config.hold.then, Then::Open);
}

#[test]
fn what_should_be_told_is_a_warning_without_the_secret() {
    let source = Source::new(None).flag("--upstream", "upstream.url", "postgres://a:hunter2@db");
    let variables = [
        ("PGDRAIN_HOLDFOR", "1m"),
        ("PGDRAIN_ADMIN", "http://127.0.0.1:1"),
        ("PGDRAIN_TOKEN", "pgdrain_hunter2"),
        ("PGDRAIN_SERVICE_HOST", "10.0.0.1"),
        ("PGDRAIN_PORT", "tcp://10.0.0.1:6432"),
    ];
    let loaded = source.load(&around(&variables)).expect("valid");
    assert_eq!(loaded.warnings.len(), 2, "{:?}", loaded.warnings);
    assert!(loaded.warnings[0].contains("PGDRAIN_HOLDFOR sets no key"));
    assert!(loaded.warnings[1].contains("password in --upstream can be read"));
    assert!(!format!("{loaded:?} {source:?}").contains("hunter2"));

    let loaded = load_text("[upstream]\nurl = 'postgres://db'", &[]).expect("valid");
    assert!(
        loaded.warnings[0].contains("cannot be proved"),
        "{:?}",
        loaded.warnings
    );
}

#[test]
fn a_file_with_a_password_that_all_can_read_is_warned_of() {
    use std::os::unix::fs::PermissionsExt;
    let file = file("[upstream]\nurl = 'postgres://a:hunter2@db'");
    let source = Source::new(Some(file.path().to_owned()));
    assert!(
        source
            .load(&around(&[]))
            .expect("valid")
            .warnings
            .is_empty()
    );
    let readable = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(file.path(), readable).expect("ours to change");
    let warnings = source.load(&around(&[])).expect("valid").warnings;
    assert!(
        warnings[0].contains("every user of this machine can read it"),
        "{warnings:?}"
    );
}

#[test]
fn roles_are_the_upstreams_user_unless_said_otherwise() {
    let db: Host = parse_url("postgres://db").expect("a URL").hosts.remove(0);
    let shown = |role: &Role| {
        let password = role.password(&db, "shop").map_or("-", Secret::expose);
        format!("{} {} {}", role.user, role.database, password)
    };
    let roles = |text: &str, variables: &[(&str, &str)]| {
        let config = load_text(text, variables).expect(text).config;
        let target = config.target("shop").expect("every database passes");
        let shown = |role: Option<Role>| role.as_ref().map_or("none".to_owned(), shown);
        (shown(target.control), shown(target.migrate))
    };
    let both = |a: &str, b: &str| (a.to_owned(), b.to_owned());

    let url = |url: &str| format!("[upstream]\nurl = 'postgres://{url}'\n");
    assert_eq!(roles(&url("db"), &[]), both("none", "none"));
    assert_eq!(
        roles(&url("a:pw@db/app"), &[]),
        both("a app pw", "a app pw")
    );
    let named = url("a:pw@db") + "[control]\nuser = 'c'\n[migrate]\nuser = 'm'\npassword = 'mp'\n";
    assert_eq!(roles(&named, &[]), both("c postgres -", "m postgres mp"));
    assert_eq!(
        roles(&named, &[("PGPASSWORD", "env")]),
        both("c postgres env", "m postgres mp")
    );
    let passfile = file("db:5432:shop:c:from file\n");
    let path = passfile.path().to_str().expect("UTF-8");
    assert_eq!(
        roles(&named, &[("PGPASSFILE", path)]),
        both("c postgres from file", "m postgres mp")
    );
}

#[test]
fn listed_databases_are_the_only_ones_that_pass() {
    let config = config(&format!(
        "{GOOD}[databases.shop]\n[databases.other]\nupstream = 'postgres://x@elsewhere'\n"
    ));
    assert_eq!(
        config.target("shop").map(|t| t.upstream),
        Some(config.upstream.clone())
    );
    let other = config.target("other").expect("listed");
    assert_eq!(other.upstream.hosts[0].to_string(), "elsewhere:5432");
    assert_eq!(other.control.map(|role| role.user).as_deref(), Some("x"));
    assert_eq!(config.target("third"), None);
}

#[test]
fn a_reload_applies_what_it_can_and_names_the_rest() {
    let shared = Shared::new(config(&format!("{GOOD}[databases.a]\n")));
    let next = "listen = ['127.0.0.1:1']\nclient_gone = '2s'\n[upstream]\nurl = 'postgres://new@other'\n\
                [hold]\nfor = '1m'\n[log]\nformat = 'json'\n[databases.a]\nupstream = 'postgres://b'\n[databases.b]\n";
    let reloaded = shared.reload(config(next));
    let now = [
        "client_gone",
        "upstream.url (user)",
        "hold.for",
        "databases",
    ];
    let restart = [
        "listen",
        "upstream.url (hosts)",
        "log.format",
        "databases.NAME.upstream",
    ];
    assert_eq!(reloaded.now, now);
    assert_eq!(reloaded.restart, restart);

    let used = shared.load();
    assert_eq!(used.listen[0].address.to_string(), "127.0.0.1:6432");
    assert_eq!(used.upstream.hosts[0].to_string(), "db:5432");
    assert_eq!(used.hold.duration, Duration::from_secs(60));
    assert_eq!(used.databases["a"].upstream, None);
    assert!(used.databases.contains_key("b"));
    // What waits for a restart is named again; what was applied is not.
    let again = shared.reload(config(next));
    assert_eq!(
        again,
        Reloaded {
            now: vec![],
            restart: restart.to_vec()
        }
    );
}

#[test]
fn every_key_is_known_to_reload() {
    for key in raw::keys() {
        let known = |row: &str| match key.as_str() {
            "control.password_file" | "migrate.password_file" => row == key.replace("_file", ""),
            // One connection asks, as one role with one statement.
            key if key.starts_with("auth.query_") => row == "auth.query",
            // Its users have names, and all of it is for those who come.
            key if key.starts_with("console.") => row == "console",
            key if key.starts_with("traces.") => row == "traces",
            // A listener has its mode; the files make one acceptor.
            "tls.mode" => row == "listen",
            "tls.certificate" | "tls.key" | "tls.client_ca" => row == "tls",
            "admin.key" | "admin.client_ca" => row == "admin.certificate",
            _ => row == key || row.starts_with(&format!("{key} (")),
        };
        assert!(reload::rows().map(|row| row.key).any(known), "{key}");
    }
}
#[test]
fn mistakes_about_who_gets_in_are_named() {
    // A text, and how each of its problems begins.
    let cases: &[(&str, &[&str])] = &[
        (
            "query = 'select 1'\nquery_password = 'hunter2'\nquery_database = 'x'\niterations = 0\n",
            &[
                "line 6: auth.iterations: 0 is not between 1 and 1000000",
                "line 3: auth.query: it is set, but auth.query_user is not",
                "line 4: auth.query_password: it is set, but auth.query_user is not",
                "line 5: auth.query_database: it is set, but auth.query_user is not",
            ],
        ),
        (
            "query_user = 'a'\nquery = 'select 1'\nserver_passfile = '/nonexistent'\n\
             users_file = '/nonexistent'\ncertificate_users = [{ certificate = '', user = 'x' }]\n",
            &[
                "line 6: auth.users_file: /nonexistent cannot be read",
                "line 5: auth.server_passfile: /nonexistent: No such file",
                "line 7: auth.certificate_users: a name in it is empty",
                "line 4: auth.query: it does not ask for a user",
            ],
        ),
        (
            "[[auth.rules]]\nmethod = 'scram-sha-256'\n[[auth.rules]]\nmethod = 'pass-through'\n\
             [[auth.rules]]\ntls = false\nmethod = 'cert'\n[[auth.rules]]\nmethod = 'md5'\n",
            &[
                "line 3: auth.rules: rule 1 (scram-sha-256) needs to know passwords",
                "line 3: auth.rules: rule 3 (cert) needs tls.client_ca",
                "line 3: auth.rules: rule 3 (cert) is for connections without TLS",
                "line 3: auth.rules: rule 4 (md5) needs to know passwords",
            ],
        ),
        (
            "[[auth.rules]]\nmethod = 'trust'\n[[auth.rules]]\nmethod = 'peer'\n",
            &["line 6: auth.rules"],
        ),
        (
            "[[auth.rules]]\nmethod = 'trust'\nhost = 'x'\n",
            &["line 5: auth.rules"],
        ),
    ];
    for (text, expected) in cases {
        let text = if text.starts_with("[[") {
            format!("{GOOD}{text}")
        } else {
            // GOOD without its line end, so that lines are counted from [auth].
            format!("upstream.url = 'postgres://app@db'\n[auth]\n{text}")
        };
        let found = problems(&text, &[]);
        for start in *expected {
            let hit = found.iter().any(|problem| problem.starts_with(start));
            assert!(hit, "{start:?} in {found:#?} of:\n{text}");
        }
        assert_eq!(found.len(), expected.len(), "{found:#?} of:\n{text}");
        assert!(!found.concat().contains("hunter2"));
    }
}

#[test]
fn the_users_file_and_the_rules_are_read_anew_at_a_reload() {
    let users = file("\"anna\" \"hunter2\"\n");
    let text = format!(
        "{GOOD}[auth]\nusers_file = '{}'\n[[auth.rules]]\nuser = 'anna'\nmethod = 'password'\n",
        users.path().display()
    );
    let loaded = load_text(&text, &[]).expect("valid");
    assert!(loaded.warnings[0].contains("rule 1 (password) is for connections without TLS"));
    assert!(!format!("{loaded:?}").contains("hunter2"));
    let shared = Shared::new(loaded.config);

    std::fs::write(users.path(), "\"anna\" \"hunter2\"\n\"bob\" hunter2\n").expect("writable");
    let found = problems(&text, &[]);
    let expected = format!(
        "line 4: auth.users_file: {}, line 2: it is not \"name\" \"secret\"",
        users.path().display()
    );
    assert_eq!(found, [expected]);

    std::fs::write(users.path(), "\"bob\" \"hunter2\"\n").expect("writable");
    let reloaded = shared.reload(config(&text));
    assert_eq!(reloaded.now, ["auth.users_file"]);
    assert!(shared.load().auth.users.get("anna").is_none());
    assert!(shared.load().auth.users.get("bob").is_some());
}

#[test]
fn iterations_that_tell_users_from_none_are_warned_of() {
    let scram = "\"a\" \"SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$\
        WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=\"";
    let users = file(scram);
    let warnings = |iterations| {
        let text = format!(
            "{GOOD}[auth]\nusers_file = '{}'\niterations = {iterations}\n",
            users.path().display()
        );
        load_text(&text, &[]).expect("valid").warnings
    };
    assert_eq!(warnings(4096), Vec::<String>::new());
    assert!(warnings(10_000)[0].contains("do not have the 10000 iterations"));
}

fn sample(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("config")
        .join(name);
    std::fs::read_to_string(path).expect("a file of the repository")
}

/// The reference with the keys that have no default written out too.
fn uncommented() -> String {
    let reference = sample("reference.toml");
    let line = |line: &str| match line.strip_prefix("# ") {
        Some(rest) if rest.starts_with('[') || is_key(rest) => rest.to_owned(),
        _ => line.to_owned(),
    };
    reference.lines().map(|l| line(l) + "\n").collect()
}

fn is_key(line: &str) -> bool {
    line.split_once(" = ")
        .is_some_and(|(key, _)| key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'))
}

#[test]
fn the_reference_shows_every_default() {
    let url = [("PGDRAIN_UPSTREAM_URL", "postgres://postgres@127.0.0.1:5432")];
    let reference = load_text(&sample("reference.toml"), &url).expect("the reference is valid");
    let defaults = Source::new(None)
        .load(&around(&url))
        .expect("a URL is all that is needed");
    assert_eq!(reference.config, defaults.config);
    assert_eq!(config(&sample("minimal.toml")), defaults.config);
}

#[test]
fn the_reference_shows_every_key() {
    let text = uncommented();
    let reading = file::read(&text);
    assert_eq!(reading.problems, []);
    for key in raw::keys() {
        let key = key.replace("users.NAME", "users.anna");
        let key = key.replace(".NAME.", ".shop.");
        assert!(reading.origins.contains_key(&key), "{key} in:\n{text}");
    }
    // What has a default is written out, so that the other test compares it.
    let written = file::read(&sample("reference.toml")).origins;
    for key in raw::keys() {
        let without_default = [
            "url",
            "user",
            "password",
            "password_file",
            "database",
            "owner",
            "rls_role",
            "disk_free_command",
            "staging",
            "maintenance_work_mem",
            "gate",
            "commands",
            "users_file",
            "query",
            "query_user",
            "query_password",
            "query_password_file",
            "query_database",
            "server_passfile",
            "rules",
            "mode",
            "certificate",
            "key",
            "application_name",
            "client",
            "client_ca",
            "bypass",
            "dir",
            "command",
            "hooks",
            "notify",
            "tokens",
            "clients",
            "endpoint",
            "headers",
            "ca_file",
        ];
        let name = key.rsplit('.').next().expect("a key has a name");
        let named = ["databases", "console.users"];
        let named = named.iter().any(|section| key.starts_with(section));
        let open = without_default.contains(&name) || named;
        assert_ne!(written.contains_key(&key), open, "{key}");
    }
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in ".*") {
        let _ = file::read(&text);
        for key in raw::keys() {
            let _ = bare::read(&key, &text);
        }
    }

    /// Texts that are nearly right reach further than noise does.
    #[test]
    fn any_broken_reference_is_read_or_refused(at in 0usize..6000, cut in 0usize..40, noise in "\\PC{0,8}") {
        let text = sample("reference.toml").replace("# url", "url");
        let start = text.floor_char_boundary(at);
        let end = text.floor_char_boundary(at + cut).max(start);
        let broken = format!("{}{noise}{}", &text[..start], &text[end..]);
        let reading = file::read(&broken);
        let _ = validate::validate(reading.raw, &reading.origins, &around(&[]));
    }
}
