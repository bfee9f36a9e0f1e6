//! A configuration for the peers that play their parts here; the tests and benchmarks change what they need.

use std::net::Ipv4Addr;
use std::time::Duration;

use url::Url;

use super::github::private_key_pem;
use super::{github, issuer};
use crate::config::{self, Config};
use crate::model::Target;

/// The audience of `dev`'s tokens.
pub const AUDIENCE: &str = "runner-broker";
/// The organisation of `dev`'s GitHub.
pub const ORG: &str = "octo-org";
/// A repository of it.
pub const REPO: &str = "octo-org/octo-repo";
/// What webhooks are signed with here.
pub const WEBHOOK_SECRET: &str = "dev-webhook-secret";

/// As `serve` reads it from an environment that names only these peers, on a free port.
///
/// # Panics
/// `github_url` is no URL.
pub fn config_for(database_url: &str, issuer: &str, github_url: &str, app_id: u64) -> Config {
    Config {
        http: config::Http {
            host: Ipv4Addr::LOCALHOST.to_string(),
            port: 0,
            public_url: url("http://127.0.0.1/"),
            tls: None,
            trusted_proxies: Vec::new(),
        },
        database_url: database_url.into(),
        github: config::GitHub {
            app_id,
            private_key: private_key_pem().into(),
            org: organisation(),
            installation_id: None,
            api_url: url(github_url),
            url: url("https://github.com"),
            timeout: Duration::from_secs(10),
            webhook_secret: Some(WEBHOOK_SECRET.into()),
        },
        oidc: config::Oidc {
            issuers: vec![config::Issuer {
                issuer: issuer.to_owned(),
                audience: AUDIENCE.into(),
                jwks_url: None,
            }],
            leeway: Duration::from_secs(60),
        },
        logins: logins(issuer, &url(github_url)),
        broker: config::Broker {
            default_runner_group_id: 1,
            jit_start_deadline: Duration::from_secs(3600),
            sync_enabled: true,
            sync_interval: Duration::from_secs(120),
            lease: Duration::from_secs(10),
            stale_after: Duration::from_secs(24 * 3600),
            unmanaged_runners: config::Unmanaged::Report,
            drift_deletes_busy: false,
            label_policy_enforcement: config::Enforcement::Audit,
            audit_signing_key: None,
            alerts: None,
        },
        policy_file: None,
    }
}

fn url(text: &str) -> Url {
    Url::parse(text).expect("a URL of a server on this machine")
}

fn organisation() -> Target {
    ORG.parse().expect("a name of an organisation")
}

/// Where people sign in: this issuer as `dev`, this GitHub as `github`.
fn logins(issuer: &str, github: &Url) -> Vec<config::Login> {
    let (url, api_url) = (github.clone(), github.clone());
    let login = |id: &str, name: &str, kind, client: (&str, &str), scopes: &[&str]| config::Login {
        id: id.into(),
        name: name.into(),
        kind,
        client_id: client.0.into(),
        client_secret: Some(client.1.into()),
        scopes: scopes.iter().map(|&scope| scope.into()).collect(),
        audience: None,
    };
    let openid = config::LoginKind::OpenId { issuer: issuer.into() };
    let own = (issuer::CLIENT_ID, issuer::CLIENT_SECRET);
    let hub = (github::CLIENT_ID, github::CLIENT_SECRET);
    vec![
        login("dev", "dev's OpenID provider", openid, own, &["openid", "profile", "email"]),
        login("github", "dev's GitHub", config::LoginKind::GitHub { url, api_url }, hub, &["read:org"]),
    ]
}
