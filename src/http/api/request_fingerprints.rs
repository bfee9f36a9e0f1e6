//! Tests of the fingerprints of requests, which idempotency keys are compared by.

use serde_json::{Value, json};

use super::request::{ExplainRequest, JitRequest, ProvisionRequest};
use crate::http::idempotency::Canonical;
use crate::http::idempotency::IdempotencyKey;
use crate::model::sha256;
use crate::store::idempotency::Key;

fn of<R: Canonical>(method: &str, body: Value) -> Key {
    let request: R = serde_json::from_value(body).unwrap();
    IdempotencyKey::given(Some("k")).for_request(method, &request).unwrap()
}

#[test]
fn fingerprints_are_the_same_in_every_release() {
    let jit = of::<JitRequest>("jit", json!({ "runner_name": "ci-1", "labels": ["gpu"], "os": "windows" }));
    let body = json!({ "runner_name_prefix": "vm", "ephemeral": false, "team": "ml" });
    let token = of::<ProvisionRequest>("registration_token", body);
    let console = of::<ExplainRequest>("console", json!({ "method": "jit", "runner_name": "ci-1" }));
    assert_eq!(
        [jit.fingerprint, token.fingerprint, console.fingerprint],
        [
            "v2:7269bd6ef42e0d99786a0f9ce0033202b7ed57273399846f265787806692190e",
            "v2:bd18a5e3c29795beb8ddc1b76979eaae08043b2d02bded85b47e30577e86aaba",
            "v2:0de6e1a83b151ba6f47c131dabf79f475447585578609a29dc1c1e67907bcb25",
        ]
    );
}

#[test]
fn former_fingerprints_are_those_of_release_0_1() {
    let jit = of::<JitRequest>("jit", json!({ "runner_name": "ci-1", "labels": ["gpu"] }));
    let all = r#"{"runner_name":"ci-1","runner_name_prefix":null,"labels":["gpu"],"runner_group_id":null,"runner_group":null,"team":null,"organization":null,"repository":null,"os":"linux","arch":"x64","work_folder":"_work"}"#;
    assert_eq!(jit.former_fingerprint, Some(sha256(format!("jit\n{all}"))));
}

#[test]
fn a_default_that_is_given_is_the_same_request_as_one_that_is_left_out() {
    let defaults = json!({
        "runner_name": "ci-1", "runner_name_prefix": null, "labels": [], "runner_group_id": null,
        "runner_group": null, "team": null, "organization": null, "repository": null, "os": "linux",
        "arch": "x64", "work_folder": "_work",
    });
    let short = of::<JitRequest>("jit", json!({ "runner_name": "ci-1" }));
    assert_eq!(of::<JitRequest>("jit", defaults.clone()).fingerprint, short.fingerprint);
    let mut with_flags = defaults;
    with_flags["ephemeral"] = true.into();
    with_flags["disable_update"] = false.into();
    let short = of::<ProvisionRequest>("registration_token", json!({ "runner_name": "ci-1" }));
    assert_eq!(of::<ProvisionRequest>("registration_token", with_flags).fingerprint, short.fingerprint);
}

#[test]
fn different_requests_have_different_fingerprints() {
    let bodies = [
        json!({ "runner_name": "ci-1" }),
        json!({ "runner_name": "ci-2" }),
        json!({ "runner_name_prefix": "ci-1" }),
        json!({ "runner_name": "ci-1", "labels": ["a"] }),
        json!({ "runner_name": "ci-1", "labels": ["a", "b"] }),
        json!({ "runner_name": "ci-1", "labels": ["a,b"] }),
        json!({ "runner_name": "ci-1", "team": "a" }),
        json!({ "runner_name": "ci-1", "os": "macos" }),
    ];
    let mut fingerprints: Vec<_> =
        bodies.map(|body| of::<JitRequest>("jit", body).fingerprint).into_iter().collect();
    fingerprints
        .push(of::<ProvisionRequest>("registration_token", json!({ "runner_name": "ci-1" })).fingerprint);
    let count = fingerprints.len();
    fingerprints.sort();
    fingerprints.dedup();
    assert_eq!(fingerprints.len(), count);
}
