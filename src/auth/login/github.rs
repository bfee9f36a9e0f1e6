//! GitHub, which issues no ID token to people: OAuth 2, then its API says who that is and where they belong.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use oauth2::{AuthUrl, TokenUrl};
use secrecy::SecretString;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use url::Url;

use super::code::{Endpoints, Registration};
use super::{Attempt, Back, Fault};
use crate::auth::Verified;
use crate::auth::fetch::{self, Client};
use crate::auth::token::identity;

/// Memberships on a page: a team's entry has some 3 kB, and answers are limited.
const PER_PAGE: usize = 50;
/// Nobody is in more organisations, or teams, than this allows.
const MOST_PAGES: usize = 40;

/// One GitHub: github.com, or an Enterprise Server.
pub struct GitHub {
    issuer: String,
    endpoints: Endpoints,
    api: String,
    registration: Registration,
    client: Client,
}

#[derive(Deserialize)]
struct User {
    id: u64,
    login: String,
    name: Option<String>,
    /// Only what they show in public, which GitHub has verified.
    email: Option<String>,
}

#[derive(Deserialize)]
struct Organization {
    login: String,
}

#[derive(Deserialize)]
struct Team {
    slug: String,
    organization: Organization,
}

impl GitHub {
    /// Identities have the origin of `url` as their issuer, without a slash at its end.
    pub fn new(url: &Url, api_url: &Url, registration: Registration, client: Client) -> GitHub {
        let at = |path: &str| {
            let mut at = url.clone();
            at.set_path(path);
            at
        };
        let endpoints = Endpoints {
            authorization: AuthUrl::from_url(at("/login/oauth/authorize")),
            token: TokenUrl::from_url(at("/login/oauth/access_token")),
            secret_in_body: true,
        };
        let issuer = url.origin().ascii_serialization();
        let api = api_url.as_str().trim_end_matches('/').to_owned();
        GitHub { issuer, endpoints, api, registration, client }
    }

    async fn user_of(&self, attempt: &Attempt, back: &Back) -> Result<Verified, Fault> {
        let tokens =
            self.registration.exchange_oauth(&self.client, &self.endpoints, attempt, &back.code).await?;
        let user: User = self.get("/user", &tokens.access).await?;
        let (orgs, teams) = tokio::try_join!(
            self.memberships::<Organization>("/user/orgs", &tokens.access),
            self.memberships::<Team>("/user/teams", &tokens.access),
        )?;
        let orgs: Vec<String> = orgs.into_iter().map(|org| org.login).collect();
        let teams: Vec<String> =
            teams.into_iter().map(|team| format!("{}/{}", team.organization.login, team.slug)).collect();
        let claims = json!({
            "iss": self.issuer,
            // The login can be changed, and then be somebody else's; the number cannot.
            "sub": user.id.to_string(),
            "id": user.id,
            "login": user.login,
            "preferred_username": user.login,
            "name": user.name,
            "email": user.email,
            "orgs": orgs,
            "teams": teams,
        });
        let Value::Object(mut claims) = claims else { return Err(Fault::Unproven("it says nothing")) };
        claims.retain(|_, value| !value.is_null());
        Ok(Verified { identity: identity(&claims), claims })
    }

    async fn get<T: DeserializeOwned>(&self, path: &str, access: &SecretString) -> Result<T, Fault> {
        let url = Url::parse(&format!("{}{path}", self.api)).map_err(fetch::Error::from)?;
        Ok(self.client.get_as(&url, access).await?)
    }

    /// All of a list; nothing of what the granted scope does not show.
    async fn memberships<T: DeserializeOwned>(
        &self,
        path: &str,
        access: &SecretString,
    ) -> Result<Vec<T>, Fault> {
        let mut all: Vec<T> = Vec::new();
        for page in 1..=MOST_PAGES {
            let some: Vec<T> =
                match self.get(&format!("{path}?per_page={PER_PAGE}&page={page}"), access).await {
                    Err(Fault::Unavailable(err)) if is_out_of_scope(&err) => {
                        tracing::info!(path, "the scope that was granted does not show a user's memberships");
                        return Ok(Vec::new());
                    }
                    some => some?,
                };
            let is_last = some.len() < PER_PAGE;
            all.extend(some);
            if is_last {
                return Ok(all);
            }
        }
        tracing::warn!(path, "a user has more memberships than are read");
        Ok(all)
    }
}

/// 429 and a 403 about limits are no answer; any other 403 is one.
fn is_out_of_scope(err: &fetch::Error) -> bool {
    matches!(err, fetch::Error::Status { status: 403 | 404, .. })
}

impl super::Provider for GitHub {
    fn issuer(&self) -> &str {
        &self.issuer
    }

    fn authorization_url<'a>(&'a self, attempt: &'a Attempt) -> BoxFuture<'a, Result<Url, Fault>> {
        let url = self.registration.oauth_url(&self.endpoints, attempt);
        std::future::ready(Ok(url)).boxed()
    }

    fn user<'a>(&'a self, attempt: &'a Attempt, back: &'a Back) -> BoxFuture<'a, Result<Verified, Fault>> {
        self.user_of(attempt, back).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_github_says_of_a_user_is_read_as_it_says_it() {
        let team = json!({ "id": 1, "slug": "platform", "name": "Platform", "parent": null,
            "organization": { "login": "octo-org", "id": 9 } });
        let team: Team = serde_json::from_value(team).unwrap();
        assert_eq!((team.slug.as_str(), team.organization.login.as_str()), ("platform", "octo-org"));
        let user = json!({ "id": 583_231, "login": "octocat", "name": null, "type": "User" });
        let user: User = serde_json::from_value(user).unwrap();
        assert!(user.id == 583_231 && user.name.is_none() && user.email.is_none());
    }
}
