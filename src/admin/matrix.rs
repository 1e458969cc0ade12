//! Who may ask for what: every route and every role, written out by hand.

use std::collections::BTreeSet;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::AUTHORIZATION;
use hyper::{Request, StatusCode};

use super::access::{Access, Peer};
use super::router::{ROUTES, Route};
use super::routes::handle;
use super::tests::Fake;
use crate::client::admin::Came;
use crate::config::{Admin, AdminRole, Permission, Secret, Token, TokenHash, new_token};

/// The method, the path, the least role that may, and whether that takes a token on this machine too, as
/// `admin.local` is by default. A route that is not in here fails the tests: say who may ask for it.
const EXPECTED: &str = "
GET /healthz nobody local
GET /readyz nobody local
GET /metrics viewer local
GET /v1/status viewer local
GET /v1/events viewer local
GET /v1/databases/{db}/sessions viewer local
PUT /v1/databases/{db}/mode operator local
PUT /v1/databases/{db}/drain operator local
GET /v1/databases/{db}/precheck viewer local
PUT /v1/databases/{db}/cap operator local
POST /v1/databases/{db}/migrations migrator token
POST /v1/databases/{db}/migrations/status viewer local
POST /v1/databases/{db}/migrations/plan viewer local
POST /v1/databases/{db}/migrations/lint viewer local
POST /v1/databases/{db}/migrations/preflight migrator token
POST /v1/databases/{db}/migrations/rehearse migrator token
GET /v1/databases/{db}/migrations/backups viewer local
POST /v1/databases/{db}/migrations/backups/prune migrator token
POST /v1/databases/{db}/migrations/restore migrator token
POST /v1/databases/{db}/migrations/restore/in-place migrator token
POST /v1/databases/{db}/migrations/repair migrator token
POST /v1/databases/{db}/migrations/verify viewer local
POST /v1/databases/{db}/migrations/drift migrator token
GET /v1/databases/{db}/migrations/objects viewer local
POST /v1/databases/{db}/migrations/objects/replay migrator token
POST /v1/databases/{db}/migrations/unwatch migrator token
GET /v1/databases/{db}/migrations/report viewer local
GET /v1/databases/{db}/migrations viewer local
GET /v1/migrations/{id} viewer local
POST /v1/migrations/{id}/cancel operator local
POST /v1/migrations/{id}/ack operator local
POST /v1/databases/{db}/migrations/approvals admin token
GET /v1/databases/{db}/migrations/approvals viewer local
POST /v1/databases/{db}/migrations/approvals/revoke admin token
POST /v1/databases/{db}/migrations/gonogo migrator token
POST /v1/databases/{db}/migrations/decide migrator token
POST /v1/databases/{db}/windows operator local
GET /v1/databases/{db}/windows viewer local
GET /v1/windows/{id} viewer local
GET /v1/windows/{id}/events viewer local
POST /v1/windows/{id}/renew operator local
POST /v1/windows/{id}/finish operator local
POST /v1/windows/{id}/abort operator local
POST /v1/sessions/{id}/cancel operator local
POST /v1/sessions/{id}/terminate operator local
POST /v1/sessions/{id}/abort operator local
GET /v1/databases/{db}/mode viewer local
GET /v1/config viewer local
POST /v1/config/validate admin token
POST /v1/config/reload admin token
GET /openapi.json nobody local
GET / nobody local
GET /dashboard/{file} nobody local
GET /v1/databases/{db}/pace viewer local
GET /v1/databases/{db}/running viewer local
GET /v1/databases/{db}/statements viewer local
GET /v1/caller viewer local
PUT /v1/databases/{db}/statements operator local
";

/// What may be done on this machine by default.
const LOCAL: [Permission; 3] = [Permission::Look, Permission::Hold, Permission::Open];

/// The least role; nobody has to be anybody where there is none.
fn least(word: &str) -> Option<AdminRole> {
    (word != "nobody").then(|| word.parse().expect(word))
}

/// The words of the row that is for this route.
fn expected(route: &Route) -> (Option<AdminRole>, bool) {
    let name = format!("{} {} ", route.method, route.path);
    let row = EXPECTED.lines().find_map(|line| line.strip_prefix(&name));
    let row = row.unwrap_or_else(|| panic!("who may {name}? Write it into the table of this test"));
    let (role, local) = row.split_once(' ').expect(row);
    (least(role), local == "local")
}

#[test]
fn the_table_names_every_route_and_no_other() {
    let names = |it: &Route| format!("{} {}", it.method, it.path);
    let routes: BTreeSet<_> = ROUTES.iter().map(names).collect();
    let rows = EXPECTED.lines().filter(|line| !line.is_empty());
    let rows = rows.map(|line| line.splitn(3, ' ').take(2).collect::<Vec<_>>().join(" "));
    assert_eq!(rows.collect::<BTreeSet<_>>(), routes);
}

/// Who asks, and how.
struct Asker {
    token: Option<Secret>,
    local: bool,
}

/// The status of an answer to a request that says nothing but who asks.
async fn asked(route: &Route, access: &Access, asker: &Asker) -> StatusCode {
    let path = route.path.replace("{db}", "shop").replace("{id}", "x1");
    let mut request = Request::builder().method(&route.method).uri(path);
    if let Some(token) = &asker.token {
        request = request.header(AUTHORIZATION, format!("Bearer {}", token.expose()));
    }
    let request = request.body(Full::new(Bytes::new())).expect("well formed");
    let peer = Peer {
        came: Came {
            from: "127.0.0.1:5".to_owned(),
            ip: Some([127, 0, 0, 1].into()),
            local: asker.local,
        },
        names: None,
    };
    handle(request, &peer, access, &Fake::default())
        .await
        .status()
}

/// A configuration that knows each role by a token, and those tokens.
fn known() -> (Access, Vec<(AdminRole, Secret)>) {
    let roles = AdminRole::WORDS.iter().map(|it| it.parse().expect(it));
    let tokens: Vec<(AdminRole, Secret)> = roles.map(|role| (role, new_token())).collect();
    let of = |(role, token): &(AdminRole, Secret)| Token {
        name: role.to_string(),
        role: *role,
        sha256: TokenHash::of(token.expose()).expect("a token"),
        approves: Vec::new(),
        expires: None,
    };
    let admin = Admin {
        local: LOCAL.to_vec(),
        tokens: tokens.iter().map(of).collect(),
        ..Admin::default()
    };
    (Access::fixed(admin), tokens)
}

#[tokio::test]
async fn each_role_may_ask_for_what_it_should_and_for_nothing_else() {
    let order = |role: AdminRole| AdminRole::WORDS.iter().position(|it| *it == role.as_str());
    let (access, tokens) = known();
    for route in ROUTES {
        let (least, without) = expected(route);
        let name = format!("{} {}", route.method, route.path);
        for local in [true, false] {
            let token = None;
            let status = asked(route, &access, &Asker { token, local }).await;
            let may = least.is_none() || local && without;
            assert_eq!(status != StatusCode::UNAUTHORIZED, may, "{name} by nobody");
            assert_ne!(status, StatusCode::FORBIDDEN, "{name} by nobody");
            // Who shows a token is who it says, on this machine too.
            for (role, token) in &tokens {
                let token = Some(token.clone());
                let status = asked(route, &access, &Asker { token, local }).await;
                let may = least.is_none_or(|least| order(*role) >= order(least));
                assert_eq!(status != StatusCode::FORBIDDEN, may, "{name} by {role}");
                assert_ne!(status, StatusCode::UNAUTHORIZED, "{name} by {role}");
            }
        }
    }
}

#[tokio::test]
async fn a_token_that_is_not_known_is_told_so_until_there_are_too_many() {
    let (access, tokens) = known();
    let status = ROUTES.iter().find(|it| it.path == "/v1/status");
    let status = status.expect("a route");
    let asked = async |token: Secret, local: bool| {
        let asker = Asker {
            token: Some(token),
            local,
        };
        asked(status, &access, &asker).await
    };
    let mut answers = Vec::new();
    for at in 0..12 {
        // What may be done there without a token does not help.
        answers.push(asked(new_token(), at % 2 == 0).await);
    }
    let (unknown, many) = (StatusCode::UNAUTHORIZED, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(answers[..10], [unknown; 10]);
    assert_eq!(answers[10..], [many; 2]);
    let (_, known) = &tokens[0];
    assert_eq!(asked(known.clone(), false).await, StatusCode::OK);
}
