//! Somebody with a browser: he keeps cookies, clicks links, sends forms, and goes wherever he is sent.

use std::collections::BTreeMap;
use std::sync::Mutex;

use regex::Regex;
use reqwest::header::{COOKIE, SET_COOKIE};
use serde_json::Value;
use url::Url;

use crate::support::{Answer, World, answer};

pub struct Visitor {
    /// Where the broker listens, and where browsers believe it to be.
    base: String,
    public: String,
    client: reqwest::Client,
    cookies: Mutex<BTreeMap<String, String>>,
    /// Sent along to the broker.
    headers: Vec<(&'static str, String)>,
}

pub const SESSION: &str = "runner-broker";
pub const ATTEMPT: &str = "runner-broker-sign-in";

impl World {
    pub fn visitor(&self) -> Visitor {
        Visitor { public: self.config.http.public_url.to_string(), ..Visitor::of(&self.url) }
    }
}

impl Visitor {
    /// Of a broker that listens there.
    pub fn of(base: &str) -> Visitor {
        let none = reqwest::redirect::Policy::none();
        let client = reqwest::Client::builder().redirect(none).user_agent("a browser").build();
        Visitor {
            base: base.to_owned(),
            public: base.to_owned(),
            client: client.expect("a client"),
            cookies: Mutex::default(),
            headers: Vec::new(),
        }
    }

    pub fn with_header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    pub fn cookie(&self, name: &str) -> Option<String> {
        self.cookies.lock().unwrap().get(name).cloned()
    }

    pub fn set_cookie(&self, name: &str, value: &str) {
        self.cookies.lock().unwrap().insert(name.to_owned(), value.to_owned());
    }

    pub fn forget(&self, name: &str) {
        self.cookies.lock().unwrap().remove(name);
    }

    /// One request to the broker; what it sets is kept.
    async fn ask(&self, request: reqwest::RequestBuilder) -> Answer {
        let cookies: Vec<String> =
            self.cookies.lock().unwrap().iter().map(|(name, value)| format!("{name}={value}")).collect();
        let request =
            self.headers.iter().fold(request, |request, (name, value)| request.header(*name, value));
        let request = match cookies.is_empty() {
            true => request,
            false => request.header(COOKIE, cookies.join("; ")),
        };
        let answer = answer(request).await;
        for set in answer.headers.get_all(SET_COOKIE) {
            let set = set.to_str().expect("a cookie");
            let (pair, attributes) = set.split_once(';').expect("attributes");
            let (name, value) = pair.split_once('=').expect("a value");
            match attributes.contains("Max-Age=0") {
                true => self.forget(name),
                false => self.set_cookie(name, value),
            }
        }
        answer
    }

    /// A page of the broker's, by its path or by the address that it has outside.
    pub async fn get(&self, place: &str) -> Answer {
        self.ask(self.client.get(format!("{}{}", self.base, self.path(place)))).await
    }

    pub async fn post(&self, path: &str, fields: &[(&str, &str)], headers: &[(&str, &str)]) -> Answer {
        let request = self.client.post(format!("{}{path}", self.base)).form(fields);
        self.ask(headers.iter().fold(request, |request, (name, value)| request.header(*name, *value))).await
    }

    fn path(&self, place: &str) -> String {
        let path = place.strip_prefix(self.public.trim_end_matches('/')).unwrap_or(place);
        assert!(path.starts_with('/'), "{place} is not of the broker's");
        path.to_owned()
    }

    /// Finds the provider's link on the sign-in page and follows it; where that leads.
    pub async fn begin(&self, provider: &str, return_to: &str) -> String {
        let query: String =
            url::form_urlencoded::Serializer::new(String::new()).append_pair("return_to", return_to).finish();
        let page = self.get(&format!("/sign-in?{query}")).await;
        let link = Regex::new(&format!(r#"href="(/sign-in/{provider}\?[^"]*)""#)).expect("a pattern");
        let link = link.captures(&page.text).unwrap_or_else(|| panic!("no way to {provider}: {}", page.text));
        let answer = self.get(&unescaped(&link[1])).await;
        assert_eq!(answer.status, 303, "{}", answer.text);
        answer.header("location").to_owned()
    }

    /// Answers the provider's page; where that leads. `fields` are what is typed or pressed there.
    pub async fn choose(&self, authorize: &str, fields: &[(&str, &str)]) -> String {
        let page = answer(self.client.get(authorize)).await;
        let hidden =
            Regex::new(r#"<input type="hidden" name="([^"]*)" value="([^"]*)">"#).expect("a pattern");
        let form = page.text.rsplit("<form").next().unwrap_or_default();
        let hidden = hidden.captures_iter(form).map(|found| (unescaped(&found[1]), unescaped(&found[2])));
        let typed = fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let all: Vec<(String, String)> = hidden.chain(typed).collect();
        let to = Url::parse(authorize).expect("a URL");
        let to = format!("{}{}", to.origin().ascii_serialization(), to.path());
        let sent = answer(self.client.post(to).form(&all)).await;
        assert!(matches!(sent.status, 302 | 303), "{} {}", sent.status, sent.text);
        sent.header("location").to_owned()
    }

    /// All the way at dev's OpenID provider, up to the broker's answer to the callback.
    pub async fn arrive(&self, sub: &str, claims: Value, return_to: &str) -> Answer {
        let back = self.code_for(sub, claims, return_to).await;
        self.get(&back).await
    }

    /// As `arrive`, but stops before the callback: its address.
    pub async fn code_for(&self, sub: &str, claims: Value, return_to: &str) -> String {
        let authorize = self.begin("dev", return_to).await;
        self.choose(&authorize, &[("sub", sub), ("claims", &claims.to_string())]).await
    }

    /// Signed in for certain.
    pub async fn sign_in(&self, sub: &str, claims: Value) {
        let answer = self.arrive(sub, claims, "/").await;
        assert_eq!((answer.status, answer.header("location")), (303, "/"), "{}", answer.text);
    }

    pub async fn is_signed_in(&self) -> bool {
        match self.get("/").await.status {
            200 => true,
            303 => false,
            status => panic!("{status}"),
        }
    }

    /// The token in the forms of a page.
    pub async fn csrf_token(&self) -> String {
        let page = self.get("/").await;
        let token = Regex::new(r#"name="csrf_token" value="([^"]+)""#).expect("a pattern");
        token.captures(&page.text).expect("a form")[1].to_owned()
    }
}

pub fn unescaped(text: &str) -> String {
    text.replace("&quot;", "\"").replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
}

/// The `Set-Cookie` of this name.
pub fn set_cookie(answer: &Answer, name: &str) -> String {
    let all = answer.headers.get_all(SET_COOKIE).iter().map(|set| set.to_str().expect("a cookie"));
    let mut named = all.filter(|set| set.starts_with(&format!("{name}=")));
    named.next().unwrap_or_else(|| panic!("no {name}: {:?}", answer.headers)).to_owned()
}
