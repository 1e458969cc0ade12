//! Approvals bind to the hash of a plan, expire, can be taken back, and are never changed; a run needs
//! them unless it is forced for a reason. Decisions about runs that failed are kept beside them.

use std::time::Duration;

use pgdrain::config::{Approvals, GateUse, HumanDuration};
use pgdrain::runner::Options;
use pgdrain::runner::approvals::{
    ApprovalError, ApproveRequest, Choice, DecideRequest, RevokeRequest, Standing,
};
use pgdrain::runner::gonogo::Verdict;
use pgdrain::runner::source::PostedFile;
use pgdrain::runner::types::{Direction, EventKind, PlanRequest, RunState, TrafficMode};
use serde_json::{Value, json};

use crate::support::migrations::{DATABASE, Site, assert_end, failure, file, options, texts};
use crate::support::poll::{SOON, until};
use crate::support::shop::Shop;

fn files() -> Vec<PostedFile> {
    vec![
        file("1_a.up.sql", "create table a ()"),
        file("1_a.down.sql", "drop table a"),
    ]
}

async fn site(rollback_by: bool) -> Site {
    let options = Options {
        approvals: Approvals {
            roles: vec!["dba".to_owned(), "lead".to_owned()],
            required: true,
            rollback_by,
            ..Approvals::default()
        },
        ..options()
    };
    Site::start_with(options).await
}

async fn hash(site: &Site, files: &[PostedFile]) -> String {
    let request = PlanRequest {
        direction: Direction::Up,
        steps: None,
        files: files.to_vec(),
        format: None,
        history: None,
        traffic: TrafficMode::Auto,
    };
    let plan = site.runner.plan(DATABASE, &request).await;
    plan.expect("a plan").hash.expect("a hash")
}

fn approve(plan: &str, role: &str, expires: Option<Duration>) -> ApproveRequest {
    ApproveRequest {
        plan: plan.to_owned(),
        role: role.to_owned(),
        by: Some(format!("{role}'s ann")),
        expires: expires.map(HumanDuration),
        reason: None,
    }
}

async fn approved(site: &Site, plan: &str, role: &str) {
    let done = site
        .runner
        .approve(DATABASE, &approve(plan, role, None))
        .await;
    assert_eq!(done.expect("an approval").standing, Standing::Valid);
}

#[tokio::test]
async fn nothing_runs_up_before_everybody_has_approved_this_very_plan() {
    let site = site(false).await;
    let plan = hash(&site, &files()).await;
    approved(&site, &plan, "dba").await;
    let view = site.up(&files()).await;
    assert_end(&view, RunState::Failed, 1);
    let checks = view.report.expect("a report").checks;
    let check = checks
        .iter()
        .find(|it| it.name == "approvals")
        .expect("a check");
    assert_eq!(check.text, format!("not approved by lead: plan {plan}"));
    let hint = check.hint.as_deref().expect("a hint");
    assert_eq!(
        hint,
        format!("`pgdrain migrate approve 'postgres' --plan {plan} --as 'lead'`")
    );
    assert_eq!(site.ask("select to_regclass('a')").await, "null");
    approved(&site, &plan, "lead").await;

    // Any change of the plan voids it.
    let mut other = files();
    other[0] = file("1_a.up.sql", "create table a (b int)");
    assert_ne!(hash(&site, &other).await, plan);
    assert_end(&site.up(&other).await, RunState::Failed, 1);
    let view = site.up(&files()).await;
    assert_end(&view, RunState::Succeeded, 0);
    let report = view.report.expect("a report");
    let by: Vec<_> = report.approvals.iter().map(|it| it.by.as_str()).collect();
    assert_eq!(by, ["dba's ann", "lead's ann"]);
    // Nothing to do needs nobody, and the way down neither.
    assert_end(&site.up(&files()).await, RunState::Succeeded, 0);
    assert_end(&site.down(&files(), 1).await, RunState::Succeeded, 0);
}

#[tokio::test]
async fn who_goes_on_without_says_why_and_that_is_recorded() {
    let site = site(true).await;
    let view = site.up(&files()).await;
    assert_end(&view, RunState::Failed, 1);
    let checks = view.report.expect("a report").checks;
    let failed = checks
        .iter()
        .filter(|it| !it.is_passed())
        .map(|it| it.name.as_str());
    assert_eq!(
        failed.collect::<Vec<_>>(),
        ["approvals", "rollback_executor"]
    );
    let view = site
        .up_with(&files(), |it| {
            it.force = true;
            it.reason = Some("it burns".to_owned());
            it.rollback_by = Some("bob".to_owned());
        })
        .await;
    assert_end(&view, RunState::Succeeded, 0);
    let report = view.report.expect("a report");
    assert_eq!(
        (report.forced, report.rollback_by),
        (vec!["approvals".to_owned()], Some("bob".to_owned()))
    );
    let recorded = site
        .ask("select data->'checks'->>0 || ' ' || (data->>'reason') from pgdrain.event where type = 'forced'")
        .await;
    assert_eq!(recorded, "approvals it burns");
}

#[tokio::test]
async fn an_approval_expires_and_is_taken_back_and_the_books_are_only_added_to() {
    let site = site(false).await;
    let plan = hash(&site, &files()).await;
    let short = approve(&plan, "dba", Some(Duration::from_millis(50)));
    site.runner
        .approve(DATABASE, &short)
        .await
        .expect("an approval");
    until("the approval to expire", SOON, async || {
        let all = site
            .runner
            .approvals(DATABASE, Some(&plan))
            .await
            .expect("a list");
        all.approvals[0].standing == Standing::Expired
    })
    .await;
    approved(&site, &plan, "dba").await;
    approved(&site, &plan, "lead").await;
    let revoke = RevokeRequest {
        plan: plan.clone(),
        role: "lead".to_owned(),
        by: Some("bob".to_owned()),
        reason: Some("not today".to_owned()),
    };
    site.runner
        .revoke(DATABASE, &revoke)
        .await
        .expect("revoked");
    let again = site.runner.revoke(DATABASE, &revoke).await;
    assert!(matches!(again, Err(ApprovalError::Nothing(_))), "{again:?}");
    let all = site.runner.approvals(DATABASE, None).await.expect("a list");
    let standing: Vec<_> = all.approvals.iter().map(|it| it.standing).collect();
    let expected = [
        Standing::Expired,
        Standing::Valid,
        Standing::Revoked,
        Standing::Revocation,
    ];
    assert_eq!(standing, expected);
    assert_end(&site.up(&files()).await, RunState::Failed, 1);

    for sql in [
        "update pgdrain.approval set expires_at = 'infinity'",
        "delete from pgdrain.approval",
        "truncate pgdrain.approval",
        "delete from pgdrain.decision",
    ] {
        let error = site.client.batch_execute(sql).await.expect_err(sql);
        assert_eq!(error.code().expect("a state").code(), "55000", "{sql}");
    }
    for (plan, role) in [(plan.as_str(), "cto"), ("abc", "dba"), (plan.as_str(), "")] {
        let refused = site
            .runner
            .approve(DATABASE, &approve(plan, role, None))
            .await;
        assert!(
            matches!(refused, Err(ApprovalError::Invalid(_))),
            "{refused:?}"
        );
    }
}

#[tokio::test]
async fn a_decision_about_a_failed_run_is_in_the_history_and_in_its_report() {
    let site = Site::start().await;
    let view = site.up(&[file("1_a.up.sql", "select 1 / 0")]).await;
    assert_end(&view, RunState::Failed, 2);
    assert!(failure(&view).contains("division by zero"));
    let decide = |run: &str, decision| DecideRequest {
        run: run.to_owned(),
        decision,
        by: Some("ann".to_owned()),
        reason: Some("a typo".to_owned()),
    };
    for choice in [Choice::Rollback, Choice::FixForward] {
        let request = decide(&view.id, choice);
        site.runner
            .decide(DATABASE, &request)
            .await
            .expect("a decision");
    }
    let kept = "select string_agg(decision, ', ' order by id) from pgdrain.decision";
    assert_eq!(site.ask(kept).await, "rollback, fix_forward");
    let report = "select report->'decision'->>'decision' || ' ' || (report->'decision'->>'by') from pgdrain.run";
    assert_eq!(site.ask(report).await, "fix_forward ann");
    let seen = site
        .runner
        .follow(&view.id, 0, Duration::ZERO)
        .await
        .expect("the run");
    let decision = seen.report.expect("a report").decision.expect("a decision");
    assert_eq!(
        (decision.decision, decision.by.as_str()),
        (Choice::FixForward, "ann")
    );

    let done = site.up(&files()).await;
    assert_end(&done, RunState::Succeeded, 0);
    let nothing = site
        .runner
        .decide(DATABASE, &decide(&done.id, Choice::Rollback))
        .await;
    assert!(
        matches!(nothing, Err(ApprovalError::Nothing(_))),
        "{nothing:?}"
    );
    for run in ["nonesuch", "00000000-0000-4000-8000-000000000000"] {
        let nobody = site
            .runner
            .decide(DATABASE, &decide(run, Choice::Rollback))
            .await;
        assert!(matches!(nobody, Err(ApprovalError::NoRun(_))), "{nobody:?}");
    }
}

/// The lines of a gate with their verdicts.
fn verdicts(gate: &Value) -> Vec<(&str, &str)> {
    let lines = gate["lines"].as_array().expect("lines").iter();
    lines
        .map(|it| {
            (
                it["name"].as_str().expect("a name"),
                it["verdict"].as_str().expect("a word"),
            )
        })
        .collect()
}

#[tokio::test]
async fn the_gate_says_go_when_everything_is_known_and_commands_do_all_of_it() {
    let kept = tempfile::tempdir().expect("a directory");
    let config = format!(
        "[migrate.approvals]\nroles = ['dba']\nrequired = true\n\
         [migrate.backup]\ndir = '{}'\nverify = 'list'\n\
         [[migrate.notify]]\ncommand = 'true'\nof = 'end'\n",
        kept.path().display()
    );
    let shop = Shop::open_with("", &config).await;
    shop.write("1_a.up.sql", "create table a (b int);");
    shop.write("1_a.down.sql", "drop table a;");
    let ran = shop.migrate(&["gonogo", "--json"]).await;
    ran.assert(1, &[]);
    let gate: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    let expected = [
        ("preflight", "go"),
        ("no_orphans", "go"),
        ("constraints_validated", "go"),
        ("indexes_valid", "go"),
        ("required_tables", "go"),
        ("lint", "go"),
        ("ways_back", "go"),
        ("rehearsal", "unknown"),
        ("approvals", "no_go"),
        ("rollback_executor", "no_go"),
        ("time", "no_go"),
        ("backup", "go"),
        ("restore_point", "go"),
        ("monitoring", "no_go"),
    ];
    assert_eq!(verdicts(&gate), expected, "{gate:#}");
    assert_eq!(
        (&gate["go"], &gate["exit_code"]),
        (&json!(false), &json!(1))
    );
    assert!(!shop.has("pgdrain.layout").await, "nothing is written");

    let plan = gate["plan"].as_str().expect("a hash").to_owned();
    let up = shop.migrate(&["up", "--no-backup"]).await;
    up.assert(1, &["approvals FAILED: not approved by dba"]);
    let line = [
        "migrate", "approve", DATABASE, "--plan", &plan, "--as", "dba", "--by", "ann",
    ];
    shop.proxy
        .run(&line)
        .await
        .assert(0, &["approved as dba by ann"]);
    let wrong = [
        "migrate", "approve", DATABASE, "--plan", &plan, "--as", "cto",
    ];
    shop.proxy
        .run(&wrong)
        .await
        .assert(5, &["none of migrate.approvals.roles (dba)"]);
    let list = ["migrate", "approvals", DATABASE, "--plan", &plan];
    shop.proxy
        .run(&list)
        .await
        .assert(0, &["have to approve: dba", "valid"]);
    shop.migrate(&["rehearse"]).await.assert(0, &[]);
    let more = ["gonogo", "--rollback-by", "bob", "--between", "00:00-23:59"];
    let ran = shop.migrate(&more).await;
    ran.assert(
        1,
        &[
            "go       rehearsal: ",
            "go       approvals: everybody",
            "go       rollback_executor: bob",
            "go       time: begins at",
        ],
    );
    let revoke = [
        "migrate", "revoke", DATABASE, "--plan", &plan, "--as", "dba", "--reason", "x",
    ];
    shop.proxy.run(&revoke).await.assert(0, &["was taken back"]);
    shop.proxy
        .run(&revoke)
        .await
        .assert(5, &["dba has no valid approval"]);
    shop.proxy.run(&line).await.assert(0, &["approved"]);
    let up = shop.migrate(&["up", "--no-backup"]).await;
    up.assert(0, &["approvals passed"]);

    shop.write("2_b.up.sql", "select 1 / 0;");
    shop.write("2_b.down.sql", "select 1;");
    let up = shop
        .migrate(&["up", "--no-backup", "--force", "--reason", "test"])
        .await;
    up.assert(2, &[]);
    let run = shop
        .ask("select run_id from pgdrain.run where state = 'failed'")
        .await;
    let decide = [
        "migrate",
        "decide",
        DATABASE,
        &run,
        "fix-forward",
        "--by",
        "ann",
    ];
    shop.proxy
        .run(&decide)
        .await
        .assert(0, &["fix_forward was decided by ann"]);
}

/// What everybody knew when it began stands with the run.
#[tokio::test]
async fn a_run_records_the_gates_list_and_asks_for_it_where_that_is_configured() {
    let gated = |gate: GateUse| Options {
        approvals: Approvals {
            gate,
            ..Approvals::default()
        },
        ..options()
    };
    let site = Site::start_with(gated(GateUse::Record)).await;
    let files = [file("1_a.up.sql", "create table a (id int)")];
    let view = site
        .up_with(&files, |it| it.rollback_by = Some("bob".to_owned()))
        .await;
    assert_end(&view, RunState::Succeeded, 0);
    let report = view.report.expect("a report");
    let gate = report.gonogo.expect("the gate's list");
    let line = |name: &str| {
        gate.lines
            .iter()
            .find(|it| it.name == name)
            .expect("a line")
    };
    assert_eq!(line("preflight").verdict, Verdict::Go);
    assert_eq!(line("rollback_executor").verdict, Verdict::Go);
    assert!(!gate.go, "nobody has rehearsed: {gate:#?}");
    let told = "select data ->> 'go' from pgdrain.event where type = 'gonogo'";
    assert_eq!(site.ask(told).await, "false");

    let required = Site::start_with(gated(GateUse::Require)).await;
    let view = required.up(&files).await;
    assert_end(&view, RunState::Failed, 1);
    let checks = texts(&view, EventKind::Check).join("\n");
    assert!(checks.contains("gonogo FAILED"), "{checks}");
    // The way back asks nobody.
    let forced = required
        .up_with(&files, |it| {
            it.force = true;
            it.reason = Some("night".to_owned());
        })
        .await;
    assert_end(&forced, RunState::Succeeded, 0);
}
