//! A run says whether it has led to the schema that its rehearsal led to.

use pgdrain::runner::source::PostedFile;
use pgdrain::runner::types::{EventKind, RunState};

use crate::rehearse::{rehearsal, rehearse, site};
use crate::support::migrations::{Site, assert_end, file, texts};

fn files(second: &str) -> Vec<PostedFile> {
    vec![
        file("1_a.up.sql", "create table made (id int primary key)"),
        file("1_a.down.sql", "drop table made"),
        file("2_b.up.sql", second),
        file("2_b.down.sql", "alter table made drop column b"),
    ]
}

/// What a run says of rehearsals.
async fn said(site: &Site, files: &[PostedFile]) -> Vec<String> {
    let view = site.up(files).await;
    assert_end(&view, RunState::Succeeded, 0);
    let notes = texts(&view, EventKind::Note).into_iter();
    let about = notes.filter(|it| it.starts_with("the schema is "));
    about.map(str::to_owned).collect()
}

#[tokio::test]
async fn a_run_leads_where_its_rehearsal_led_or_says_that_it_does_not() {
    let site = site().await;
    let same = files("alter table made add b int");
    let rehearsed = rehearse(&site, rehearsal(&same)).await;
    assert_end(&rehearsed, RunState::Succeeded, 0);
    // Owners and grants are no part of it, nor is pgdrain's own history.
    site.sql("create role somebody; grant usage on schema public to somebody")
        .await;
    let led = format!(
        "the schema is the one that rehearsal {} led to",
        rehearsed.id
    );
    assert_eq!(said(&site, &same).await, [led]);
    // The next begins with another schema: nothing was rehearsed from there.
    let more = [same.clone(), vec![file("3_c.up.sql", "create table c ()")]].concat();
    assert_eq!(said(&site, &more).await, [""; 0]);
}

#[tokio::test]
async fn a_file_that_was_changed_since_leads_elsewhere() {
    let site = site().await;
    let rehearsed = rehearse(&site, rehearsal(&files("alter table made add b int"))).await;
    assert_end(&rehearsed, RunState::Succeeded, 0);
    let said = said(&site, &files("alter table made add b bigint")).await;
    let other = format!(
        "the schema is another one than rehearsal {} led to",
        rehearsed.id
    );
    assert!(said.len() == 1 && said[0].starts_with(&other), "{said:?}");
}
