//! Before a window lets everybody in, one scope and a command come in: what they find decides.

use std::path::Path;

use crate::support::message;
use crate::support::poll::{PATIENCE, until};
use crate::support::shop::{DATABASE, Shop};
use crate::support::wire::Wire;

const TABLE: &str = "create table a (id int);";

/// A canary that writes by the real way, and then waits until it is told to go on.
fn config(dir: &Path, last: &str) -> String {
    let psql = crate::support::tool::program("psql");
    let (psql, dir) = (psql.display(), dir.display());
    format!(
        "[migrate]\ndown_required = false\n[migrate.canary]\napplication_name = 'canary'\n\
         timeout = '20s'\n\
         command = \"\"\"{psql} -U postgres -Atqc 'insert into a values (7)' && touch {dir}/tried\n\
         while [ ! -e {dir}/go ]; do sleep 0.02; done; {last}\"\"\"\n"
    )
}

async fn named(shop: &Shop, name: &str) -> Wire {
    let parameters = [
        ("user", "postgres"),
        ("database", DATABASE),
        ("application_name", name),
    ];
    let login = Wire::login_with(shop.proxy.addr(), &parameters, None).await;
    login.unwrap_or_else(|error| panic!("{error:?}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scope_and_a_command_come_in_while_all_others_wait() {
    let dir = tempfile::tempdir().expect("a directory");
    let shop = Shop::open_with("", &config(dir.path(), "true")).await;
    shop.write("1_a.up.sql", TABLE);
    let mut held = shop.client().await;
    let up = shop.begin(&["up", "--traffic", "exclusive"]);
    until("the command to have been let in", PATIENCE, async || {
        dir.path().join("tried").exists()
    })
    .await;
    held.send(&message::query("SELECT 1")).await;
    shop.proxy.until_held(DATABASE, 1).await;
    let mut canary = named(&shop, "canary").await;
    assert_eq!(canary.query_one("select id from a").await, "7");
    // Whoever is not of the scope waits, also one that comes now.
    let mut other = named(&shop, "web").await;
    other.send(&message::query("SELECT 2")).await;
    shop.proxy.until_held(DATABASE, 2).await;

    std::fs::write(dir.path().join("go"), "").expect("room");
    let told = "canary: application \"canary\" is let in";
    up.ended()
        .await
        .assert(0, &[told, "canary: it went well", "done: one file"]);
    for waiting in [&mut held, &mut other] {
        let answer = waiting.read_until_ready().await;
        assert_eq!(answer.last().expect("ready").body, b"I");
    }
    // Its connection was one of the window's, and ended with it.
    let left = canary.read_to_end().await;
    let ended = left.iter().find(|it| it.tag == b'E').expect("last words");
    assert_eq!(ended.sqlstate(), "57P01");
    let mut again = named(&shop, "canary").await;
    again.execute("SELECT 3").await;
    let page = shop.migrate(&["report", "--markdown"]).await.stdout;
    assert!(page.contains("Canary"), "{page}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_fails_keeps_traffic_held_and_one_that_is_named_replaces_the_configured() {
    let dir = tempfile::tempdir().expect("a directory");
    let shop = Shop::open_with("", &config(dir.path(), "exit 3")).await;
    shop.write("1_a.up.sql", TABLE);
    let up = shop.begin(&["up", "--traffic", "exclusive", "--canary", "user=nobody"]);
    until("the command to have been let in", PATIENCE, async || {
        dir.path().join("tried").exists()
    })
    .await;
    // The scope that was asked for counts alone.
    let mut canary = named(&shop, "canary").await;
    canary.send(&message::query("SELECT 1")).await;
    shop.proxy.until_held(DATABASE, 1).await;
    std::fs::write(dir.path().join("go"), "").expect("room");
    let told = "canary: the canary's command";
    up.ended().await.assert(
        3,
        &["user \"nobody\" is let in", told, "traffic stays held"],
    );
    assert_eq!(shop.row(1).await, "applied up 1/1");
    assert_eq!(shop.status().await["mode"], "hold");
    let opened = shop.proxy.run(&["open", DATABASE]).await;
    opened.assert(0, &[]);
    canary.read_until_ready().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_fails_takes_the_run_back_where_that_is_asked_for() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = format!("{}on_failure = 'down'\n", config(dir.path(), "exit 3"));
    let shop = Shop::open_with("", &config).await;
    shop.write("1_a.up.sql", TABLE);
    std::fs::write(dir.path().join("go"), "").expect("room");
    // A file without a way back cannot be taken back, and that is said before.
    let up = shop.begin(&["up", "--traffic", "exclusive"]);
    up.ended().await.assert(1, &["has no way back"]);
    shop.write("1_a.down.sql", "drop table a;");
    let plan = shop.migrate(&["plan", "--traffic", "exclusive"]).await;
    let told = "canary before everybody is let in: application \"canary\", and its command; if it fails, \
                all is taken back in the same window";
    plan.assert(0, &[told]);
    let open = shop.migrate(&["plan", "--traffic", "open"]).await.stdout;
    assert!(!open.contains("canary before"), "{open}");

    let mut held = shop.client().await;
    let up = shop.begin(&["up", "--traffic", "exclusive"]);
    let told = ["canary: the canary's command", "everything is taken back"];
    up.ended().await.assert(3, &told);
    assert!(dir.path().join("tried").exists());
    assert!(!shop.has("a").await);
    assert_eq!(shop.row(1).await, "reverted down 1/1");
    held.execute("SELECT 1").await;
    assert_eq!(shop.status().await["mode"], "open");
}
