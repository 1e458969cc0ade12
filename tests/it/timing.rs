//! A run begins at its time, or when little goes on; it can be cancelled while it waits, and when the time
//! passes, nothing was changed.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use pgdrain::config::HumanDuration;
use pgdrain::runner::StartError;
use pgdrain::runner::source::PostedFile;
use pgdrain::runner::timing::When;
use pgdrain::runner::types::{Direction, RunState};

use crate::support::migrations::{DATABASE, Site, assert_end, failure, file, request};
use crate::support::poll::{SOON, until};
use crate::support::shop::{Shop, insert};

fn files() -> Vec<PostedFile> {
    vec![file("1_a.up.sql", "create table a ()")]
}

/// So many seconds from now.
fn from_now(seconds: i64) -> When {
    When {
        at: Some((Timestamp::now() + SignedDuration::from_secs(seconds)).to_string()),
        ..When::default()
    }
}

fn start(site: &Site, when: When) -> Result<String, StartError> {
    let mut request = request(Direction::Up, &files());
    request.when = Some(when);
    site.runner.start(DATABASE, request)
}

#[tokio::test]
async fn a_run_waits_for_its_time_and_begins_then() {
    let site = Site::start().await;
    let id = start(&site, from_now(1)).expect("a run");
    let view = site.end(&id).await;
    assert_end(&view, RunState::Succeeded, 0);
    let waits = view.events.first().expect("an event");
    assert!(waits.text.starts_with("begins at 2"), "{waits:?}");
    assert_eq!(waits.data["state"], "waiting");
    let held = view
        .events
        .iter()
        .find(|it| it.data["state"] == "preflight");
    assert!(held.expect("preflight").seq > waits.seq);
    // Nobody can say that it has passed.
    let mut wrong = from_now(-5);
    for when in [wrong.clone(), {
        wrong.at = Some("25:00".to_owned());
        wrong
    }] {
        let refused = start(&site, when);
        assert!(
            matches!(refused, Err(StartError::Invalid(_))),
            "{refused:?}"
        );
    }
}

#[tokio::test]
async fn one_that_waits_is_cancelled_with_nothing_changed_and_that_is_recorded() {
    let site = Site::start().await;
    assert_end(&site.up(&files()).await, RunState::Succeeded, 0);
    let more = [files(), vec![file("2_b.up.sql", "create table b ()")]].concat();
    let mut request = request(Direction::Up, &more);
    request.when = Some(from_now(3600));
    let id = site.runner.start(DATABASE, request).expect("a run");
    let recorded = format!(
        "select string_agg(type, ', ' order by id) from pgdrain.event where data->>'run' = '{id}'"
    );
    until("the run to wait", SOON, async || {
        site.ask(&recorded).await == "waiting"
    })
    .await;
    let view = site
        .runner
        .follow(&id, 0, Duration::ZERO)
        .await
        .expect("the run");
    assert_eq!(view.state, RunState::Waiting);
    assert!(site.runner.cancel(&id, "ann"));
    let view = site.end(&id).await;
    assert_end(&view, RunState::Cancelled, 2);
    assert_eq!(failure(&view), "cancelled by ann");
    assert_eq!(site.ask(&recorded).await, "waiting, waited");
    assert_eq!(site.ask("select count(*) from pgdrain.run").await, "1");
    assert_eq!(site.windows.log(), ["begin", "reopen"], "of the first run");
}

#[tokio::test]
async fn when_the_time_passes_without_quiet_nothing_was_granted() {
    // Nobody measures here: what is not known is not quiet.
    let site = Site::start().await;
    let when = When {
        below: Some(5),
        within: Some(HumanDuration(Duration::from_millis(100))),
        ..When::default()
    };
    let id = start(&site, when).expect("a run");
    let view = site.end(&id).await;
    assert_end(&view, RunState::Failed, 6);
    let told = failure(&view);
    assert!(
        told.starts_with("the time has passed without fewer than 5 transactions"),
        "{told}"
    );
    assert!(site.windows.log().is_empty());
    assert_eq!(site.ask("select to_regclass('a')").await, "null");
}

#[tokio::test]
async fn the_proxys_own_measures_say_when_little_goes_on() {
    let shop = Shop::open().await;
    shop.write("1_a.up.sql", "create table a ();");
    shop.write("1_a.down.sql", "drop table a;");
    let mut client = shop.client().await;
    let up = shop.begin(&[
        "up",
        "--when-below",
        "3",
        "--quiet-for",
        "2s",
        "--within",
        "5m",
    ]);
    // As long as somebody works, it waits.
    let mut id = 0;
    until("the run to say how much goes on", SOON, async || {
        for _ in 0..10 {
            id += 1;
            client.execute(&insert(id)).await;
        }
        let admin = shop.proxy.admin();
        let all = admin
            .get("/v1/databases/postgres/migrations")
            .await
            .expect(200);
        let Some(run) = all["migrations"][0]["id"].as_str() else {
            return false;
        };
        let view = admin.get(&format!("/v1/migrations/{run}")).await;
        view.expect(200)["state"] == "waiting" && view.text.contains("fewer than 3 are wanted")
    })
    .await;
    assert!(!shop.has("a").await);
    drop(client);
    up.ended().await.assert(0, &["begins at"]);
    assert!(shop.has("a").await);
}
