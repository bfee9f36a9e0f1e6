//! The `Idempotency-Key` header, and the fingerprint of the request that it was sent with.

use std::collections::BTreeMap;
use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use utoipa::IntoParams;

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

/// A request that an idempotency key may come with.
pub trait Canonical: Serialize + DeserializeOwned {
    /// The fields without a default.
    const REQUIRED: &'static [&'static str];
}

/// The fields that differ from their defaults, as JSON in the order of their names. A field that a later release adds
/// with a default changes nothing for the requests of before.
fn canonical<R: Canonical>(request: &R) -> String {
    let fields = fields(request);
    let required: BTreeMap<_, _> =
        fields.iter().filter(|(name, _)| R::REQUIRED.contains(&name.as_str())).collect();
    let smallest = serde_json::to_value(&required).and_then(serde_json::from_value::<R>);
    let defaults = self::fields(&smallest.expect("every field that is not required has a default"));
    let given: BTreeMap<_, _> = fields
        .iter()
        .filter(|(name, value)| required.contains_key(name) || defaults.get(*name) != Some(*value))
        .collect();
    serde_json::to_string(&given).expect("a map of texts to JSON is JSON")
}

fn fields(request: &impl Serialize) -> serde_json::Map<String, Value> {
    match serde_json::to_value(request) {
        Ok(Value::Object(fields)) => fields,
        other => unreachable!("a request is an object of texts, numbers and lists, not {other:?}"),
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
