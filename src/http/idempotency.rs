//! The `Idempotency-Key` header, and the fingerprint of what it was sent for.

use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest};
use aws_lc_rs::digest::{SHA256, digest};
use serde::Serialize;
use utoipa::IntoParams;

use super::problem::{FieldError, Problem};
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
    /// As a form of ours holds it.
    pub fn given(key: Option<&str>) -> IdempotencyKey {
        let fits = |key: &&str| (1..=255).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic());
        IdempotencyKey { key: key.filter(fits).map(str::to_owned) }
    }

    /// The key with the SHA-256 of what is asked, so that it cannot be used for something else.
    pub fn for_request(self, method: &str, request: &impl Serialize) -> Option<Key> {
        let key = self.key?;
        let request = serde_json::to_string(request).unwrap_or_default();
        let fingerprint = hex::encode(digest(&SHA256, format!("{method}\n{request}").as_bytes()));
        Some(Key { key, fingerprint })
    }
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
