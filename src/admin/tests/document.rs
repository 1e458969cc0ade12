//! The document of the routes and the table of the routes agree, both ways.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::admin::router::ROUTES;

fn document() -> Value {
    serde_json::from_str(include_str!("../openapi.json")).expect("JSON")
}

/// The operations of the document: method, path and what is said there.
fn operations(document: &Value) -> Vec<(String, String, &Value)> {
    let paths = document["paths"].as_object().expect("paths");
    let operations = paths.iter().flat_map(|(path, methods)| {
        let methods = methods.as_object().expect("methods").iter();
        methods.map(move |(method, said)| (method.to_uppercase(), path.clone(), said))
    });
    operations.collect()
}

#[test]
fn every_route_is_in_the_document_and_nothing_else_is() {
    let document = document();
    let said: BTreeSet<_> = operations(&document)
        .iter()
        .map(|(method, path, _)| format!("{method} {path}"))
        .collect();
    // What is for browsers is no part of the API.
    let for_programs = |path: &str| {
        path.starts_with("/v1/")
            || ["/healthz", "/readyz", "/metrics", "/openapi.json"].contains(&path)
    };
    let routes: BTreeSet<_> = ROUTES
        .iter()
        .filter(|route| for_programs(route.path))
        .map(|route| format!("{} {}", route.method, route.path))
        .collect();
    let missing: Vec<_> = routes.difference(&said).collect();
    let invented: Vec<_> = said.difference(&routes).collect();
    assert!(
        missing.is_empty() && invented.is_empty(),
        "src/admin/openapi.json lacks {missing:?} and has {invented:?}"
    );
}

#[test]
fn every_operation_says_what_it_takes_and_gives() {
    let document = document();
    let mut names = BTreeSet::new();
    for (method, path, said) in operations(&document) {
        let what = format!("{method} {path}");
        assert!(
            names.insert(said["operationId"].as_str().expect(&what)),
            "{what}: a name twice"
        );
        assert!(said["summary"].is_string(), "{what}");
        let route = ROUTES
            .iter()
            .find(|it| it.path == path && it.method == *method);
        let route = route.expect(&what);
        let answers = said["responses"].as_object().expect(&what);
        // One error body for all that is not named.
        assert_eq!(
            answers["default"]["$ref"], "#/components/responses/Error",
            "{what}"
        );
        assert!(
            answers.keys().any(|status| status.starts_with('2')),
            "{what}"
        );
        let needs_something = !route.needs.is_empty();
        assert_eq!(answers.contains_key("401"), needs_something, "{what}");
        assert_eq!(answers.contains_key("403"), needs_something, "{what}");
        assert_eq!(said["security"].is_null(), needs_something, "{what}");
        for permission in route.needs {
            let description = said["description"].as_str().expect(&what);
            assert!(
                description.contains(permission.as_str()),
                "{what}: {permission}"
            );
        }
        let parameters = said["parameters"].as_array().cloned().unwrap_or_default();
        let in_path = parameters.iter().filter(|it| {
            let name = it["$ref"].as_str().and_then(|it| it.rsplit('/').next());
            name.is_some_and(|it| document["components"]["parameters"][it]["in"] == "path")
        });
        assert_eq!(in_path.count(), path.matches('{').count(), "{what}");
    }
}

#[test]
fn every_reference_leads_somewhere_and_every_part_is_used() {
    let document = document();
    let mut used = BTreeSet::new();
    references(&document, &mut used);
    for reference in &used {
        let pointer = reference
            .strip_prefix('#')
            .expect("a part of this document");
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
    for kind in ["parameters", "responses", "headers", "schemas"] {
        let parts = document["components"][kind].as_object().expect(kind);
        for name in parts.keys() {
            let reference = format!("#/components/{kind}/{name}");
            assert!(used.contains(&reference), "nobody uses {reference}");
        }
    }
}

fn references(value: &Value, into: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            if let Some(Value::String(reference)) = fields.get("$ref") {
                into.insert(reference.clone());
            }
            fields.values().for_each(|value| references(value, into));
        }
        Value::Array(values) => values.iter().for_each(|value| references(value, into)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
