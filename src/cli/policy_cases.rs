//! `policy test`, and `policy check` with a token: what a document decides, without a broker.

use std::io::Read;
use std::path::Path;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{CommandResult, Failure, print};
use crate::broker::Error;
use crate::model::{Arch, GroupRef, Label, Method, NameAsk, Os, Target};
use crate::policy::{Ask, Document, Rules, Until, Usage, consider};

/// A file of cases.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Cases {
    #[serde(default)]
    case: Vec<Case>,
}

/// Who asks for what, and what they should be told.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    /// Without it: the claim `iss`.
    issuer: Option<String>,
    claims: toml::Table,
    #[serde(default = "jit")]
    method: Method,
    #[serde(default)]
    labels: Vec<String>,
    team: Option<String>,
    /// Without it: `GITHUB_ORG`.
    target: Option<String>,
    runner_group: Option<GroupRef>,
    #[serde(default = "linux")]
    os: Os,
    #[serde(default = "x64")]
    arch: Arch,
    /// By which deny rules have ended; without it: now.
    at: Option<Until>,
    /// `allowed`, or the error code of the refusal.
    expect: String,
    /// The roles that the caller should have; without it they may have any.
    roles: Option<Vec<String>>,
}

fn jit() -> Method {
    Method::Jit
}

fn linux() -> Os {
    Os::Linux
}

fn x64() -> Arch {
    Arch::X64
}

/// What the policy decides: the outcome, and in brackets by which rule or why.
struct Decided {
    outcome: &'static str,
    because: String,
    roles: Vec<String>,
}

/// Plays every case of the file.
pub fn test(rules: &Rules, file: &Path, now: DateTime<Utc>) -> CommandResult {
    let faulty = |why: &dyn std::fmt::Display| Failure::Usage(format!("{}: {why}", file.display()));
    let cases: Cases = toml::from_str(&text_of(file)?).map_err(|err| faulty(&err))?;
    if cases.case.is_empty() {
        return Err(faulty(&"there is no [[case]]"));
    }
    let (mut text, mut wrong) = (String::new(), 0);
    for case in &cases.case {
        let decided =
            case.decide(rules, now).map_err(|why| faulty(&format!("case '{}': {why}", case.name)))?;
        let mut unexpected = Vec::new();
        if decided.outcome != case.expect {
            unexpected
                .push(format!("expected {}, got {} ({})", case.expect, decided.outcome, decided.because));
        }
        if case.roles.as_ref().is_some_and(|roles| *roles != decided.roles) {
            unexpected.push(format!("expected the roles {:?}, got {:?}", case.roles, decided.roles));
        }
        wrong += usize::from(!unexpected.is_empty());
        text += &match unexpected.is_empty() {
            true => format!("ok: {}: {} ({})\n", case.name, decided.outcome, decided.because),
            false => format!("mismatch: {}: {}\n", case.name, unexpected.join("; ")),
        };
    }
    print(&text)?;
    match wrong {
        0 => Ok(()),
        wrong => Err(Failure::Failed(format!("{wrong} of {} case(s) differ", cases.case.len()))),
    }
}

impl Case {
    /// As a broker decides, with no live runners, and with every runner group that the policy names.
    fn decide(&self, rules: &Rules, now: DateTime<Utc>) -> Result<Decided, String> {
        let claims = serde_json::to_value(&self.claims).map_err(|err| err.to_string())?;
        let Value::Object(claims) = claims else { return Err("claims is no table".to_owned()) };
        let issuer = self.issuer.as_deref().or_else(|| claims.get("iss").and_then(Value::as_str));
        let issuer = issuer.ok_or("issuer is missing")?;
        let memberships = rules.memberships(issuer, &claims);
        let roles = memberships.roles.keys().map(ToString::to_string).collect();
        let refused = |outcome, because: String, roles| Ok(Decided { outcome, because, roles });
        if let Some(rule) = rules.denied(issuer, &claims, self.at.map_or(now, Until::at)) {
            return refused(Error::AccessDenied.code(), rule.to_owned(), Vec::new());
        }
        let ask = self.ask()?;
        let placed = consider(&memberships, &ask).and_then(|permit| {
            let ids = permit.group_names().into_iter().zip(2..).map(|(name, id)| (name.to_owned(), id));
            let ids = ids.collect();
            permit.place(&ids)
        });
        match placed.and_then(|placed| placed.grant(Usage::default())) {
            Ok(grant) => refused("allowed", grant.rule().to_owned(), roles),
            Err(denial) => refused(denial.code(), denial.to_string(), roles),
        }
    }

    fn ask(&self) -> Result<Ask, String> {
        let name = "case".parse().map_err(|err| format!("{err}"))?;
        let labels =
            self.labels.iter().map(|label| label.parse::<Label>().map_err(|err| format!("labels: {err}")));
        let target =
            self.target.as_ref().map(|text| text.parse::<Target>().map_err(|err| format!("target: {err}")));
        Ok(Ask {
            method: self.method,
            name: NameAsk::Exact(name),
            labels: labels.collect::<Result<_, _>>()?,
            team: self.team.clone(),
            target: target.transpose()?,
            group: self.runner_group.clone(),
            os: self.os,
            arch: self.arch,
            ephemeral: true,
            disable_update: false,
            work_folder: "_work".to_owned(),
        })
    }
}

/// Prints which rules match a token, and why the others do not.
pub fn explain(document: &Document, claims: &Map<String, Value>, now: DateTime<Utc>) -> CommandResult {
    let issuer = claims.get("iss").and_then(Value::as_str);
    let issuer = issuer.ok_or_else(|| Failure::Usage("the claims have no 'iss'".to_owned()))?;
    let mut text = String::new();
    for found in document.explain(issuer, claims, now) {
        let verb = match (found.denies, found.against.is_empty()) {
            (false, true) => "admits",
            (false, false) => "does not admit",
            (true, true) => "denies",
            (true, false) => "does not deny",
        };
        let line = found.line.map_or(String::new(), |line| format!("line {line}: "));
        let why =
            if found.against.is_empty() { String::new() } else { format!(": {}", found.against.join("; ")) };
        text += &format!("{line}{} {verb}{why}\n", found.rule);
    }
    print(&text)
}

/// The claims of a token, whose signature is not verified.
pub fn claims_of_token(token: &str) -> Result<Map<String, Value>, Failure> {
    let unfit = || Failure::Usage("--token: this is no JSON Web Token".to_owned());
    let token = if token == "-" { text_of(Path::new("-"))? } else { token.to_owned() };
    let payload = token.trim().split('.').nth(1).ok_or_else(unfit)?;
    let payload = BASE64_URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).map_err(|_| unfit())?;
    serde_json::from_slice(&payload).map_err(|_| unfit())
}

/// The claims in a file of JSON.
pub fn claims_of_file(file: &Path) -> Result<Map<String, Value>, Failure> {
    let text = text_of(file)?;
    serde_json::from_str(&text).map_err(|err| Failure::Usage(format!("{}: {err}", file.display())))
}

/// A file's text, or that of standard input.
fn text_of(file: &Path) -> Result<String, Failure> {
    let read = match file == Path::new("-") {
        true => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).map(|_| text)
        }
        false => std::fs::read_to_string(file),
    };
    read.map_err(|err| Failure::Usage(format!("{}: {err}", file.display())))
}
