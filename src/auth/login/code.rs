//! The authorization code flow (RFC 6749, 4.1) with PKCE (RFC 7636), which all kinds of providers share.

use oauth2::basic::{
    BasicErrorResponse, BasicErrorResponseType, BasicRevocationErrorResponse,
    BasicTokenIntrospectionResponse, BasicTokenType,
};
use oauth2::{
    AuthType, AuthUrl, AuthorizationCode, ClientId, ClientSecret, ExtraTokenFields, PkceCodeChallenge,
    PkceCodeVerifier, RedirectUrl, RequestTokenError, Scope, StandardRevocableToken, StandardTokenResponse,
    TokenResponse, TokenUrl,
};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use url::Url;

use super::{Attempt, Fault};
use crate::auth::fetch::{self, Client};
use crate::config;

/// How this service is known at one provider.
pub struct Registration {
    /// Of the configuration: labels what is made for this provider.
    pub id: String,
    pub client_id: String,
    client_secret: Option<SecretString>,
    redirect_url: Url,
    scopes: Vec<String>,
    audience: Option<String>,
}

/// Where a provider hands out codes, and where tokens for them.
pub struct Endpoints {
    pub authorization: Url,
    pub token: Url,
    /// Whether the client's secret goes into the body, where the provider takes it nowhere else.
    pub secret_in_body: bool,
}

/// What a code was exchanged for. Neither is kept.
pub struct Tokens {
    pub access: SecretString,
    pub id: Option<SecretString>,
}

/// What OpenID Connect adds to the answer.
#[derive(Deserialize, Serialize)]
struct WithIdToken {
    id_token: Option<String>,
}

impl std::fmt::Debug for WithIdToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WithIdToken")
    }
}

impl ExtraTokenFields for WithIdToken {}

type Flow = oauth2::Client<
    BasicErrorResponse,
    StandardTokenResponse<WithIdToken, BasicTokenType>,
    BasicTokenIntrospectionResponse,
    StandardRevocableToken,
    BasicRevocationErrorResponse,
>;

impl Registration {
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

    fn flow(&self) -> Flow {
        let flow = Flow::new(ClientId::new(self.client_id.clone()))
            .set_redirect_uri(RedirectUrl::from_url(self.redirect_url.clone()));
        match &self.client_secret {
            None => flow,
            Some(secret) => flow.set_client_secret(ClientSecret::new(secret.expose_secret().to_owned())),
        }
    }

    /// Where the browser goes, with `more` than OAuth asks for.
    pub fn authorization_url(&self, at: &Endpoints, attempt: &Attempt, more: &[(&str, String)]) -> Url {
        let verifier = PkceCodeVerifier::new(attempt.verifier(&self.id).expose_secret().to_owned());
        let state = oauth2::CsrfToken::new(attempt.state(&self.id));
        let flow = self.flow().set_auth_uri(AuthUrl::from_url(at.authorization.clone()));
        let scopes = self.scopes.iter().cloned().map(Scope::new);
        let asked = flow
            .authorize_url(|| state)
            .add_scopes(scopes)
            .set_pkce_challenge(PkceCodeChallenge::from_code_verifier_sha256(&verifier));
        let audience = self.audience.iter().map(|audience| ("audience", audience.clone()));
        let extras = audience.chain(more.iter().cloned());
        extras.fold(asked, |asked, (name, value)| asked.add_extra_param(name.to_owned(), value)).url().0
    }

    /// The tokens that a code stands for; a code is good once.
    pub async fn exchange(
        &self,
        client: &Client,
        at: &Endpoints,
        attempt: &Attempt,
        code: &str,
    ) -> Result<Tokens, Fault> {
        let auth_type = if at.secret_in_body { AuthType::RequestBody } else { AuthType::BasicAuth };
        let flow = self.flow().set_auth_type(auth_type).set_token_uri(TokenUrl::from_url(at.token.clone()));
        let verifier = PkceCodeVerifier::new(attempt.verifier(&self.id).expose_secret().to_owned());
        let asked = flow.exchange_code(AuthorizationCode::new(code.to_owned())).set_pkce_verifier(verifier);
        let answer = asked.request_async(client).await.map_err(fault)?;
        let id = answer.extra_fields().id_token.clone().map(SecretString::from);
        Ok(Tokens { access: answer.access_token().secret().clone().into(), id })
    }
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
