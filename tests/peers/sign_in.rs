//! People who sign in at npm `oidc-provider`, through its own pages.

use std::collections::BTreeMap;

use reqwest::header::{COOKIE, LOCATION, SET_COOKIE};
use runner_broker::broker::people::caller::Origin;
use runner_broker::config::{Login, LoginKind};
use runner_broker::model::Role;

use crate::openid_provider::Provider;
use crate::support::World;
use crate::tools::node_with;

/// Where the broker is for browsers; what goes there is sent to where it listens.
const PUBLIC: &str = "http://127.0.0.1/";
const SESSION: &str = "runner-broker";
const ATTEMPT: &str = "runner-broker-sign-in";

/// A browser that is sent around between the two and keeps their cookies, which are called differently.
struct Browser<'a> {
    world: &'a World,
    client: reqwest::Client,
    cookies: BTreeMap<String, String>,
}

struct Page {
    status: u16,
    url: String,
    /// Where a redirect leads.
    next: Option<String>,
    text: String,
}

impl<'a> Browser<'a> {
    fn new(world: &'a World) -> Browser<'a> {
        let none = reqwest::redirect::Policy::none();
        let client = reqwest::Client::builder().redirect(none).build().expect("a client");
        Browser { world, client, cookies: BTreeMap::new() }
    }

    async fn ask(&mut self, url: &str, form: Option<&[(&str, &str)]>) -> Page {
        let to = match url.strip_prefix(PUBLIC) {
            Some(path) => format!("{}/{path}", self.world.url),
            None => url.to_owned(),
        };
        let request = match form {
            None => self.client.get(&to),
            Some(fields) => self.client.post(&to).form(fields),
        };
        let cookies: Vec<String> =
            self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let answer = request.header(COOKIE, cookies.join("; ")).send().await.expect("an answer");
        for set in answer.headers().get_all(SET_COOKIE) {
            let (pair, _) = set.to_str().expect("a cookie").split_once(';').expect("attributes");
            let (name, value) = pair.split_once('=').expect("a value");
            match value {
                "" => self.cookies.remove(name),
                value => self.cookies.insert(name.to_owned(), value.to_owned()),
            };
        }
        let base = url::Url::parse(url).expect("a URL");
        let next =
            answer.headers().get(LOCATION).map(|to| base.join(to.to_str().expect("a URL")).expect("a URL"));
        Page {
            status: answer.status().as_u16(),
            url: url.to_owned(),
            next: next.map(String::from),
            text: answer.text().await.expect("a page"),
        }
    }

    /// Goes on until there is a page, or the broker's callback is next.
    async fn follow(&mut self, mut page: Page) -> Page {
        while let Some(next) = page.next.clone().filter(|next| !next.contains("/callback?")) {
            page = self.ask(&next, None).await;
        }
        page
    }

    /// Through the provider's pages as `login`; the callback's address.
    async fn callback(&mut self, login: &str) -> String {
        let begun = self.ask(&format!("{PUBLIC}sign-in/peer?return_to=/"), None).await;
        let mut page = self.follow(begun).await;
        for fields in
            [&[("prompt", "login"), ("login", login), ("password", "x")][..], &[("prompt", "consent")]]
        {
            assert_eq!(page.status, 200, "{}", page.text);
            let url = page.url.clone();
            let sent = self.ask(&url, Some(fields)).await;
            page = self.follow(sent).await;
        }
        page.next.unwrap_or_else(|| panic!("{} {}", page.status, page.text))
    }
}

async fn world(provider: &Provider, client_id: &str) -> World {
    let login = Login {
        id: "peer".into(),
        name: "Peer".into(),
        kind: LoginKind::OpenId { issuer: provider.issuer.clone() },
        client_id: client_id.into(),
        client_secret: Some("secret".into()),
        scopes: ["openid", "email", "groups"].map(str::to_owned).to_vec(),
        audience: None,
    };
    let world = World::with(|config| config.logins = vec![login]).await;
    let policy = format!(
        "[[team]]\nname = \"blue\"\n[[team.member]]\nissuer = \"{0}\"\nclaims = {{ groups = \"people\" }}\n\
         [[admin]]\nissuer = \"{0}\"\nclaims = {{ groups = \"admins\" }}\n",
        provider.issuer
    );
    world.policy(&policy).await;
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn people_sign_in_at_a_real_provider_and_are_who_it_says() {
    let Some(node) = node_with("oidc-provider") else { return };
    let provider = Provider::start(&node).await;
    // One that takes its client's secret in a header and signs with RSA; one that does neither.
    for client_id in ["console", "console-es256"] {
        let world = world(&provider, client_id).await;
        for (login, is_admin) in [("carol", true), ("alice", false)] {
            let mut browser = Browser::new(&world);
            let back = browser.callback(login).await;
            let done = browser.ask(&back, None).await;
            assert_eq!((done.status, done.next.as_deref()), (303, Some(PUBLIC)), "{}", done.text);
            let page = browser.ask(PUBLIC, None).await;
            assert!(
                page.status == 200 && page.text.contains(&format!("{login}@example.com")),
                "{}",
                page.text
            );
            let token = browser.cookies[SESSION].clone().into();
            let session = world.broker.session(&token, Origin::default()).await.expect("a database");
            let caller = session.expect("a session").caller;
            assert_eq!((caller.has(Role::Admin), caller.teams().count()), (is_admin, usize::from(!is_admin)));
            assert_eq!(caller.identity.issuer, provider.issuer);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_provider_refuses_a_code_twice_and_without_its_verifier() {
    let Some(node) = node_with("oidc-provider") else { return };
    let provider = Provider::start(&node).await;
    let world = world(&provider, "console").await;
    let mut browser = Browser::new(&world);
    let back = browser.callback("alice").await;
    let attempt = browser.cookies[ATTEMPT].clone();
    assert_eq!(browser.ask(&back, None).await.status, 303);
    browser.cookies.insert(ATTEMPT.into(), attempt);
    let again = browser.ask(&back, None).await;
    assert!(again.status == 403 && again.text.contains("invalid_grant"), "{}", again.text);

    // The code of one attempt with all else of another: PKCE.
    let (mut thief, mut victim) = (Browser::new(&world), Browser::new(&world));
    let (own, stolen) = (thief.callback("mallory").await, victim.callback("alice").await);
    let code = |url: &str| {
        let url = url::Url::parse(url).expect("a URL");
        url.query_pairs().find(|(name, _)| name == "code").expect("a code").1.into_owned()
    };
    let mixed = thief.ask(&own.replace(&code(&own), &code(&stolen)), None).await;
    assert!(mixed.status == 403 && mixed.text.contains("invalid_grant"), "{}", mixed.text);
    assert!(!thief.cookies.contains_key(SESSION));
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_turns_back_at_a_real_provider_is_told_so() {
    let Some(node) = node_with("oidc-provider") else { return };
    let provider = Provider::start(&node).await;
    let world = world(&provider, "console").await;
    let mut browser = Browser::new(&world);
    let begun = browser.ask(&format!("{PUBLIC}sign-in/peer"), None).await;
    let page = browser.follow(begun).await;
    let url = format!("{}/abort", page.url);
    let sent = browser.ask(&url, None).await;
    let back = browser.follow(sent).await.next.expect("a way back");
    let page = browser.ask(&back, None).await;
    assert!(page.status == 403 && page.text.contains("access_denied"), "{} {}", page.status, page.text);
}
