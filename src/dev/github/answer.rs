//! A request as the operations see it and an answer as the server sends it. Knows no actix.

use serde::Serialize;
use serde_json::{Value, json};

/// What GitHub looks at in a request; the prefix `/api/v3` is already off the path.
pub(super) struct Request<'a> {
    pub method: &'a str,
    pub path: &'a str,
    pub query: &'a str,
    /// What stands behind `Bearer` or `token`.
    pub bearer: Option<&'a str>,
    pub if_none_match: Option<&'a str>,
    pub has_user_agent: bool,
    /// Whether JSON is asked for by name.
    pub wants_json: bool,
    pub body: &'a [u8],
    /// How the caller reached us, prefix included: what `Link` begins with.
    pub base: &'a str,
}

impl Request<'_> {
    /// The last value of a query parameter, decoded.
    pub fn param(&self, name: &str) -> Option<String> {
        url::form_urlencoded::parse(self.query.as_bytes())
            .filter(|(key, _)| key == name)
            .last()
            .map(|(_, value)| value.into_owned())
    }

    /// The body as an object; an empty body is an empty one.
    pub fn json(&self) -> Result<Value, Answer> {
        if self.body.is_empty() {
            return Ok(json!({}));
        }
        match serde_json::from_slice(self.body) {
            Ok(value @ Value::Object(_)) => Ok(value),
            Ok(_) => Err(Answer::error(400, "Body should be a JSON object")),
            Err(_) => Err(Answer::error(400, "Problems parsing JSON")),
        }
    }
}

/// Status, headers and body, complete before a byte is sent.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn empty(status: u16) -> Answer {
        Answer { status, headers: Vec::new(), body: Vec::new() }
    }

    pub fn json(status: u16, body: &(impl Serialize + ?Sized)) -> Answer {
        // Only maps with keys that are no text fail to serialize, and there are none here.
        let body = serde_json::to_vec(body).unwrap_or_default();
        Answer { status, headers: Vec::new(), body }.with("content-type", "application/json; charset=utf-8")
    }

    /// GitHub's basic error.
    pub fn error(status: u16, message: &str) -> Answer {
        let url = "https://docs.github.com/rest";
        Answer::json(
            status,
            &json!({ "message": message, "documentation_url": url, "status": status.to_string() }),
        )
    }

    pub fn not_found() -> Answer {
        Answer::error(404, "Not Found")
    }

    /// The page that GitHub's front shows when it is unwell.
    pub fn html(status: u16) -> Answer {
        let page = "<!DOCTYPE html><html><head><title>Unicorn! &middot; GitHub</title></head>\
                    <body><p>We had issues producing the response to your request.</p></body></html>";
        Answer { status, headers: Vec::new(), body: page.into() }
            .with("content-type", "text/html; charset=utf-8")
    }

    pub fn with(mut self, name: &str, value: impl Into<String>) -> Answer {
        self.headers.push((name.to_owned(), value.into()));
        self
    }
}
