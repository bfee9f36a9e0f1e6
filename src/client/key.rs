//! Idempotency keys: one for each runner that is wanted, never one for two.
//!
//! Random, since two equal requests with a prefix mean two runners. For an exact `--name` it follows from the CI
//! job's execution (GitHub's `RUNNER_TRACKING_ID` with run, attempt and job, which a matrix shares; GitLab's
//! `CI_JOB_ID`), with URL and body: a repeated step replaces its runner. A derived key that is spent gives way to a
//! random one, a given one does not.

use super::RunnerRequest;
use crate::model::sha256_of_parts;

/// What the broker knows repeats by. The same key replaces the runner that has not started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    text: String,
    /// Ours to change, once its runner has started.
    is_derived: bool,
}

impl Key {
    /// As the caller chose it, who knows what it stands for.
    pub fn given(text: String) -> Key {
        Key { text, is_derived: false }
    }

    /// For this run only: what is tried again within it is the same request, anything else another.
    pub fn random() -> Key {
        Key { text: format!("request-{:032x}", rand::random::<u128>()), is_derived: false }
    }

    /// For a CI job: the same when the job asks again for the very same runner, so that a step that is repeated
    /// after a crash replaces the runner that the first left behind instead of finding its name taken.
    ///
    /// Only for an exact name, of which there can be one alive anyway: with a prefix a second request is a
    /// second runner. And only where the CI system names the job's own execution: GitHub's run, attempt and job
    /// are the same for all jobs of a matrix, and its tracking id is not; GitLab's job id is.
    pub fn for_request(request: &RunnerRequest, url: &str, variable: impl Fn(&str) -> Option<String>) -> Key {
        let Some(job) = request.body.contains_key("runner_name").then(|| job(&variable)).flatten() else {
            return Key::random();
        };
        let body = serde_json::Value::Object(request.body.clone()).to_string();
        let request = [url, request.path(), &body];
        let hash = sha256_of_parts(job.parts.iter().map(String::as_str).chain(request));
        Key { text: format!("{}-{}-{}", job.system, job.shown, &hash[..32]), is_derived: true }
    }

    /// The header's value.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The next one, if this one was ours: the job has had the runner that it stood for.
    pub fn after_spent(&self) -> Option<Key> {
        self.is_derived.then(Key::random)
    }
}

/// One execution of one job.
struct Job {
    system: &'static str,
    /// What people look for in logs.
    shown: String,
    parts: Vec<String>,
}

fn job(variable: &impl Fn(&str) -> Option<String>) -> Option<Job> {
    let all = |names: &[&str]| names.iter().map(|name| variable(name)).collect::<Option<Vec<String>>>();
    let is_on = |name: &str| variable(name).as_deref() == Some("true");
    let (system, shown, parts) = if is_on("GITHUB_ACTIONS") {
        let names = ["GITHUB_RUN_ID", "GITHUB_RUN_ATTEMPT", "GITHUB_JOB", "RUNNER_TRACKING_ID"];
        ("github", "GITHUB_RUN_ID", all(&names)?)
    } else if is_on("GITLAB_CI") {
        ("gitlab", "CI_JOB_ID", all(&["CI_SERVER_URL", "CI_JOB_ID"])?)
    } else {
        return None;
    };
    let shown = variable(shown)?.chars().filter(char::is_ascii_alphanumeric).take(40).collect();
    Some(Job { system, shown, parts })
}

#[cfg(test)]
mod tests {
    use super::super::Method;
    use super::*;
    use serde_json::json;

    const GITHUB: &[(&str, &str)] = &[
        ("GITHUB_ACTIONS", "true"),
        ("GITHUB_RUN_ID", "4711"),
        ("GITHUB_RUN_ATTEMPT", "1"),
        ("GITHUB_JOB", "build"),
        ("RUNNER_TRACKING_ID", "github_1f3d"),
    ];

    fn key(body: serde_json::Value, variables: &[(&str, &str)], other: &[(&str, &str)]) -> Key {
        let request = RunnerRequest { method: Method::Jit, body: body.as_object().unwrap().clone() };
        let find = |list: &[(&str, &str)], name: &str| {
            list.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        let variable = |name: &str| find(other, name).or_else(|| find(variables, name));
        Key::for_request(&request, "https://broker", |name| variable(name).filter(|value| !value.is_empty()))
    }

    #[test]
    fn a_repeated_step_has_the_same_key_and_every_other_job_and_request_another() {
        let named = json!({ "runner_name": "a" });
        let first = key(named.clone(), GITHUB, &[]);
        assert_eq!(first, key(named.clone(), GITHUB, &[]));
        assert!(first.as_str().starts_with("github-4711-") && first.after_spent().is_some());
        for other in [
            ("RUNNER_TRACKING_ID", "github_2"),
            ("GITHUB_RUN_ATTEMPT", "2"),
            ("GITHUB_RUN_ID", "4712"),
            ("GITHUB_JOB", "test"),
        ] {
            assert_ne!(first, key(named.clone(), GITHUB, &[other]), "{other:?}");
        }
        assert_ne!(first, key(json!({ "runner_name": "b" }), GITHUB, &[]));
    }

    #[test]
    fn where_two_requests_may_mean_two_runners_the_key_is_random() {
        let named = json!({ "runner_name": "a" });
        let random = |body: &serde_json::Value, variables: &[(&str, &str)], other: &[(&str, &str)]| {
            let key = key(body.clone(), variables, other);
            assert!(key.as_str().starts_with("request-") && key.after_spent().is_none());
            key
        };
        assert_ne!(random(&named, &[], &[]), random(&named, &[], &[]));
        random(&json!({ "runner_name_prefix": "a" }), GITHUB, &[]);
        // The jobs of a matrix could not be told apart.
        random(&named, GITHUB, &[("RUNNER_TRACKING_ID", "")]);
        let gitlab = [("GITLAB_CI", "true"), ("CI_SERVER_URL", "https://gitlab.com"), ("CI_JOB_ID", "9")];
        assert!(key(named, &gitlab, &[]).as_str().starts_with("gitlab-9-"));
    }
}
