//! The console reloads the configuration, stops pgdrain, and is told when another process takes over.

use std::fs;

use crate::support::cluster::Postgres;
use crate::support::holds::DB;
use crate::support::message::{self, Message};
use crate::support::poll::{SOON, until, within};
use crate::support::proxy::Proxy;
use crate::support::wire::Wire;

fn errors(answer: &[Message]) -> Vec<String> {
    let errors = answer.iter().filter(|message| message.tag == b'E');
    errors.map(Message::sqlstate).collect()
}

fn notices(answer: &[Message]) -> String {
    let notices = answer.iter().filter(|it| it.tag == b'N');
    let texts: Vec<String> = notices.filter_map(|it| it.field(b'M')).collect();
    texts.join("\n")
}

/// The rest of a connection: what it is told at its end.
async fn farewell(wire: &mut Wire) -> Vec<String> {
    errors(&within("the end", SOON, wire.read_to_end()).await)
}

#[tokio::test]
async fn a_reload_says_what_applies_when_and_a_bad_file_changes_nothing() {
    let postgres = Postgres::start().await;
    let listen = "listen = ['127.0.0.1:0']\n";
    let proxy = Proxy::start_configured(&postgres, listen).await;
    let mut console = proxy.session("pgdrain").await;
    let file = proxy.config_path();
    let answer = console.query("RELOAD").await;
    assert_eq!(notices(&answer), "nothing has changed");

    let changed = format!("workers = 7\n{listen}[hold]\nfor = '77s'\n");
    fs::write(&file, changed).expect("writable");
    let answer = console.query("RELOAD;").await;
    let said = notices(&answer);
    assert!(said.contains("changed now: hold.for"), "{said}");
    assert!(said.contains("until a restart: workers"), "{said}");
    let told = answer.iter().filter(|it| it.tag == b'N');
    let severities: Vec<_> = told.filter_map(|it| it.field(b'S')).collect();
    assert_eq!(severities, ["NOTICE", "WARNING"]);

    fs::write(&file, format!("{listen}[hold]\nfor = 'ever'\nthem = 1\n")).expect("writable");
    let answer = console.query("RELOAD").await;
    assert_eq!(errors(&answer), ["22023"], "{answer:?}");
    let detail = answer[0].field(b'D').expect("a detail");
    for part in ["line 3", "hold.for", "line 4", "hold.them"] {
        assert!(detail.contains(part), "{part} in {detail}");
    }
    let shown = console.query("SHOW CONFIG").await;
    let row = shown
        .iter()
        .filter(|it| it.tag == b'D')
        .map(Message::columns);
    let of = |key: &str| {
        let mut rows = row.clone();
        rows.find(|it| it[0].as_deref() == Some(key))
            .expect("a key")
    };
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(of("hold.for")[1], text("77s").or(text("1m 17s")));
    assert_eq!(of("hold.for")[3], text("yes"));
    assert_eq!(of("workers")[3], text("no"));
    // Who did it is written down.
    let events = proxy.admin().get("/v1/events").await.expect(200);
    let reloads = events["events"].as_array().expect("events").iter();
    let mut reloads = reloads.filter(|event| event["kind"] == "reload");
    let last = reloads.next_back().expect("an event");
    assert_eq!(last["by"], "postgres", "{last}");
    assert!(last["outcome"].as_str().expect("text").contains("refused"));
}

#[tokio::test]
async fn who_may_not_administer_neither_reloads_nor_stops() {
    let postgres = Postgres::start().await;
    let settings = [("ADMIN_LOCAL", "look,hold,open")];
    let proxy = Proxy::start_set(&postgres, &settings).await;
    let mut console = proxy.session("pgdrain").await;
    for command in ["RELOAD", "SHUTDOWN", "SHUTDOWN WAIT_FOR_CLIENTS"] {
        let answer = console.query(command).await;
        assert_eq!(errors(&answer), ["42501"], "{command}");
        let hint = answer[0].field(b'H').expect("a hint");
        assert!(hint.contains("admin"), "{hint}");
    }
    // In a block nothing is begun that no rollback takes back.
    console.execute("BEGIN").await;
    assert_eq!(errors(&console.query("SHUTDOWN").await), ["25001"]);
}

#[tokio::test]
async fn a_shutdown_answers_and_ends_clients_where_they_are() {
    let mut postgres = Postgres::start().await;
    postgres.execute("CREATE TABLE t (n int)").await;
    let mut proxy = Proxy::start(&postgres).await;
    let mut inside = proxy.session(DB).await;
    inside.execute("BEGIN").await;
    inside.execute("INSERT INTO t VALUES (1)").await;
    let mut console = proxy.session("pgdrain").await;
    let answer = console.query("SHUTDOWN").await;
    let tags: Vec<u8> = answer.iter().map(|it| it.tag).collect();
    assert_eq!(tags, b"NCZ", "{answer:?}");
    assert_eq!(farewell(&mut console).await, ["57P01"]);
    assert_eq!(farewell(&mut inside).await, ["57P01"]);
    assert!(proxy.ended().await.success());
    assert_eq!(postgres.count("SELECT count(*) FROM t").await, 0);
}

#[tokio::test]
async fn a_shutdown_that_waits_for_servers_lets_transactions_end() {
    let mut postgres = Postgres::start().await;
    postgres.execute("CREATE TABLE t (n int)").await;
    let mut proxy = Proxy::start(&postgres).await;
    let (mut inside, mut idle) = (proxy.session(DB).await, proxy.session(DB).await);
    inside.execute("BEGIN").await;
    inside.execute("INSERT INTO t VALUES (1)").await;
    let mut console = proxy.session("pgdrain").await;
    console.execute("SHUTDOWN WAIT_FOR_SERVERS").await;
    assert_eq!(farewell(&mut idle).await, ["57P01"]);
    drop(idle);
    inside.execute("INSERT INTO t VALUES (2)").await;
    // The console goes on as long as there is something to see.
    console.execute("SHOW SESSIONS").await;
    inside.execute("COMMIT").await;
    drop(inside);
    assert_eq!(farewell(&mut console).await, ["57P01"]);
    assert!(proxy.ended().await.success());
    assert_eq!(postgres.count("SELECT count(*) FROM t").await, 2);
}

#[tokio::test]
async fn a_shutdown_that_waits_for_clients_ends_with_the_last_of_them_or_sooner() {
    let postgres = Postgres::start().await;
    for sooner in [false, true] {
        let mut proxy = Proxy::start(&postgres).await;
        let mut client = proxy.session(DB).await;
        let mut console = proxy.session("pgdrain").await;
        console.execute("SHUTDOWN WAIT_FOR_CLIENTS").await;
        let addr = proxy.addr();
        until("new clients to be turned away", SOON, async || {
            tokio::net::TcpStream::connect(addr).await.is_err()
        })
        .await;
        assert_eq!(proxy.admin().get("/readyz").await.status, 503);
        let vain = proxy.take_over_in_vain(&[]).await;
        assert!(vain.stderr.contains("told to stop"), "{vain:?}");
        client.execute("SELECT 1").await;
        client.execute("BEGIN").await;
        client.execute("COMMIT").await;
        match sooner {
            false => client.send(&message::terminate()).await,
            true => {
                console.execute("SHUTDOWN").await;
                assert_eq!(farewell(&mut client).await, ["57P01"]);
            }
        }
        drop(client);
        assert_eq!(farewell(&mut console).await, ["57P01"], "{sooner}");
        assert!(proxy.ended().await.success());
    }
}

#[tokio::test]
async fn a_console_is_told_at_a_hand_over_and_the_next_one_finds_the_hold() {
    let postgres = Postgres::start().await;
    let mut proxy = Proxy::start(&postgres).await;
    let mut client = proxy.session(DB).await;
    client.execute("BEGIN").await;
    let mut idle = proxy.session("pgdrain").await;
    let mut waiting = proxy.session("pgdrain").await;
    waiting.send(&message::query("HOLD postgres FOR 1h")).await;
    proxy.until_mode(DB, "hold").await;
    let former = proxy.take_over(&[]).await;
    assert_eq!(farewell(&mut idle).await, ["57P01"]);
    let told = within("the end", SOON, waiting.read_to_end()).await;
    assert_eq!(errors(&told), ["57P01"], "{told:?}");
    let detail = told[0].field(b'D').expect("a detail");
    assert!(detail.contains("SHOW HOLDS"), "{detail}");

    // The newer process answers, knows the hold, and opens in both.
    let mut console = proxy.session("pgdrain").await;
    let holds = console.query("SHOW HOLDS").await;
    assert_eq!(
        holds.iter().filter(|it| it.tag == b'D').count(),
        1,
        "{holds:?}"
    );
    console.execute("OPEN postgres").await;
    client.execute("COMMIT").await;
    client.execute("SELECT 1").await;
    client.send(&message::terminate()).await;
    drop(client);
    let mut former = former;
    assert!(former.ended().await.success());
}
