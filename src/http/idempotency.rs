//! The `Idempotency-Key` header, and the fingerprint of the request that it was sent with.

use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest};
use serde::Serialize;
use utoipa::IntoParams;

use super::api::request::{Canonical, canonical};
use super::problem::{FieldError, Problem};
use crate::model::{sha256, sha256_of_parts};
use crate::store::idempotency::Key;

/// The header of a provision.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
pub struct IdempotencyKey {
    /// 1 to 255 printable ASCII characters. The same key from the same caller within 24 hours never leaves two
    /// runners alive: a repeat replaces the unstarted runner and hands out fresh credentials.
    #[param(rename = "Idempotency-Key", min_length = 1, max_length = 255)]
    key: Option<String>,
}

impl IdempotencyKey {
    /// The key in a form of the console.
    pub fn given(key: Option<&str>) -> IdempotencyKey {
        let fits = |key: &&str| (1..=255).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic());
        IdempotencyKey { key: key.filter(fits).map(str::to_owned) }
    }

    /// The key with the fingerprint of the request, so that it cannot be used for another one. `method` is the kind of
    /// the request: equal bodies of different kinds are different requests.
    pub fn for_request<R: Canonical>(self, method: &str, request: &R) -> Option<Key> {
        let key = self.key?;
        let fingerprint = fingerprint(method, &canonical(request));
        let former_fingerprint = Some(former_fingerprint(method, request));
        Some(Key { key, fingerprint, former_fingerprint })
    }
}

/// `v2:` and the SHA-256 of the kind and the canonical form of a request. A change of this form needs another version,
/// and the former one has to be recognised for as long as keys are kept (24 hours).
fn fingerprint(method: &str, canonical: &str) -> String {
    format!("v2:{}", sha256_of_parts([method, canonical]))
}

/// The fingerprint without a version: the SHA-256 of all fields, defaults and nulls included. Replicas of 0.1 wrote it.
/// It can go once no such replica has run for 24 hours, and with it `former_fingerprint` in the store.
fn former_fingerprint(method: &str, request: &impl Serialize) -> String {
    let request = serde_json::to_string(request).expect("a request has only texts, numbers and lists");
    sha256(format!("{method}\n{request}"))
}

impl FromRequest for IdempotencyKey {
    type Error = Problem;
    type Future = Ready<Result<IdempotencyKey, Problem>>;

    fn from_request(req: &HttpRequest, _: &mut Payload) -> Self::Future {
        let Some(value) = req.headers().get("idempotency-key") else {
            return ready(Ok(IdempotencyKey { key: None }));
        };
        let key = value.to_str().ok().map(str::trim).filter(|key| (1..=255).contains(&key.len()));
        ready(match key {
            Some(key) => Ok(IdempotencyKey { key: Some(key.to_owned()) }),
            None => {
                let message = "1 to 255 printable ASCII characters";
                Err(Problem::invalid(vec![FieldError::new("Idempotency-Key", message)]))
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::http::api::request::{ExplainRequest, JitRequest, ProvisionRequest};

    fn of<R: Canonical>(method: &str, body: Value) -> Key {
        let request: R = serde_json::from_value(body).unwrap();
        IdempotencyKey::given(Some("k")).for_request(method, &request).unwrap()
    }

    #[test]
    fn fingerprints_are_the_same_in_every_release() {
        let jit =
            of::<JitRequest>("jit", json!({ "runner_name": "ci-1", "labels": ["gpu"], "os": "windows" }));
        let body = json!({ "runner_name_prefix": "vm", "ephemeral": false, "team": "ml" });
        let token = of::<ProvisionRequest>("registration_token", body);
        let console = of::<ExplainRequest>("console", json!({ "method": "jit", "runner_name": "ci-1" }));
        assert_eq!(
            [jit.fingerprint, token.fingerprint, console.fingerprint],
            ["GOLDEN1", "GOLDEN2", "GOLDEN3",]
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
}
