//! The authorization code flow (RFC 6749, 4.1) with PKCE (RFC 7636): plain OAuth 2 through `oauth2`, OpenID Connect
//! through `openidconnect`, which adds the nonce and the scope `openid`. Both send by our own HTTP client.

use oauth2::basic::{
    BasicErrorResponse, BasicErrorResponseType, BasicRevocationErrorResponse,
    BasicTokenIntrospectionResponse, BasicTokenType,
};
use oauth2::{
    AccessToken, AuthType, AuthUrl, AuthorizationCode, ClientId, ClientSecret, CodeTokenRequest, CsrfToken,
    EndpointNotSet, PkceCodeChallenge, PkceCodeVerifier, RedirectUrl, RefreshToken, RequestTokenError, Scope,
    StandardRevocableToken, TokenUrl,
};
use openidconnect::core::{
    CoreAuthDisplay, CoreAuthPrompt, CoreAuthenticationFlow, CoreGenderClaim, CoreIdToken, CoreJsonWebKey,
    CoreJsonWebKeySet, CoreJweContentEncryptionAlgorithm, CoreJwsSigningAlgorithm,
};
use openidconnect::{EmptyAdditionalClaims, IssuerUrl, Nonce};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use url::Url;

use super::{Attempt, Fault};
use crate::auth::fetch::{self, Client};
use crate::config;

/// What `openidconnect` asks for by itself (OpenID Connect Core 1.0, 3.1.2.1).
const OPENID: &str = "openid";

/// How this service is known at one provider.
pub struct Registration {
    /// Of the configuration: labels what is made for this provider.
    pub id: String,
    /// As the provider issued it.
    pub client_id: String,
    client_secret: Option<SecretString>,
    redirect_url: Url,
    scopes: Vec<String>,
    audience: Option<String>,
}

/// Where a provider hands out codes, and where tokens for them.
pub struct Endpoints {
    /// Where the browser goes.
    pub authorization: AuthUrl,
    /// Where a code is exchanged.
    pub token: TokenUrl,
    /// Whether the client's secret goes into the body, where the provider takes it nowhere else.
    pub secret_in_body: bool,
}

impl Endpoints {
    fn auth_type(&self) -> AuthType {
        if self.secret_in_body { AuthType::RequestBody } else { AuthType::BasicAuth }
    }
}

/// What a code was exchanged for. Neither is kept.
pub struct Tokens {
    /// For the provider's own API.
    pub access: SecretString,
    /// The ID token. `None`: there was none.
    pub id: Option<SecretString>,
}

/// What is used of a token endpoint's answer (RFC 6749, 5.1; OpenID Connect Core 1.0, 3.1.3.3). The other fields may
/// be missing or have any shape: providers send `expires_in` as a text and scopes with spaces to spare.
#[derive(Deserialize, Serialize)]
struct TokenAnswer {
    access_token: AccessToken,
    id_token: Option<String>,
}

impl std::fmt::Debug for TokenAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenAnswer")
    }
}

impl oauth2::TokenResponse for TokenAnswer {
    type TokenType = BasicTokenType;

    fn access_token(&self) -> &AccessToken {
        &self.access_token
    }

    fn token_type(&self) -> &BasicTokenType {
        &BasicTokenType::Bearer
    }

    fn expires_in(&self) -> Option<std::time::Duration> {
        None
    }

    fn refresh_token(&self) -> Option<&RefreshToken> {
        None
    }

    fn scopes(&self) -> Option<&Vec<Scope>> {
        None
    }
}

impl
    openidconnect::TokenResponse<
        EmptyAdditionalClaims,
        CoreGenderClaim,
        CoreJweContentEncryptionAlgorithm,
        CoreJwsSigningAlgorithm,
    > for TokenAnswer
{
    /// Never one: the ID token stays a text until [`Unverified`](crate::auth::token::Unverified) takes it apart, which
    /// accepts claims of any type and judges keys as it does for bearer tokens.
    fn id_token(&self) -> Option<&CoreIdToken> {
        None
    }
}

type OAuthFlow = oauth2::Client<
    BasicErrorResponse,
    TokenAnswer,
    BasicTokenIntrospectionResponse,
    StandardRevocableToken,
    BasicRevocationErrorResponse,
>;

type OpenIdFlow = openidconnect::Client<
    EmptyAdditionalClaims,
    CoreAuthDisplay,
    CoreGenderClaim,
    CoreJweContentEncryptionAlgorithm,
    CoreJsonWebKey,
    CoreAuthPrompt,
    BasicErrorResponse,
    TokenAnswer,
    BasicTokenIntrospectionResponse,
    StandardRevocableToken,
    BasicRevocationErrorResponse,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
>;

impl Registration {
    /// `public_url` is where browsers are sent back to.
    pub fn new(login: &config::Login, public_url: &Url) -> Registration {
        let mut redirect_url = public_url.clone();
        redirect_url.set_query(None);
        redirect_url.set_fragment(None);
        let root = redirect_url.path().trim_end_matches('/').to_owned();
        redirect_url.set_path(&format!("{root}/sign-in/{}/callback", login.id));
        Registration {
            id: login.id.clone(),
            client_id: login.client_id.clone(),
            client_secret: login.client_secret.clone(),
            redirect_url,
            scopes: login.scopes.clone(),
            audience: login.audience.clone(),
        }
    }

    fn secret(&self) -> Option<ClientSecret> {
        self.client_secret.as_ref().map(|secret| ClientSecret::new(secret.expose_secret().to_owned()))
    }

    fn oauth(&self) -> OAuthFlow {
        let flow = OAuthFlow::new(ClientId::new(self.client_id.clone()))
            .set_redirect_uri(RedirectUrl::from_url(self.redirect_url.clone()));
        match self.secret() {
            None => flow,
            Some(secret) => flow.set_client_secret(secret),
        }
    }

    fn openid(&self, issuer: &IssuerUrl) -> OpenIdFlow {
        let id = ClientId::new(self.client_id.clone());
        // It verifies nothing for us, so it needs no keys.
        let flow = OpenIdFlow::new(id, issuer.clone(), CoreJsonWebKeySet::default())
            .set_redirect_uri(RedirectUrl::from_url(self.redirect_url.clone()));
        match self.secret() {
            None => flow,
            Some(secret) => flow.set_client_secret(secret),
        }
    }

    fn verifier(&self, attempt: &Attempt) -> PkceCodeVerifier {
        PkceCodeVerifier::new(attempt.verifier(&self.id).expose_secret().to_owned())
    }

    fn challenge(&self, attempt: &Attempt) -> PkceCodeChallenge {
        PkceCodeChallenge::from_code_verifier_sha256(&self.verifier(attempt))
    }

    fn state(&self, attempt: &Attempt) -> CsrfToken {
        CsrfToken::new(attempt.state(&self.id))
    }

    fn scopes(&self) -> impl Iterator<Item = Scope> {
        self.scopes.iter().cloned().map(Scope::new)
    }

    /// Where the browser goes at a provider that only knows OAuth 2.
    pub fn oauth_url(&self, at: &Endpoints, attempt: &Attempt) -> Url {
        let flow = self.oauth().set_auth_uri(at.authorization.clone());
        let state = self.state(attempt);
        let mut asked = flow
            .authorize_url(|| state)
            .add_scopes(self.scopes())
            .set_pkce_challenge(self.challenge(attempt));
        if let Some(audience) = &self.audience {
            asked = asked.add_extra_param("audience", audience);
        }
        asked.url().0
    }

    /// Where the browser goes at an OpenID provider.
    pub fn openid_url(&self, issuer: &IssuerUrl, at: &Endpoints, attempt: &Attempt) -> Url {
        let flow = self.openid(issuer).set_auth_uri(at.authorization.clone());
        let (state, nonce) = (self.state(attempt), Nonce::new(attempt.nonce(&self.id)));
        let scopes = self.scopes().filter(|scope| scope.as_str() != OPENID);
        let mut asked = flow
            .authorize_url(CoreAuthenticationFlow::AuthorizationCode, || state, || nonce)
            .add_scopes(scopes)
            .set_pkce_challenge(self.challenge(attempt));
        if let Some(audience) = &self.audience {
            asked = asked.add_extra_param("audience", audience);
        }
        asked.url().0
    }

    /// The access token that a code of OAuth 2 stands for; a code is good once.
    pub async fn exchange_oauth(
        &self,
        client: &Client,
        at: &Endpoints,
        attempt: &Attempt,
        code: &str,
    ) -> Result<Tokens, Fault> {
        let flow = self.oauth().set_auth_type(at.auth_type()).set_token_uri(at.token.clone());
        let asked = flow.exchange_code(AuthorizationCode::new(code.to_owned()));
        tokens(asked.set_pkce_verifier(self.verifier(attempt)), client).await
    }

    /// The tokens that a code of an OpenID provider stands for; a code is good once.
    pub async fn exchange_openid(
        &self,
        client: &Client,
        issuer: &IssuerUrl,
        at: &Endpoints,
        attempt: &Attempt,
        code: &str,
    ) -> Result<Tokens, Fault> {
        let flow = self.openid(issuer).set_auth_type(at.auth_type()).set_token_uri(at.token.clone());
        let asked = flow.exchange_code(AuthorizationCode::new(code.to_owned()));
        tokens(asked.set_pkce_verifier(self.verifier(attempt)), client).await
    }
}

async fn tokens(
    asked: CodeTokenRequest<'_, BasicErrorResponse, TokenAnswer>,
    client: &Client,
) -> Result<Tokens, Fault> {
    let answer = asked.request_async(client).await.map_err(fault)?;
    // An empty one is as good as none.
    let id = answer.id_token.filter(|token| !token.is_empty()).map(SecretString::from);
    Ok(Tokens { access: answer.access_token.into_secret().into(), id })
}

/// What the token endpoint meant. Its answer is not shown: it may hold anything.
fn fault(err: RequestTokenError<fetch::Error, BasicErrorResponse>) -> Fault {
    match err {
        RequestTokenError::Request(err) => err.into(),
        RequestTokenError::ServerResponse(said) => refusal(&said),
        // GitHub answers 200 to what it refuses.
        RequestTokenError::Parse(_, body) => match serde_json::from_slice(&body) {
            Ok(said) => refusal(&said),
            Err(_) => Fault::Unproven("its answer cannot be read"),
        },
        RequestTokenError::Other(_) => Fault::Unproven("its answer cannot be read"),
    }
}

fn refusal(said: &BasicErrorResponse) -> Fault {
    let why = code_only(said.error().as_ref());
    match said.error() {
        BasicErrorResponseType::InvalidGrant => Fault::Refused(why),
        BasicErrorResponseType::Extension(code) if code == "bad_verification_code" => Fault::Refused(why),
        _ => Fault::Unfit(why),
    }
}

/// An error code as RFC 6749 (5.2) has them, or nothing: it is shown to people.
pub fn code_only(code: &str) -> String {
    let is_code = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    match (1..=64).contains(&code.len()) && code.bytes().all(is_code) {
        true => code.to_owned(),
        false => "an unknown error".into(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::config::LoginKind;

    fn registration(scopes: &[&str]) -> Registration {
        let login = config::Login {
            id: "corp".into(),
            name: "Corp".into(),
            kind: LoginKind::OpenId { issuer: "https://idp.example.com".into() },
            client_id: "broker".into(),
            client_secret: None,
            scopes: scopes.iter().map(|&scope| scope.into()).collect(),
            audience: Some("api".into()),
        };
        Registration::new(&login, &"https://broker.example.com/tools/".parse().unwrap())
    }

    fn endpoints() -> Endpoints {
        Endpoints {
            authorization: AuthUrl::new("https://idp.example.com/authorize?tenant=7".into()).unwrap(),
            token: TokenUrl::new("https://idp.example.com/token".into()).unwrap(),
            secret_in_body: false,
        }
    }

    fn query(url: &Url) -> BTreeMap<String, String> {
        url.query_pairs().into_owned().collect()
    }

    #[test]
    fn an_openid_provider_is_asked_for_openid_once_with_nonce_state_and_challenge() {
        let (attempt, issuer) = (Attempt::begin(), IssuerUrl::new("https://idp.example.com".into()).unwrap());
        let url = registration(&["email", "openid"]).openid_url(&issuer, &endpoints(), &attempt);
        let found = query(&url);
        let challenge = registration(&[]).challenge(&attempt).as_str().to_owned();
        for (name, value) in [
            ("tenant", "7"),
            ("response_type", "code"),
            ("client_id", "broker"),
            ("redirect_uri", "https://broker.example.com/tools/sign-in/corp/callback"),
            ("scope", "openid email"),
            ("audience", "api"),
            ("state", attempt.state("corp").as_str()),
            ("nonce", attempt.nonce("corp").as_str()),
            ("code_challenge", challenge.as_str()),
            ("code_challenge_method", "S256"),
        ] {
            assert_eq!(found.get(name).map(String::as_str), Some(value), "{name} of {url}");
        }
        assert_eq!(found.len(), 10, "{url}");
    }

    #[test]
    fn oauth_alone_is_asked_for_the_configured_scopes_and_without_a_nonce() {
        let url = registration(&["read:org"]).oauth_url(&endpoints(), &Attempt::begin());
        let found = query(&url);
        assert_eq!((found["scope"].as_str(), found.contains_key("nonce")), ("read:org", false), "{url}");
    }

    #[test]
    fn of_a_token_endpoints_answer_only_what_is_used_can_be_wrong() {
        let read = |text: &str| serde_json::from_str::<TokenAnswer>(text).map(|answer| answer.id_token);
        let odd =
            r#"{"access_token":"a","token_type":7,"expires_in":"3599","scope":["openid"],"id_token":"i"}"#;
        assert_eq!(read(odd).unwrap().as_deref(), Some("i"));
        assert_eq!(read(r#"{"access_token":"a","id_token":null}"#).unwrap(), None);
        assert!(
            read(r#"{"id_token":"i"}"#).is_err() && read(r#"{"access_token":"a","id_token":{}}"#).is_err()
        );
        assert!(!format!("{:?}", serde_json::from_str::<TokenAnswer>(odd).unwrap()).contains("\"i\""));
    }
}
