//! The documents' own migrations, corrected (`examples/migrations`): up, down, up, and all is equal; and
//! under an application that uses old and new names, no client sees an error.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use pgdrain::runner::plan::LockMode;
use pgdrain::runner::rehearse::{Data, RehearseRequest};
use pgdrain::runner::source::{PostedFile, read_directory};
use pgdrain::runner::types::{RunState, StepTraffic};
use tokio::task::JoinSet;
use tokio_postgres::{Client, NoTls};

use crate::rehearse::{found, rehearsal, rehearse, site};
use crate::support::migrations::assert_end;
use crate::support::poll::{PATIENCE, SOON, until, within};
use crate::support::shop::{DATABASE, Shop};

/// Recipes, deals and contacts to begin with.
const ROWS: &str = "
    insert into \"User\" (email) select 'u' || i from generate_series(1, 5) i;
    insert into \"Company\" (name, \"ownerId\") select 'c' || i, i from generate_series(1, 5) i;
    insert into \"Category\" (name) values ('soup'), ('bread'), ('cake');
    insert into \"Ingredient\" (name, \"packPrice\") select 'i' || i, i from generate_series(1, 5) i;
    insert into \"Recipe\" (\"companyId\", name, \"sellingPrice\", category)
        select 1 + i % 5, 'r' || i, i, (array['soup', 'bread', 'cake', null])[1 + i % 4]
        from generate_series(1, 2500) i;
    insert into \"RecipeItem\" (\"recipeId\", \"ingredientId\", quantity)
        select i, 1 + i % 5, i from generate_series(1, 2500) i;
    insert into \"RecipeSection\" (\"recipeId\", \"order\", title)
        select i, 1, 's' from generate_series(1, 2500) i;
    insert into \"InventoryMovement\" (\"ingredientId\", \"createdBy\", amount)
        select 1 + i % 5, 1 + i % 5, i from generate_series(1, 500) i;
    insert into companies (name) select 'c' || i from generate_series(1, 5) i;
    insert into deals (company_id, title, amount)
        select nullif(i % 6, 0), 'd' || i, i from generate_series(1, 2500) i;
    insert into contacts (organization_id, email)
        select md5((i % 5)::text)::uuid, 'e' || i from generate_series(1, 500) i;";

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/migrations")
}

fn schema() -> String {
    std::fs::read_to_string(directory().join("schema.sql")).expect("the schema")
}

/// The files; those about pg_trgm only where the server has it.
async fn files(client: &Client) -> Vec<PostedFile> {
    let sql = "select exists (select from pg_available_extensions where name = 'pg_trgm')";
    let there: bool = client.query_one(sql, &[]).await.expect("an answer").get(0);
    let mut files = read_directory(&directory().join("files"), None).expect("the files");
    files.retain(|it| there || !it.name.contains("trigram"));
    files
}

#[tokio::test]
async fn each_goes_up_down_and_up_and_those_for_open_traffic_lock_nobody_out() {
    let site = site().await;
    site.sql(&schema()).await;
    site.sql(ROWS).await;
    let files = files(&site.client).await;
    let request = RehearseRequest {
        data: Data::Full,
        disabled: true,
        ..rehearsal(&files)
    };
    let view = rehearse(&site, request).await;
    assert_end(&view, RunState::Succeeded, 0);
    let found = found(&view);
    assert!(found.irreversible.is_empty(), "{:?}", found.irreversible);
    let course = &found.courses[0];
    let down = course.down.as_ref().expect("a way down");
    assert_eq!(course.up.files.len() * 2, files.len());
    assert_eq!(down.files.len() * 2, files.len());
    assert_eq!(course.before, down.fingerprint);
    assert_eq!(
        course.up.fingerprint,
        course.again.as_ref().expect("a second way").fingerprint
    );
    let open = course
        .up
        .files
        .iter()
        .filter(|it| it.file.traffic == StepTraffic::Open);
    let mut locks = 0;
    for it in open {
        for lock in it
            .trace
            .iter()
            .flat_map(|it| &it.locks)
            .filter(|it| !it.new)
        {
            assert!(lock.mode < LockMode::Share, "{}: {lock:?}", it.file.file);
            locks += 1;
        }
    }
    assert!(locks > 0, "they were seen");
    // Nothing that is large is written anew but for the one index that a constraint takes with it.
    let traces = course.up.files.iter().flat_map(|it| &it.trace);
    let rewritten: Vec<_> = traces.flat_map(|it| &it.rewritten).collect();
    assert!(rewritten.is_empty(), "{rewritten:?}");
}

/// Clients of each kind.
const CLIENTS: i64 = 2;

/// What the old release does all day: old names, old fields.
const OLD: [&str; 5] = [
    "insert into deals (company_id, title, amount) values (1 + $1 % 5, 'new', $1)",
    "update deals set amount = amount + 1, company_id = 1 + $1 % 5 where id = 1 + $1 % 2500",
    "insert into \"Recipe\" (\"companyId\", name, category) \
     values (1 + $1 % 5, 'new', (array['soup', 'pie', null])[1 + $1 % 3])",
    "update \"Recipe\" set category = 'cake' where id = 1 + $1 % 2500",
    "insert into contacts (organization_id, email) values (md5($1::text)::uuid, 'new')",
];

/// What the new release does: new names, new fields.
const NEW: [&str; 3] = [
    "insert into opportunities (customer_organization_id, title, amount) values (1 + $1 % 5, 'new', $1)",
    "insert into \"Recipe\" (\"companyId\", name, \"categoryId\") values (1 + $1 % 5, 'new', 1 + $1 % 3)",
    "update contacts set last_analytics_update = now() where id = (select id from contacts \
     where analytics_enabled offset $1 % 100 limit 1)",
];

/// An application at work: clients that go through statements until they are told to stop.
struct Work {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicI64>,
    clients: JoinSet<Result<[i64; 5], String>>,
}

impl Work {
    async fn start(shop: &Shop, statements: &'static [&'static str]) -> Self {
        let mut work = Self {
            stop: Arc::default(),
            done: Arc::default(),
            clients: JoinSet::new(),
        };
        for number in 0..CLIENTS {
            let url = format!("postgres://postgres@{}/{DATABASE}", shop.proxy.addr());
            let (client, connection) = tokio_postgres::connect(&url, NoTls)
                .await
                .expect("a connection");
            let (stop, done) = (Arc::clone(&work.stop), Arc::clone(&work.done));
            work.clients.spawn(async move {
                let mut connections = JoinSet::new();
                connections.spawn(connection);
                let mut wrote = [0; 5];
                let mut turn = number;
                while !stop.load(Ordering::Relaxed) {
                    let at = usize::try_from(turn).unwrap_or(0) % statements.len();
                    one(&client, statements[at], turn, at).await?;
                    wrote[at] += 1;
                    turn += 1;
                    done.fetch_add(1, Ordering::Relaxed);
                }
                Ok(wrote)
            });
        }
        work.goes_on().await;
        work
    }

    /// Waits until each client has done something more.
    async fn goes_on(&self) {
        let goal = self.done.load(Ordering::Relaxed) + 20 * CLIENTS;
        until("an application that works", SOON, async || {
            self.done.load(Ordering::Relaxed) >= goal || self.clients.is_empty()
        })
        .await;
    }

    /// How often each statement was acknowledged; every error of a client.
    async fn stop(mut self) -> ([i64; 5], Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        let (mut all, mut errors) = ([0; 5], Vec::new());
        while let Some(ended) = within("a client", PATIENCE, self.clients.join_next()).await {
            match ended.expect("no client panics") {
                Ok(wrote) => {
                    for (sum, more) in all.iter_mut().zip(wrote) {
                        *sum += more;
                    }
                }
                Err(error) => errors.push(error),
            }
        }
        (all, errors)
    }
}

/// A statement by itself or, every other time, in a transaction with a look at what is there.
async fn one(client: &Client, sql: &str, turn: i64, at: usize) -> Result<(), String> {
    let text = sql.replace("$1", &turn.to_string());
    let sql = match turn % 2 {
        0 => text.clone(),
        _ => format!("begin; {text}; select count(*) from \"Category\"; commit"),
    };
    let done = client.batch_execute(&sql).await;
    done.map_err(|error| format!("{at}, {text}: {error:?}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_application_that_uses_old_and_new_names_sees_no_error() {
    let shop = Shop::open_with(&format!("{};{ROWS}", schema()), "").await;
    let files = files(&shop.direct).await;
    for it in &files {
        shop.write(&it.name, &it.sql);
    }
    let old = Work::start(&shop, &OLD).await;
    let up = shop.migrate(&["up"]).await;
    up.assert(0, &["in batches, in open traffic", "done: "]);
    shop.migrate(&["status"]).await.assert(0, &["2099-12-31"]);
    // The new release is rolled out while the old one still works.
    let new = Work::start(&shop, &NEW).await;
    old.goes_on().await;
    new.goes_on().await;
    let (old, mut errors) = old.stop().await;
    let (new, more) = new.stop().await;
    errors.extend(more);
    assert!(errors.is_empty(), "{errors:#?}");

    // What was acknowledged is there, and each field says the same as the other.
    let count = async |sql: &str| shop.ask(sql).await.parse::<i64>().expect("a number");
    let deals = count("select count(*) from opportunities where title = 'new'").await;
    assert_eq!(deals, old[0] + new[0]);
    let recipes = count("select count(*) from \"Recipe\" where name = 'new'").await;
    assert_eq!(recipes, old[2] + new[1]);
    assert_eq!(
        count("select count(*) from contacts where email = 'new'").await,
        old[4]
    );
    let apart = "select count(*) from \"Recipe\" r left join \"Category\" c on c.id = r.\"categoryId\" \
                 where c.name is distinct from r.category";
    assert_eq!(count(apart).await, 0);
    let apart = "select count(*) from opportunities \
                 where company_id is not null and customer_organization_id is distinct from company_id";
    assert_eq!(count(apart).await, 0);
    let open = "select count(*) from pg_constraint where not convalidated";
    assert_eq!(count(open).await, 0);
}
