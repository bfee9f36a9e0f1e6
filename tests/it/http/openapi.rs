//! The OpenAPI document: as served, as committed, as answered.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{World, team};

const COMMITTED: &str = include_str!("../../../openapi/openapi.json");

fn document() -> Value {
    serde_json::from_str(COMMITTED).expect("JSON")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_document_as_served_is_the_one_that_is_committed() {
    let refresh = "refresh it: cargo run -- openapi > openapi/openapi.json";
    let made = runner_broker::http::openapi().to_pretty_json().unwrap();
    assert!(COMMITTED == format!("{made}\n"), "{refresh}");
    let world = World::new().await;
    let served = world.call(Method::GET, "/openapi.json", "", &[], None).await;
    assert_eq!(served.header("content-type"), "application/json");
    assert!(served.body == document(), "{refresh}");
}

/// (path, method, operation) of every call.
fn operations(document: &Value) -> Vec<(&str, &str, &Value)> {
    let paths = document["paths"].as_object().unwrap().iter();
    paths
        .flat_map(|(path, item)| {
            let methods = item.as_object().unwrap().iter();
            methods.map(move |(method, operation)| (path.as_str(), method.as_str(), operation))
        })
        .collect()
}

#[test]
fn every_call_has_a_tag_an_id_of_its_own_a_summary_and_its_refusals() {
    let document = document();
    assert_eq!(document["openapi"], "3.1.0");
    let operations = operations(&document);
    let ids: BTreeSet<&str> =
        operations.iter().map(|(_, _, call)| call["operationId"].as_str().unwrap()).collect();
    assert!(ids.len() == operations.len() && ids.len() >= 16, "{ids:?}");
    for (path, method, call) in operations {
        let what = format!("{method} {path}");
        assert_eq!(call["tags"].as_array().map(Vec::len), Some(1), "{what}");
        assert!(!call["summary"].as_str().unwrap_or_default().is_empty(), "{what}");
        let responses = call["responses"].as_object().unwrap();
        assert!(responses.values().all(|response| response["description"] != ""), "{what}");
        if !path.starts_with("/api/v1/") || path.starts_with("/api/v1/webhooks/") {
            assert_eq!(call["security"], json!([{}]), "{what} needs no token");
            continue;
        }
        assert!(call.get("security").is_none(), "{what} needs a token, as everything does");
        for range in ["4XX", "5XX"] {
            let schema = &responses[range]["content"]["application/problem+json"]["schema"];
            assert_eq!(schema["$ref"], "#/components/schemas/Problem", "{what}");
        }
    }
    assert_eq!(document["security"], json!([{ "oidc": [] }]));
}

#[test]
fn every_reference_leads_somewhere() {
    fn check(document: &Value, value: &Value) {
        match value {
            Value::Array(items) => items.iter().for_each(|item| check(document, item)),
            Value::Object(fields) => {
                if let Some(to) = fields.get("$ref").and_then(Value::as_str) {
                    assert!(document.pointer(to.trim_start_matches('#')).is_some(), "{to}");
                }
                fields.values().for_each(|field| check(document, field));
            }
            _ => {}
        }
    }
    check(&document(), &document());
}

/// What an answer of this call must be.
fn validator(path: &str, method: &str, status: &str) -> jsonschema::Validator {
    let mut root = document();
    let content = &root["paths"][path][method]["responses"][status]["content"];
    let (_, media) = content.as_object().and_then(|content| content.iter().next()).expect("a body");
    // The schema's references are to the whole document, so it stands at the document's root.
    root["allOf"] = json!([media["schema"]]);
    close(&mut root["components"]["schemas"]);
    jsonschema::draft202012::options().should_validate_formats(true).build(&root).expect("a schema")
}

/// Fields that the document does not know fail here; generated clients would drop them.
fn close(schemas: &mut Value) {
    for (name, schema) in schemas.as_object_mut().unwrap() {
        // Parts of `RunnerDetail` and `SecurityEvent`, which add fields.
        let is_part = ["Runner", "Event"].contains(&name.as_str());
        if schema.get("properties").is_some() && !is_part {
            schema["additionalProperties"] = json!(false);
        }
    }
}

#[track_caller]
pub fn fits(path: &str, method: &str, status: &str, body: &Value) {
    let validator = validator(path, method, status);
    let faults: Vec<String> =
        validator.iter_errors(body).map(|err| format!("{}: {err}", err.instance_path)).collect();
    assert!(faults.is_empty() && body.is_object(), "{method} {path} {status}: {faults:#?}\n{body:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_what_the_document_says() {
    let world = World::new().await;
    let named = |name: &str| json!({ "runner_name": name, "labels": ["docker"] });
    let jit = world.post("/api/v1/runners/jit", "blue", named("b1")).await;
    fits("/api/v1/runners/jit", "post", "201", &jit.body);
    let registered = world.post("/api/v1/runners/provision", "blue", named("b2")).await;
    fits("/api/v1/runners/provision", "post", "201", &registered.body);
    let refused = world.post("/api/v1/runners/jit", "blue", json!({ "labels": ["a,b"] })).await;
    fits("/api/v1/runners/jit", "post", "4XX", &refused.body);
    fits(
        "/api/v1/runners",
        "get",
        "4XX",
        &world.call(Method::GET, "/api/v1/runners", "", &[], None).await.body,
    );

    for (path, documented) in [
        ("/api/v1/runners", "/api/v1/runners"),
        ("/api/v1/runners?limit=1", "/api/v1/runners"),
        ("/api/v1/runners/b1", "/api/v1/runners/{id_or_name}"),
        ("/api/v1/audit", "/api/v1/audit"),
        ("/api/v1/auth/me", "/api/v1/auth/me"),
        ("/api/v1/auth/my-label-policy", "/api/v1/auth/my-label-policy"),
        ("/health", "/health"),
        ("/health/live", "/health/live"),
        ("/health/ready", "/health/ready"),
    ] {
        fits(documented, "get", "200", &world.get(path, "blue").await.body);
    }
    let one = "/api/v1/runners/{id_or_name}";
    let token = world.token("blue");
    let refreshed = world.call(Method::POST, "/api/v1/runners/b1/refresh", &token, &[], None).await;
    fits(&format!("{one}/refresh"), "post", "200", &refreshed.body);
    let remove = world.call(Method::POST, "/api/v1/runners/b2/remove-token", &token, &[], None).await;
    fits(&format!("{one}/remove-token"), "post", "201", &remove.body);
    for labels in [json!(["docker"]), json!(["gpu"])] {
        let ask = json!({ "method": "jit", "runner_name": "b3", "labels": labels });
        fits(
            "/api/v1/policy/explain",
            "post",
            "200",
            &world.post("/api/v1/policy/explain", "blue", ask).await.body,
        );
    }
    world
        .policy(
            &[team("blue", ""), "[[admin]]\nissuer = \"ISSUER\"\nclaims = { team = \"boss\" }\n".into()]
                .concat(),
        )
        .await;
    world.broker.flush_identities().await.unwrap();
    let refused =
        world.post("/api/v1/runners/jit", "blue", json!({ "runner_name": "b9", "labels": ["gpu"] })).await;
    assert_eq!(refused.status, 403);
    for path in ["/api/v1/admin/identities", "/api/v1/admin/security-events"] {
        let answer = world.get(path, "boss").await;
        fits(path, "get", "200", &answer.body);
        assert!(answer.body.as_object().unwrap().values().any(|list| list[0].is_object()), "{path}");
    }
    let listed = world.get("/api/v1/admin/identities?q=blue", "boss").await;
    let id = listed.body["identities"][0]["id"].as_str().unwrap().to_owned();
    for verb in ["deactivate", "activate"] {
        let comment = json!({ "comment": "because of the test" });
        let answer = world.post(&format!("/api/v1/admin/identities/{id}/{verb}"), "boss", comment).await;
        fits(&format!("/api/v1/admin/identities/{{id}}/{verb}"), "post", "200", &answer.body);
    }
    fits(one, "delete", "200", &world.delete("/api/v1/runners/b1", "blue").await.body);
}
