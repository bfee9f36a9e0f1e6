//! Where a token may be: given, or found in the CI system or cluster that this runs in.

use std::path::Path;

use secrecy::SecretString;
use url::Url;

use super::token::audiences;
use super::{Error, Source, plain};

/// Below `/var/run/secrets`: where a pod has the token that was projected for the broker.
const PROJECTED: &str = "broker/token";
/// The pod's own, for its cluster's API.
const SERVICE_ACCOUNT: &str = "kubernetes.io/serviceaccount/token";

/// What is around this process.
pub struct Environment<'a> {
    /// A variable of the environment; `None` if it is unset or empty.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
    /// `/var/run/secrets`.
    pub secrets: &'a Path,
}

/// The first place that has a token for this audience: the variables, then GitHub Actions, GitLab CI, Kubernetes.
/// If there is none, one message says all ways, those of this place first.
pub fn find_token(around: &Environment<'_>, audience: &str) -> Result<Source, Error> {
    if let Some(token) = (around.variable)("RUNNER_BROKER_TOKEN") {
        return Ok(Source::Given { name: "RUNNER_BROKER_TOKEN", token: token.into() });
    }
    if let Some(path) = (around.variable)("RUNNER_BROKER_TOKEN_FILE") {
        return Ok(Source::File(path.into()));
    }
    let mut hints = Vec::new();
    for place in [github_actions, gitlab, kubernetes] {
        match place(around, audience) {
            Finding::NotHere => {}
            Finding::Found(source) => return Ok(source),
            Finding::Incomplete(hint) => hints.push(hint),
        }
    }
    Err(Error::Usage(nothing_found(&hints, audience)))
}

enum Finding {
    /// Not here.
    NotHere,
    Found(Source),
    /// Here, but something has to be added; this says what.
    Incomplete(String),
}

/// GitHub's, and Forgejo's and Gitea's, which are alike.
fn github_actions(around: &Environment<'_>, _: &str) -> Finding {
    if (around.variable)("GITHUB_ACTIONS").as_deref() != Some("true") {
        return Finding::NotHere;
    }
    let variable = |name| (around.variable)(name);
    match (variable("ACTIONS_ID_TOKEN_REQUEST_URL"), variable("ACTIONS_ID_TOKEN_REQUEST_TOKEN")) {
        (Some(url), Some(bearer)) => match Url::parse(&url) {
            Ok(url) => Finding::Found(Source::GitHubActions { url, bearer: SecretString::from(bearer) }),
            Err(_) => Finding::Incomplete("ACTIONS_ID_TOKEN_REQUEST_URL is no URL".into()),
        },
        _ => Finding::Incomplete(
            "This is a job of GitHub Actions, without the permission to ask for an ID token. Add to the workflow, \
             or to the job:\n\n    permissions:\n      id-token: write\n\n  (a workflow of a fork's pull request \
             cannot have it)"
                .into(),
        ),
    }
}

fn gitlab(around: &Environment<'_>, audience: &str) -> Finding {
    if (around.variable)("GITLAB_CI").as_deref() != Some("true") {
        return Finding::NotHere;
    }
    // GitLab puts a token into the variable that the job names.
    match (around.variable)("BROKER_TOKEN") {
        Some(token) => Finding::Found(Source::Given { name: "BROKER_TOKEN", token: token.into() }),
        None => Finding::Incomplete(format!(
            "This is a job of GitLab CI, without an ID token for the broker. Add to the job:\n\n    id_tokens:\n      \
             RUNNER_BROKER_TOKEN:\n        aud: {}",
            quoted(audience)
        )),
    }
}

fn kubernetes(around: &Environment<'_>, audience: &str) -> Finding {
    let projected = around.secrets.join(PROJECTED);
    if projected.is_file() {
        return Finding::Found(Source::File(projected));
    }
    let own = around.secrets.join(SERVICE_ACCOUNT);
    let found = match std::fs::read_to_string(&own) {
        Ok(token) => audiences(token.trim()),
        Err(_) if (around.variable)("KUBERNETES_SERVICE_HOST").is_none() => return Finding::NotHere,
        Err(_) => Vec::new(),
    };
    if found.iter().any(|found| found == audience) {
        return Finding::Found(Source::File(own));
    }
    let whose = match found.is_empty() {
        true => "without a token for the broker".to_owned(),
        false => format!("whose own token is for {}, not for the broker", plain(&found.join(", "))),
    };
    Finding::Incomplete(format!(
        "This is a pod in Kubernetes, {whose}. Add to its specification:\n
    volumes:
      - name: broker-token
        projected:
          sources:
            - serviceAccountToken:
                audience: {}
                expirationSeconds: 600
                path: token
    containers:
      - volumeMounts:
          - name: broker-token
            mountPath: /var/run/secrets/broker
            readOnly: true",
        quoted(audience)
    ))
}

/// For YAML, of which JSON is a part.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn nothing_found(hints: &[String], audience: &str) -> String {
    let mut text = format!(
        "no token: the broker wants an OpenID Connect token for the audience {}\n",
        quoted(&plain(audience))
    );
    for hint in hints {
        text.push_str(&format!("\n  {hint}\n"));
    }
    text.push_str(
        "\nIt is looked for in this order:
  --token-file FILE, --token-command COMMAND, or --token TOKEN, which other users of the machine can see
  RUNNER_BROKER_TOKEN, RUNNER_BROKER_TOKEN_FILE
  GitHub Actions: a job with the permission 'id-token: write'
  GitLab CI: a job with 'id_tokens', in RUNNER_BROKER_TOKEN or BROKER_TOKEN
  Kubernetes: a projected service account token at /var/run/secrets/broker/token",
    );
    text
}
