//! Who may ask for what: every route and every role, written out by hand.

use std::collections::BTreeSet;

use super::caller::Caller;
use super::router::{ROUTES, Route};
use crate::config::{AdminRole, Permission};

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

#[test]
fn each_role_may_ask_for_what_it_should_and_for_nothing_else() {
    let order = |role: AdminRole| AdminRole::WORDS.iter().position(|it| *it == role.as_str());
    for route in ROUTES {
        let (least, local) = expected(route);
        let name = format!("{} {}", route.method, route.path);
        let may = |caller: &Caller| caller.may(route.needs).is_ok();
        assert_eq!(may(&Caller::unnamed("", &[])), least.is_none(), "{name}");
        assert_eq!(may(&Caller::unnamed("", &LOCAL)), local, "{name}");
        for role in AdminRole::WORDS.iter().map(|it| it.parse().expect(it)) {
            let expected = least.is_none_or(|least| order(role) >= order(least));
            let caller = Caller::known("", "somebody", role);
            assert_eq!(may(&caller), expected, "{name} by {role}");
        }
    }
}
