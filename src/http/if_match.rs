//! The `If-Match` header and the `ETag` that it quotes.

use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::http::header::{self, HeaderName};
use actix_web::{FromRequest, HttpRequest};
use utoipa::IntoParams;

use super::problem::Problem;
use crate::broker::policy::if_match::IfMatch;

/// The header of a change to something that is there.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
pub struct Seen {
    /// The `ETag` of what you saw; `*` for whatever is there. Without it: 428. If it has changed since: 412.
    #[param(rename = "If-Match", required, value_type = String, example = "\"0123456789abcdef0123456789abcdef\"")]
    pub seen: IfMatch,
}

impl FromRequest for Seen {
    type Error = Problem;
    type Future = Ready<Result<Seen, Problem>>;

    fn from_request(req: &HttpRequest, _: &mut Payload) -> Self::Future {
        let values = req.headers().get_all(header::IF_MATCH).filter_map(|value| value.to_str().ok());
        let named: Vec<&str> = values.flat_map(|value| value.split(',')).map(str::trim).collect();
        let seen = match (named.as_slice(), req.headers().contains_key(header::IF_MATCH)) {
            (_, false) => IfMatch::Missing,
            (["*"], true) => IfMatch::Any,
            // Weak ones never match (RFC 9110).
            (named, true) => IfMatch::Tags(
                named
                    .iter()
                    .filter_map(|tag| Some(tag.strip_prefix('"')?.strip_suffix('"')?.to_owned()))
                    .collect(),
            ),
        };
        ready(Ok(Seen { seen }))
    }
}

/// The header that says which version an answer shows.
pub fn etag(version: &str) -> (HeaderName, String) {
    (header::ETAG, format!("\"{version}\""))
}
