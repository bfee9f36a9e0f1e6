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

/// The part of `total` things that this page holds, and the `Link` to the others.
pub(super) fn paged(request: &Request, total: usize) -> (std::ops::Range<usize>, Option<String>) {
    let number = |name: &str| request.param(name).and_then(|text| text.parse::<usize>().ok());
    let per_page = number("per_page").filter(|&n| n > 0).unwrap_or(30).min(100);
    let page = number("page").filter(|&n| n > 0).unwrap_or(1);
    let last = total.div_ceil(per_page).max(1);
    let start = (page - 1).saturating_mul(per_page).min(total);
    let end = start.saturating_add(per_page).min(total);

    let filters = url::form_urlencoded::parse(request.query.as_bytes());
    let filters: Vec<_> = filters.filter(|(key, _)| key != "page" && key != "per_page").collect();
    let to = |page: usize, rel: &str| {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(&filters);
        query.append_pair("per_page", &per_page.to_string()).append_pair("page", &page.to_string());
        format!("<{}{}?{}>; rel=\"{rel}\"", request.base, request.path, query.finish())
    };
    let mut links = Vec::new();
    if page > 1 {
        links.extend([to((page - 1).min(last), "prev"), to(1, "first")]);
    }
    if page < last {
        links.extend([to(page + 1, "next"), to(last, "last")]);
    }
    (start..end, (!links.is_empty()).then(|| links.join(", ")))
}

/// Adds the `Link` header, if there is one.
pub(super) fn linked(answer: Answer, link: Option<String>) -> Answer {
    match link {
        Some(link) => answer.with("link", link),
        None => answer,
    }
}
