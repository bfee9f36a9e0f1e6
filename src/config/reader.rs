//! Reads variables, and gathers what is wrong with them into one message.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;

use secrecy::SecretString;
use serde::de::DeserializeOwned;
use url::Url;

use super::variables::VARIABLES;
use super::{Alerts, Issuer, is_secure};
use crate::model::Target;

/// What is wrong with the configuration: every fault, never a secret's value.
#[derive(Debug, thiserror::Error)]
pub struct Faults(Vec<String>);

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the configuration has {} fault(s):", self.0.len())?;
        self.0.iter().try_for_each(|fault| write!(f, "\n  {fault}"))
    }
}

impl Faults {
    /// Each with the variable that it is about.
    pub fn each(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|fault| fault.split_once(": ").unwrap_or(("", fault)))
    }
}

/// Reads variables and gathers what is wrong with them.
pub struct Reader {
    vars: HashMap<String, String>,
    faults: Vec<String>,
}

impl Reader {
    pub fn of(vars: impl IntoIterator<Item = (String, String)>) -> Reader {
        Reader { vars: vars.into_iter().collect(), faults: Vec::new() }
    }

    /// The process's variables. Bytes that are not Unicode are replaced, and the result is refused as any wrong value.
    pub fn of_process() -> Reader {
        let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
        Reader::of(std::env::vars_os().map(|(name, value)| (text(name), text(value))))
    }

    pub fn finish<T>(mut self, read: impl FnOnce(&mut Reader) -> T) -> Result<T, Faults> {
        let value = read(&mut self);
        match self.faults.is_empty() {
            true => Ok(value),
            false => Err(Faults(self.faults)),
        }
    }

    /// As [`Reader::finish`], and returns the partial value with the faults, so that `doctor` can check the rest.
    pub fn finish_anyway<T>(mut self, read: impl FnOnce(&mut Reader) -> T) -> (T, Faults) {
        let value = read(&mut self);
        (value, Faults(self.faults))
    }

    /// An empty variable counts as unset.
    pub fn get(&self, name: &str) -> Option<String> {
        self.vars.get(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
    }

    pub fn or_default(&self, name: &str) -> String {
        let default = VARIABLES.iter().find(|var| var.name == name).and_then(|var| var.default);
        self.get(name).unwrap_or_else(|| default.unwrap_or_default().to_owned())
    }

    pub fn fault(&mut self, name: &str, found: &str, wanted: &str) {
        self.faults.push(format!("{name}: found {}, wanted {wanted}", shown(found)));
    }

    /// A fault whose value may be, or hold, a secret.
    pub fn unshown_fault(&mut self, name: &str, what: &str) {
        self.faults.push(format!("{name}: {what}"));
    }

    /// Reads JSON. The fault shows how the value begins, unless it may hold a secret: then it says only what is wrong.
    pub fn json<T: DeserializeOwned>(
        &mut self,
        name: &str,
        text: &str,
        wanted: &str,
        is_secret: bool,
    ) -> Option<T> {
        match serde_json::from_str(text) {
            Ok(value) => Some(value),
            Err(err) => {
                let found = match is_secret {
                    true if err.is_data() => "other JSON".to_owned(),
                    true => "something that is not JSON".to_owned(),
                    false => shown(text),
                };
                // serde's own text can quote a value.
                let why = match is_secret {
                    true => format!("line {}, column {}", err.line(), err.column()),
                    false => err.to_string(),
                };
                self.faults.push(format!(
                    "{name}: found {found} ({why}), wanted {wanted}; in a .env file, put the JSON in single quotes"
                ));
                None
            }
        }
    }

    pub fn required(&mut self, name: &str) -> Option<String> {
        let value = self.get(name);
        if value.is_none() {
            let meaning = VARIABLES.iter().find(|var| var.name == name).map_or("a value", |var| var.meaning);
            self.faults.push(format!("{name}: not set, wanted {meaning}"));
        }
        value
    }

    pub fn parsed<T>(
        &mut self,
        name: &str,
        text: &str,
        wanted: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        let value = parse(text);
        if value.is_none() {
            self.fault(name, text, wanted);
        }
        value
    }

    pub fn number(&mut self, name: &str, least: u64, most: u64) -> u64 {
        let text = self.or_default(name);
        let wanted = format!("a whole number from {least} to {most}");
        self.parsed(name, &text, &wanted, |t| t.parse().ok().filter(|n| (least..=most).contains(n)))
            .unwrap_or(least)
    }

    pub fn required_number(&mut self, name: &str) -> u64 {
        let text = self.required(name);
        text.and_then(|text| self.parsed(name, &text, "a number", |t| t.parse().ok())).unwrap_or_default()
    }

    pub fn group_id(&mut self) -> i64 {
        self.number("DEFAULT_RUNNER_GROUP_ID", 1, i64::MAX as u64) as i64
    }

    /// One of the named values; the default is the variable's own.
    pub fn choice<T: Copy>(&mut self, name: &str, choices: &[(&str, T)]) -> T {
        let text = self.or_default(name);
        match choices.iter().find(|(choice, _)| *choice == text) {
            Some((_, value)) => *value,
            None => {
                let names: Vec<&str> = choices.iter().map(|(choice, _)| *choice).collect();
                self.fault(name, &text, &format!("one of {}", names.join(", ")));
                choices[0].1
            }
        }
    }

    /// Where security events go. A receiver that cannot tell ours from anybody's should not act on them, so
    /// the secret is not optional.
    pub fn alerts(&mut self) -> Option<Alerts> {
        let (text, secret) = (self.get("ALERT_WEBHOOK_URL")?, self.get("ALERT_WEBHOOK_SECRET"));
        let url = Url::parse(&text).ok().filter(is_secure);
        if url.is_none() {
            // Not shown: such URLs often carry a key.
            self.faults.push("ALERT_WEBHOOK_URL: wanted an https URL (http only on loopback)".into());
        }
        if secret.is_none() {
            self.faults.push("ALERT_WEBHOOK_SECRET: not set, wanted with ALERT_WEBHOOK_URL".into());
        }
        Some(Alerts { url: url?, secret: secret?.into() })
    }

    pub fn flag(&mut self, name: &str) -> bool {
        let text = self.or_default(name).to_ascii_lowercase();
        self.parsed(name, &text, "true or false", |t| match t {
            "true" | "1" | "yes" | "on" => Some(true),
            "false" | "0" | "no" | "off" => Some(false),
            _ => None,
        })
        .unwrap_or_default()
    }

    pub fn file(&mut self, name: &str, wanted: &str) -> PathBuf {
        let Some(path) = self.get(name).map(PathBuf::from) else {
            self.faults.push(format!("{name}: not set, wanted {wanted}"));
            return PathBuf::new();
        };
        if let Err(err) = std::fs::File::open(&path) {
            self.fault(name, &path.display().to_string(), &format!("a readable file ({err})"));
        }
        path
    }

    pub fn org(&mut self) -> Target {
        let text = self.required("GITHUB_ORG");
        let wanted = "the name of an organisation, or owner/name of a repository";
        text.and_then(|text| self.parsed("GITHUB_ORG", &text, wanted, |t| t.parse().ok()))
            .unwrap_or(Target::Organization(String::new()))
    }

    pub fn database_url(&mut self) -> SecretString {
        let url = self.required("DATABASE_URL").unwrap_or_default();
        if !url.is_empty() && !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
            // Not shown: it often has a password.
            self.faults
                .push("DATABASE_URL: found a value of another form (not shown), wanted postgres://…".into());
        }
        url.into()
    }

    pub fn private_key(&mut self) -> SecretString {
        let (path_name, name) = ("GITHUB_APP_PRIVATE_KEY_PATH", "GITHUB_APP_PRIVATE_KEY");
        let (source, pem) = match (self.get(name), self.get(path_name)) {
            (Some(pem), None) => (name, Ok(pem.replace("\\n", "\n"))),
            (None, Some(path)) => (path_name, std::fs::read_to_string(path)),
            (None, None) => {
                self.faults
                    .push(format!("{path_name}: not set, wanted the file with the App's private key (PEM)"));
                return SecretString::default();
            }
            (Some(_), Some(_)) => {
                self.faults.push(format!("{path_name}: set together with {name}, wanted one of the two"));
                return SecretString::default();
            }
        };
        match pem {
            Err(err) => {
                self.faults.push(format!("{source}: the file cannot be read ({err}), wanted a PEM file"))
            }
            Ok(pem) if !pem.contains("PRIVATE KEY-----") => {
                self.faults.push(format!(
                    "{source}: found no PEM private key, wanted '-----BEGIN … PRIVATE KEY-----'"
                ));
            }
            Ok(pem) => return pem.into(),
        }
        SecretString::default()
    }

    pub fn service_url(&mut self, name: &str) -> Url {
        let text = self.or_default(name);
        let wanted = "an https URL without user or query (http only on loopback)";
        self.parsed(name, &text, wanted, trusted_url).unwrap_or_else(nowhere)
    }

    pub fn issuer(
        &mut self,
        name: &str,
        issuer: String,
        audience: String,
        (jwks_name, jwks_url): (&str, Option<String>),
    ) -> Option<Issuer> {
        let wanted = "an https URL without user, query or fragment (http only on loopback)";
        self.parsed(name, &issuer, wanted, trusted_url)?;
        if audience.is_empty() {
            self.fault(name, &issuer, "an audience for each issuer");
        }
        let jwks_url = match jwks_url {
            Some(text) => Some(self.parsed(jwks_name, &text, wanted, trusted_url)?),
            None => None,
        };
        Some(Issuer { issuer, audience, jwks_url })
    }
}

/// A value as a message may show it: without what could be a secret in the wrong place.
fn shown(found: &str) -> String {
    if found.contains("PRIVATE KEY") {
        return "a private key".into();
    }
    // A user, and perhaps a password, before the host.
    let without_user = match (found.find("://"), found.rfind('@')) {
        (Some(scheme), Some(at)) if scheme < at => format!("{}…{}", &found[..scheme + 3], &found[at..]),
        _ => found.to_owned(),
    };
    match without_user.char_indices().nth(200) {
        Some((end, _)) => format!("'{}…'", &without_user[..end]),
        None => format!("'{without_user}'"),
    }
}

/// An https URL, or http on loopback; no user, no query, no fragment.
pub fn trusted_url(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let plain = url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    (plain && is_secure(&url)).then_some(url)
}

pub fn nowhere() -> Url {
    Url::parse("http://localhost/").expect("a constant URL")
}
