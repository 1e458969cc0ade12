//! Sessions over HTTP: what is read from the query and the path.

use super::*;
use crate::admin::router::ROUTES;
use crate::admin::types::{
    Action, ActionRequest, CallerView, ConfigChecked, ConfigReloaded, ConfigView, Effect, IfMatch,
    ModeStates, SessionActed, Shutdown,
};

impl Surface for Fake {
    async fn act_on_session(
        &self,
        id: u64,
        action: Action,
        request: ActionRequest,
        caller: Caller,
    ) -> Result<SessionActed, ApiError> {
        assert!(caller.from.starts_with("127.0.0.1:"), "{caller:?}");
        if id != 7 {
            return Err(ApiError::not_found("It is gone."));
        }
        Ok(SessionActed {
            id,
            pid: None,
            database: "shop".to_owned(),
            user: "app".to_owned(),
            application_name: request.reason.unwrap_or_default(),
            client: request.by.unwrap_or_default(),
            action,
            effect: Effect::Asked,
            client_sees: String::new(),
        })
    }

    async fn lacks(&self, database: &str, doubted: bool) -> bool {
        database == "nowhere" || doubted && database == "dropped"
    }

    async fn mode(&self, databases: Databases) -> Result<ModeStates, ApiError> {
        let known = databases == Databases::One("shop".to_owned());
        let states = ModeStates {
            tag: "t1".to_owned(),
            databases: vec![],
        };
        known
            .then_some(states)
            .ok_or_else(|| ApiError::not_found("No such database."))
    }

    async fn set_mode_if(
        &self,
        databases: Databases,
        request: ModeRequest,
        answer: Answer,
        caller: Caller,
        condition: IfMatch,
    ) -> Result<ModeResults, ApiError> {
        let present = self.mode(databases.clone()).await?;
        match condition.holds(&present.tag) {
            true => self.set_mode(databases, request, answer, caller).await,
            false => Err(ApiError::changed(present)),
        }
    }

    async fn config(&self) -> ConfigView {
        ConfigView {
            file: None,
            settings: vec![],
        }
    }

    async fn validate_config(&self, text: String) -> ConfigChecked {
        ConfigChecked {
            valid: text.is_empty(),
            problems: vec![],
            warnings: vec![text],
            now: vec![],
            restart: vec![],
        }
    }

    async fn reload_config(
        &self,
        request: ActionRequest,
        _caller: Caller,
    ) -> Result<ConfigReloaded, ApiError> {
        match request.reason {
            None => Ok(ConfigReloaded {
                now: vec![],
                restart: vec![],
                warnings: vec![],
            }),
            Some(reason) => Err(ApiError::invalid_config(reason, vec![])),
        }
    }

    async fn shut_down(
        &self,
        how: Shutdown,
        _request: ActionRequest,
        _caller: Caller,
    ) -> Result<(), ApiError> {
        Err(ApiError::conflict("hand_over", how.what()))
    }

    fn replays(&self) -> &Replays {
        &self.replays
    }
}

#[tokio::test]
async fn a_mode_is_set_if_it_is_the_one_that_was_seen() {
    let server = server().await;
    let (status, head, _) = server.ask("GET /v1/databases/shop/mode", "").await;
    assert_eq!(status, 200);
    assert!(head.contains("etag: \"t1\""), "{head}");
    let put = async |condition: &str| {
        let request = request("PUT /v1/databases/shop/mode", r#"{"mode":"open"}"#);
        let header = format!("\r\nif-match: {condition}\r\n");
        server.raw(&request.replacen("\r\n", &header, 1)).await
    };
    for (condition, status) in [("\"t1\"", 202), ("*", 202), ("\"t0\"", 412), ("t1", 400)] {
        let (head, _) = put(condition).await;
        assert!(
            head.starts_with(&format!("HTTP/1.1 {status}")),
            "{condition}: {head}"
        );
    }
    let (head, body) = put("\"t0\"").await;
    assert!(head.contains("etag: \"t1\""), "{head}");
    let error: ErrorBody = serde_json::from_str(&body).expect(&body);
    assert_eq!(error.error.code, "changed");
    assert_eq!(error.present.expect("the present state").tag, "t1");
    assert_eq!(server.api.modes().len(), 2);
    // A change says what the mode is called now, for the next one.
    let (head, body) = put("\"t1\"").await;
    assert!(head.contains("etag: \"t2\""), "{head}");
    let results: ModeResults = serde_json::from_str(&body).expect(&body);
    assert_eq!(results.tag.as_deref(), Some("t2"));
}

#[tokio::test]
async fn what_is_no_database_is_not_found_whatever_is_asked_of_it() {
    let server = server().await;
    for route in ROUTES.iter().filter(|it| it.path.contains("{db}")) {
        let line = format!("{} {}", route.method, route.path.replace("{db}", "nowhere"));
        assert_eq!(
            server.refused(&line, "{}").await,
            code(404, "not_found"),
            "{line}"
        );
    }
    assert!(server.api.modes().is_empty());
    // What cannot be asked is unavailable, unless that is since it is gone.
    for (name, expected) in [
        ("shop", code(503, "not_known")),
        ("dropped", code(404, "not_found")),
    ] {
        let line = format!("GET /v1/databases/{name}/running?pids=7");
        let (status, _, body) = server.ask(&line, "").await;
        let error: ErrorBody = serde_json::from_str(&body).expect(&body);
        assert_eq!((status, error.error.code), expected, "{name}");
    }
}

#[tokio::test]
async fn whoever_asks_is_told_what_they_may_do() {
    let server = server().await;
    let (status, _, body) = server.ask("GET /v1/caller", "").await;
    assert_eq!(status, 200);
    let caller: CallerView = serde_json::from_str(&body).expect(&body);
    assert_eq!(caller.may, Permission::ALL);
    assert!(caller.sees_constants && caller.name.is_none(), "{caller:?}");
}

#[tokio::test]
async fn a_migration_is_started_once_under_its_key() {
    let server = server().await;
    let start = async |body: &str| {
        let request = request("POST /v1/databases/shop/migrations", body);
        let request = request.replacen("\r\n", "\r\nidempotency-key: k\r\n", 1);
        server.raw(&request).await
    };
    let up = r#"{"direction":"up","files":[]}"#;
    let (first, again) = (start(up).await, start(up).await);
    assert!(first.0.starts_with("HTTP/1.1 202"), "{first:?}");
    assert_eq!(first.1, again.1);
    let (head, body) = start(r#"{"direction":"down","files":[]}"#).await;
    assert!(head.starts_with("HTTP/1.1 422"), "{head}");
    assert!(body.contains("other_request"), "{body}");
}

#[tokio::test]
async fn a_configuration_is_checked_and_read_again() {
    let server = server().await;
    assert_eq!(server.ask("GET /v1/config", "").await.0, 200);
    let (_, _, body) = server.ask("POST /v1/config/validate", "a = 1").await;
    assert!(body.contains("\"a = 1\""), "{body}");
    assert_eq!(server.ask("POST /v1/config/reload", "").await.0, 200);
    let refused = server
        .refused("POST /v1/config/reload", r#"{"reason":"Bad."}"#)
        .await;
    assert_eq!(refused, code(422, "invalid_config"));
}

#[tokio::test]
async fn a_list_of_sessions_is_asked_for_by_its_query() {
    let server = server().await;
    let path = "GET /v1/databases/shop/sessions";
    let asked = async |query: &str| {
        let (status, _, body) = server.ask(&format!("{path}{query}"), "").await;
        assert_eq!(status, 200, "{query}: {body}");
        serde_json::from_str::<Sessions>(&body).expect(&body)
    };
    assert_eq!(asked("").await.total, 1000);
    let all = "?state=held&user=a%20b&application=&address=10.1.0.0/16&longer_than=5s&sort=held\
               &limit=7&cursor=xyz";
    let all = asked(all).await;
    assert_eq!(all.total, 7);
    let expected = r#"SessionsQuery { state: Some(Held), user: Some("a b"), application: Some(""), address: Some(Net(10.1.0.0/16)), longer_than: Some(HumanDuration(5s)), sort: Some(Held), limit: Some(7), cursor: Some("xyz") }"#;
    assert_eq!(all.next.as_deref(), Some(expected));
    for place in ["::1", "unix", "10.0.0.1"] {
        asked(&format!("?address={place}")).await;
    }
    for (query, hint) in [
        ("?limit=0", "from 1 to 1000"),
        ("?limit=1001", "from 1 to 1000"),
        ("?limit=-1", "limit"),
        ("?state=asleep", "in_transaction"),
        ("?sort=age", "transaction, held"),
        ("?address=example.com", "no address"),
        ("?longer_than=5", "longer_than"),
        ("?usr=app", "application"),
    ] {
        let (status, _, body) = server.ask(&format!("{path}{query}"), "").await;
        assert_eq!(status, 400, "{query}: {body}");
        assert!(body.contains(hint), "{query}: {body}");
    }
}

#[tokio::test]
async fn one_session_is_acted_on() {
    let server = server().await;
    for action in Action::WORDS {
        let line = format!("POST /v1/sessions/7/{action}");
        let (status, _, body) = server.ask(&line, r#"{"reason":"slow","by":"anna"}"#).await;
        let acted: SessionActed = serde_json::from_str(&body).expect(&body);
        let got = (
            acted.action.as_str(),
            &*acted.application_name,
            &*acted.client,
        );
        assert_eq!((status, got), (200, (*action, "slow", "anna")));
        assert_eq!(server.ask(&line, "").await.0, 200);
        let gone = server.refused(&line.replace('7', "8"), "").await;
        assert_eq!(gone, code(404, "not_found"));
        let no_number = server.refused(&line.replace('7', "x"), "").await;
        assert_eq!(no_number, code(400, "bad_request"));
        let misspelt = server.refused(&line, r#"{"raeson":"slow"}"#).await;
        assert_eq!(misspelt, code(400, "bad_request"));
    }
}
