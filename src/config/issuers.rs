//! Whose tokens are accepted, by name: what a policy's issuers are held against.

use serde_json::Value;

use super::Config;
use super::login::{self, Login, LoginKind};
use super::reader::Reader;

impl Config {
    /// The issuers of tokens and of sign-ins.
    pub fn issuers(&self) -> Vec<String> {
        let of_tokens = self.oidc.issuers.iter().map(|issuer| issuer.issuer.clone());
        of_tokens.chain(self.logins.iter().map(Login::issuer)).collect()
    }
}

impl Login {
    /// What the claim `iss` says of people who sign in here.
    pub fn issuer(&self) -> String {
        match &self.kind {
            LoginKind::OpenId { issuer } | LoginKind::GitLab { issuer } => issuer.clone(),
            LoginKind::GitHub { url, .. } => url.origin().ascii_serialization(),
        }
    }
}

/// As [`Config::issuers`], for a command that needs nothing else: what can be read of the process's environment.
/// `None`: `OIDC_ISSUER` is not set.
pub fn issuers() -> Option<Vec<String>> {
    let (issuers, _) = Reader::of_process().finish_anyway(|reader| {
        let first = reader.get("OIDC_ISSUER")?;
        let extra = reader.get("OIDC_EXTRA_ISSUERS").unwrap_or_default();
        let extra: Vec<Value> = serde_json::from_str(&extra).unwrap_or_default();
        let extra = extra.iter().filter_map(|entry| entry["issuer"].as_str().map(str::to_owned));
        let logins = login::read(reader, "LOGIN_PROVIDERS");
        Some([first].into_iter().chain(extra).chain(logins.iter().map(Login::issuer)).collect())
    });
    issuers
}
