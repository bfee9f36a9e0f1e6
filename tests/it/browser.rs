//! Somebody who is signed in to the console, as his browser speaks for him.

#![allow(dead_code, reason = "each test binary uses its part")]

use reqwest::header::COOKIE;
use runner_broker::broker::people::caller::Origin;
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use crate::support::{Answer, World, answer};

pub struct Browser<'a> {
    world: &'a World,
    client: reqwest::Client,
    cookie: String,
}

impl World {
    /// Signed in with the claim `team`, as `token` is made.
    pub async fn signed_in(&self, team: &str) -> Browser<'_> {
        self.signed_in_as(json!({ "sub": format!("{team}-user"), "team": team })).await
    }

    /// Signed in with these claims.
    pub async fn signed_in_as(&self, claims: Value) -> Browser<'_> {
        let verified = self.verifier.verify(&self.issuer.mint(claims)).await.expect("a good token");
        let session =
            self.broker.begin_session("test", verified, None, Origin::default()).await.expect("a session");
        Browser::with(self, &format!("runner-broker={}", session.expose_secret()))
    }
}

impl<'a> Browser<'a> {
    /// With this cookie; follows no redirect.
    pub fn with(world: &'a World, cookie: &str) -> Browser<'a> {
        let none = reqwest::redirect::Policy::none();
        let client = reqwest::Client::builder().redirect(none).build().expect("a client");
        Browser { world, client, cookie: cookie.to_owned() }
    }

    pub async fn get(&self, path: &str) -> Answer {
        answer(self.ask(path)).await
    }

    /// A GET that is not sent yet.
    pub fn ask(&self, path: &str) -> reqwest::RequestBuilder {
        self.client.get(format!("{}{path}", self.world.url)).header(COOKIE, &self.cookie)
    }

    /// Sends a form without any token of its page.
    pub async fn post_bare(&self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let url = format!("{}{path}", self.world.url);
        answer(self.client.post(url).header(COOKIE, &self.cookie).form(fields)).await
    }

    /// What becomes of a request, whose answer may never end.
    pub async fn status_of(&self, request: reqwest::RequestBuilder) -> u16 {
        request.header(COOKIE, &self.cookie).send().await.expect("an answer").status().as_u16()
    }

    /// The token that the forms of his pages hold; empty if he gets none.
    pub async fn csrf_token(&self, from: &str) -> String {
        let page = self.get(from).await;
        let token = page.text.split(r#"name="csrf_token" value=""#).nth(1).unwrap_or_default();
        token.split('"').next().unwrap_or_default().to_owned()
    }

    pub fn client(&self) -> &reqwest::Client {
        &self.client
    }

    /// Sends a form with the token that the page at `from` holds.
    pub async fn submit(&self, from: &str, path: &str, fields: &[(&str, &str)]) -> Answer {
        let token = self.csrf_token(from).await;
        assert!(!token.is_empty(), "{from} has no form");
        let fields: Vec<_> = fields.iter().copied().chain([("csrf_token", token.as_str())]).collect();
        self.post_bare(path, &fields).await
    }
}
