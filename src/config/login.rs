//! `LOGIN_PROVIDERS`: where people sign in to the console. Nothing of an entry's values is shown but its id: a
//! secret may stand in the wrong field.

use secrecy::SecretString;
use serde_json::{Map, Value};
use url::Url;

use super::is_secure;
use super::reader::{Reader, trusted_url};

const WANTED: &str = "a JSON list of {id, kind, name?, issuer?, client_id, client_secret? or client_secret_file?, scopes?, audience?}";

/// One provider, as its button and its addresses name it.
#[derive(Clone, Debug)]
pub struct Login {
    /// Lower-case letters, digits and hyphens: `/sign-in/{id}`.
    pub id: String,
    /// What its button says.
    pub name: String,
    pub kind: LoginKind,
    pub client_id: String,
    /// `None`: a public client, which PKCE alone protects.
    pub client_secret: Option<SecretString>,
    pub scopes: Vec<String>,
    /// Sent along to the provider, for those that want one.
    pub audience: Option<String>,
}

/// How a provider is spoken to, and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoginKind {
    OpenId { issuer: String },
    GitLab { issuer: String },
    GitHub { url: Url, api_url: Url },
}

/// Reads the list; every fault of every entry at once.
pub fn read(reader: &mut Reader, name: &str) -> Vec<Login> {
    let Some(text) = reader.get(name) else { return Vec::new() };
    check_public_url(reader, name);
    let entries: Vec<Value> = reader.json(name, &text, WANTED, true).unwrap_or_default();
    let mut logins: Vec<Login> = Vec::new();
    for (at, entry) in entries.into_iter().enumerate() {
        let Value::Object(fields) = entry else {
            let what = format!("provider {}: found {}, wanted {WANTED}", at + 1, kind_of(&entry));
            reader.unshown_fault(name, &what);
            continue;
        };
        let mut entry = Entry { place: format!("provider {}", at + 1), fields, faults: Vec::new() };
        let login = entry.login(reader);
        for fault in entry.faults {
            reader.unshown_fault(name, &format!("{}: {fault}", entry.place));
        }
        let Some(login) = login else { continue };
        match logins.iter().any(|known| known.id == login.id) {
            true => reader.unshown_fault(name, &format!("{}: wanted each id once", entry.place)),
            false => logins.push(login),
        }
    }
    logins
}

/// What a JSON value is, without the value.
fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// Providers send people back to `PUBLIC_URL`, and cookies work with https only.
fn check_public_url(reader: &mut Reader, name: &str) {
    let url = reader.get("PUBLIC_URL");
    let is_fit = |text: &String| Url::parse(text).is_ok_and(|url| is_secure(&url));
    if !url.as_ref().is_some_and(is_fit) {
        let wanted = format!("with {name} wanted the https URL that browsers use (http only on loopback)");
        reader.unshown_fault("PUBLIC_URL", &wanted);
    }
}

/// One entry, its fields taken out as they are read.
struct Entry {
    place: String,
    fields: Map<String, Value>,
    faults: Vec<String>,
}

impl Entry {
    fn login(&mut self, reader: &Reader) -> Option<Login> {
        let id = self.text("id");
        match id.as_deref().filter(|id| is_id(id)) {
            Some(id) => self.place = format!("'{id}'"),
            None => self.fault("id: wanted 1 to 32 lower-case letters, digits and hyphens"),
        }
        let kind = self.kind(reader);
        let name = self.text("name").or_else(|| kind.as_ref().map(default_name));
        if name.as_ref().is_some_and(|name| name.len() > 64 || name.chars().any(char::is_control)) {
            self.fault("name: wanted at most 64 characters, none of them a control character");
        }
        let client_id = self.text("client_id");
        if client_id.is_none() {
            self.fault("client_id: missing");
        }
        let client_secret = self.secret();
        if matches!(kind, Some(LoginKind::GitHub { .. })) && client_secret.is_none() {
            self.fault("client_secret: missing, GitHub has no clients without one");
        }
        let scopes = self.scopes(kind.as_ref());
        let audience = self.text("audience");
        let unknown: Vec<String> = self.fields.keys().cloned().collect();
        for field in unknown {
            self.fault(&format!("{field}: not known, wanted {WANTED}"));
        }
        match self.faults.is_empty() {
            true => Some(Login {
                id: id?,
                name: name?,
                kind: kind?,
                client_id: client_id?,
                client_secret,
                scopes,
                audience,
            }),
            false => None,
        }
    }

    fn fault(&mut self, what: &str) {
        self.faults.push(what.to_owned());
    }

    /// A text that is not empty.
    fn text(&mut self, field: &str) -> Option<String> {
        match self.fields.remove(field)? {
            Value::String(text) => Some(text.trim().to_owned()).filter(|text| !text.is_empty()),
            Value::Null => None,
            _ => {
                self.fault(&format!("{field}: wanted a text"));
                None
            }
        }
    }

    fn kind(&mut self, reader: &Reader) -> Option<LoginKind> {
        let kind = self.text("kind");
        let issuer = self.text("issuer");
        if issuer.as_deref().is_some_and(|issuer| trusted_url(issuer).is_none()) {
            self.fault("issuer: wanted an https URL without user, query or fragment (http only on loopback)");
            return None;
        }
        match (kind.as_deref(), issuer) {
            (Some("openid"), Some(issuer)) => Some(LoginKind::OpenId { issuer }),
            (Some("openid"), None) => {
                self.fault("issuer: missing");
                None
            }
            (Some("gitlab"), issuer) => {
                Some(LoginKind::GitLab { issuer: issuer.unwrap_or_else(|| "https://gitlab.com".into()) })
            }
            (Some("github"), issuer) => github(reader, issuer),
            _ => {
                self.fault("kind: wanted one of openid, gitlab, github");
                None
            }
        }
    }

    fn secret(&mut self) -> Option<SecretString> {
        match (self.text("client_secret"), self.text("client_secret_file")) {
            (Some(_), Some(_)) => {
                self.fault("client_secret: set together with client_secret_file, wanted one of the two");
                None
            }
            (Some(secret), None) => Some(secret.into()),
            (None, Some(path)) => match std::fs::read_to_string(path) {
                Ok(secret) if !secret.trim().is_empty() => Some(secret.trim().into()),
                Ok(_) => {
                    self.fault("client_secret_file: the file is empty");
                    None
                }
                Err(err) => {
                    self.fault(&format!("client_secret_file: the file cannot be read ({err})"));
                    None
                }
            },
            (None, None) => None,
        }
    }

    /// A list, or a text with spaces between.
    fn scopes(&mut self, kind: Option<&LoginKind>) -> Vec<String> {
        let is_github = matches!(kind, Some(LoginKind::GitHub { .. }));
        let text = match self.fields.remove("scopes") {
            None | Some(Value::Null) if is_github => "read:org".to_owned(),
            None | Some(Value::Null) => "openid profile email".to_owned(),
            Some(Value::String(text)) => text,
            Some(Value::Array(scopes)) if scopes.iter().all(Value::is_string) => {
                scopes.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" ")
            }
            Some(_) => {
                self.fault("scopes: wanted a list of texts");
                return Vec::new();
            }
        };
        let scopes: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        if kind.is_some() && !is_github && !scopes.iter().any(|scope| scope == "openid") {
            self.fault("scopes: wanted openid among them");
        }
        scopes
    }
}

/// GitHub's own, or the one that is named: an Enterprise Server has its API under its own address.
fn github(reader: &Reader, issuer: Option<String>) -> Option<LoginKind> {
    let known = |name: &str| Url::parse(&reader.or_default(name)).ok();
    // Without them there is a fault of theirs.
    let (own, own_api) = (known("GITHUB_URL")?, known("GITHUB_API_URL")?);
    let url = match issuer {
        None => own.clone(),
        Some(issuer) => trusted_url(&issuer)?,
    };
    let api_url = match url.origin() {
        origin if origin == own.origin() => own_api,
        _ if url.host_str() == Some("github.com") => Url::parse("https://api.github.com").ok()?,
        _ => url.join("/api/v3").ok()?,
    };
    Some(LoginKind::GitHub { url, api_url })
}

fn default_name(kind: &LoginKind) -> String {
    match kind {
        LoginKind::GitLab { .. } => "GitLab".into(),
        LoginKind::GitHub { .. } => "GitHub".into(),
        LoginKind::OpenId { issuer } => {
            let host = Url::parse(issuer).ok().and_then(|url| url.host_str().map(str::to_owned));
            host.unwrap_or_else(|| issuer.clone())
        }
    }
}

fn is_id(text: &str) -> bool {
    let is_plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=32).contains(&text.len()) && text.bytes().all(is_plain)
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    fn read_with(more: &[(&str, &str)], json: &str) -> Vec<Login> {
        let all = [("PUBLIC_URL", "http://127.0.0.1:8000"), ("LOGIN_PROVIDERS", json)];
        let vars = all.iter().chain(more).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let read = Reader::of(vars).finish(|reader| read(reader, "LOGIN_PROVIDERS"));
        read.unwrap_or_else(|faults| panic!("{faults}"))
    }

    #[test]
    fn what_is_not_said_is_what_most_mean() {
        let logins = read_with(
            &[],
            r#"[{"id": "gitlab", "kind": "gitlab", "client_id": "c", "client_secret": " s\n"},
                {"id": "hub", "kind": "github", "client_id": "c", "client_secret": "s"},
                {"id": "sso", "kind": "openid", "issuer": "https://idp.example/", "client_id": "c",
                 "scopes": "openid groups", "audience": "a", "name": "Company"}]"#,
        );
        let [gitlab, hub, sso] = &logins[..] else { panic!("{logins:?}") };
        assert_eq!(gitlab.kind, LoginKind::GitLab { issuer: "https://gitlab.com".into() });
        assert_eq!(
            (gitlab.name.as_str(), gitlab.scopes.join(" ").as_str()),
            ("GitLab", "openid profile email")
        );
        assert_eq!(gitlab.client_secret.as_ref().map(ExposeSecret::expose_secret), Some("s"));
        let LoginKind::GitHub { url, api_url } = &hub.kind else { panic!("{hub:?}") };
        assert_eq!((url.as_str(), api_url.as_str()), ("https://github.com/", "https://api.github.com/"));
        assert_eq!(hub.scopes, ["read:org"]);
        // To the last character, as it will be compared.
        assert_eq!(sso.kind, LoginKind::OpenId { issuer: "https://idp.example/".into() });
        assert_eq!((sso.name.as_str(), sso.scopes.len(), sso.audience.as_deref()), ("Company", 2, Some("a")));
        assert!(sso.client_secret.is_none() && !format!("{logins:?}").contains("\"s\""));
    }

    #[test]
    fn githubs_api_is_found_wherever_it_is() {
        let server =
            [("GITHUB_URL", "https://ghe.example"), ("GITHUB_API_URL", "https://ghe.example/api/v3")];
        let api = |more: &[(&str, &str)], issuer: &str| {
            let json = format!(
                r#"[{{"id": "hub", "kind": "github", "client_id": "c", "client_secret": "s"{issuer}}}]"#
            );
            match read_with(more, &json).remove(0).kind {
                LoginKind::GitHub { api_url, .. } => api_url.to_string(),
                kind => panic!("{kind:?}"),
            }
        };
        assert_eq!(api(&server, ""), "https://ghe.example/api/v3");
        assert_eq!(api(&server, r#", "issuer": "https://github.com""#), "https://api.github.com/");
        assert_eq!(api(&[], r#", "issuer": "https://other.example""#), "https://other.example/api/v3");
    }
}
