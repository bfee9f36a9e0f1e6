//! npm `oidc-provider`: tokens as an OpenID provider makes them that nobody here wrote.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use reqwest::Method;
use runner_broker::config::Issuer;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::support::{Answer, World};
use crate::tools::{here, node_with};

const SCRIPT: &str = "oidc-provider.mjs";
const START: Duration = Duration::from_secs(30);

/// The provider on its port; it ends with this.
pub struct Provider {
    pub issuer: String,
    client: reqwest::Client,
    _process: Child,
}

impl Provider {
    pub async fn start(node: &Path) -> Provider {
        let mut process = Command::new(node)
            .arg(here(SCRIPT))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("a provider");
        let mut lines = BufReader::new(process.stdout.take().expect("its output")).lines();
        let line = tokio::time::timeout(START, lines.next_line()).await.expect("an issuer in time");
        let line = line.expect("its output").expect("an issuer, not the end");
        let started: Value = serde_json::from_str(&line).expect("a line of JSON");
        let issuer = started["issuer"].as_str().expect("an issuer").to_owned();
        Provider { issuer, client: reqwest::Client::new(), _process: process }
    }

    /// An access token that is signed with `algorithm`.
    async fn token(&self, algorithm: &str) -> String {
        let asked = self
            .client
            .post(format!("{}/token", self.issuer))
            .basic_auth("machine", Some("secret"))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(format!("grant_type=client_credentials&resource=urn:runner-broker:{algorithm}"));
        let answer: Value = asked.send().await.expect("an answer").json().await.expect("JSON");
        answer["access_token"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
    }

    async fn control(&self, what: &str) {
        let url = format!("{}/_control/{what}", self.issuer);
        let answer = self.client.post(url).send().await.expect("an answer");
        assert_eq!(answer.status(), 204);
    }

    /// A broker that trusts this provider and nobody else.
    async fn world(&self) -> World {
        let issuer = Issuer { issuer: self.issuer.clone(), audience: "runner-broker".into(), jwks_url: None };
        let world = World::with(|config| config.oidc.issuers = vec![issuer]).await;
        let policy = r#"
            [[team]]
            name = "blue"
            [[team.member]]
            issuer = "PROVIDER"
            claims = { team = "blue", client_id = "machine" }
        "#;
        world.policy(&policy.replace("PROVIDER", &self.issuer)).await;
        world
    }
}

async fn provision(world: &World, token: &str) -> Answer {
    let body = json!({ "runner_name_prefix": "peer" });
    world.call(Method::POST, "/api/v1/runners/jit", token, &[], Some(body)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_a_real_provider_give_runners_whether_signed_with_rsa_or_elliptic_curves() {
    let Some(node) = node_with("oidc-provider") else { return };
    let provider = Provider::start(&node).await;
    let world = provider.world().await;
    for algorithm in ["rs256", "es256"] {
        let token = provider.token(algorithm).await;
        let answer = provision(&world, &token).await;
        assert_eq!(answer.status, 201, "{algorithm}: {}", answer.text);
        world.github.connect_jit(answer.str("encoded_jit_config")).expect("a configuration that works");

        let me = world.call(Method::GET, "/api/v1/auth/me", &token, &[], None).await;
        assert_eq!((me.str("issuer"), me.str("subject")), (provider.issuer.as_str(), "machine"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_providers_rotation_is_followed_and_its_withdrawn_keys_are_refused() {
    let Some(node) = node_with("oidc-provider") else { return };
    let provider = Provider::start(&node).await;
    let world = provider.world().await;
    let old = [provider.token("rs256").await, provider.token("es256").await];
    for token in &old {
        assert_eq!(provision(&world, token).await.status, 201);
    }

    provider.control("rotate").await;
    // An issuer is not asked again sooner than this for a key that nobody knows.
    world.pass(11);
    let new = [provider.token("rs256").await, provider.token("es256").await];
    for token in old.iter().chain(&new) {
        let answer = provision(&world, token).await;
        assert_eq!(answer.status, 201, "both keys are published: {}", answer.text);
    }

    provider.control("withdraw").await;
    world.pass(301);
    world.verifier.refresh().await;
    for token in &old {
        assert_eq!(provision(&world, token).await.refusal(), (401, "INVALID_TOKEN"));
    }
    for token in &new {
        assert_eq!(provision(&world, token).await.status, 201);
    }
}
