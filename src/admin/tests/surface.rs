//! Sessions over HTTP: what is read from the query and the path.

use super::*;
use crate::admin::types::{Action, ActionRequest, Effect, SessionActed};

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
