//! How a runner that was just made is started: in a shell, in a container, in Kubernetes. What was granted goes
//! through the environment, which other users of the machine cannot read as they can a process's arguments.

use secrecy::ExposeSecret;

use crate::broker::provision::Provisioned;
use crate::http::command::{self, Registration, quote};
use crate::model::{Method, Os};

/// GitHub's own image of the runner.
const IMAGE: &str = "ghcr.io/actions/actions-runner:latest";

/// One way to start a runner.
pub struct Recipe {
    pub id: &'static str,
    pub title: &'static str,
    pub explanation: &'static str,
    pub text: String,
}

/// All ways for the runner's system; `url` is its target's.
pub fn recipes(made: &Provisioned, os: Os, url: &str) -> Vec<Recipe> {
    let shell = Recipe {
        id: "shell",
        title: if os == Os::Windows { "PowerShell" } else { "Shell" },
        explanation: "In the folder of GitHub's runner software.",
        text: in_a_shell(made, os, url),
    };
    match os {
        Os::Windows | Os::MacOs => vec![shell],
        Os::Linux => vec![
            shell,
            Recipe {
                id: "container",
                title: "Container",
                explanation: "Docker or Podman, from GitHub's own image. The container is gone when the runner is.",
                text: in_a_container(made, url),
            },
            Recipe {
                id: "kubernetes",
                title: "Kubernetes",
                explanation: "Paste it into kubectl create -f - and end it with Ctrl+D: a secret, and a job that runs it.",
                text: in_kubernetes(made, url),
            },
        ],
    }
}

fn registration<'a>(
    made: &'a Provisioned,
    url: &'a str,
    token: Option<&'a str>,
    labels: &'a [String],
) -> Registration<'a> {
    Registration {
        url,
        token,
        name: &made.runner.name,
        labels,
        group: made.group_name.as_deref(),
        work_folder: made.grant.work_folder(),
        ephemeral: made.grant.ephemeral(),
        disable_update: made.grant.disable_update(),
    }
}

/// Without those that the runner's software adds by itself.
fn custom_labels(made: &Provisioned) -> Vec<String> {
    made.runner.labels.iter().filter(|label| !made.system_labels.contains(*label)).cloned().collect()
}

fn in_a_shell(made: &Provisioned, os: Os, url: &str) -> String {
    let secret = made.credential.expose_secret();
    match made.grant.method() {
        Method::Jit => command::run(os, secret),
        Method::RegistrationToken => {
            let labels = custom_labels(made);
            let run = if os == Os::Windows { "; .\\run.cmd" } else { " && ./run.sh" };
            command::configure(os, &registration(made, url, Some(secret), &labels)) + run
        }
    }
}

/// The variable that holds the credential, and what a container runs.
fn inside(made: &Provisioned, url: &str) -> (&'static str, Vec<String>) {
    match made.grant.method() {
        Method::Jit => ("ACTIONS_RUNNER_INPUT_JITCONFIG", vec!["./run.sh".to_owned()]),
        Method::RegistrationToken => {
            let labels = custom_labels(made);
            let configure = command::configure(Os::Linux, &registration(made, url, None, &labels));
            let script = format!("{configure} && exec ./run.sh");
            ("ACTIONS_RUNNER_INPUT_TOKEN", vec!["bash".to_owned(), "-c".to_owned(), script])
        }
    }
}

fn in_a_container(made: &Provisioned, url: &str) -> String {
    let (variable, inside) = inside(made, url);
    let secret = quote(Os::Linux, made.credential.expose_secret());
    let words: Vec<_> = inside.iter().map(|word| quote(Os::Linux, word)).collect();
    format!("{variable}={secret} docker run --rm -e {variable} {IMAGE} {}", words.join(" "))
}

/// YAML in which every text is written as JSON writes it, which is YAML too: none can end its place.
fn in_kubernetes(made: &Provisioned, url: &str) -> String {
    let (variable, inside) = inside(made, url);
    let name = json(&resource_name(&made.runner.name));
    let words: Vec<String> = inside.iter().map(|word| json(word)).collect();
    let (secret, command) = (json(made.credential.expose_secret()), words.join(", "));
    format!(
        "apiVersion: v1
kind: Secret
metadata:
  name: {name}
stringData:
  credential: {secret}
---
apiVersion: batch/v1
kind: Job
metadata:
  name: {name}
spec:
  backoffLimit: 0
  ttlSecondsAfterFinished: 3600
  template:
    spec:
      restartPolicy: Never
      containers:
        - name: runner
          image: {IMAGE}
          workingDir: /home/runner
          command: [{command}]
          env:
            - name: {variable}
              valueFrom:
                secretKeyRef:
                  name: {name}
                  key: credential
"
    )
}

/// These two end a line in YAML, but not in JSON.
fn json(text: &str) -> String {
    serde_json::Value::from(text).to_string().replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029")
}

/// At most 63 of `a-z0-9-`, with a letter or digit at both ends (RFC 1123).
fn resource_name(name: &str) -> String {
    let lower = name.to_ascii_lowercase();
    let fit: String =
        lower.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(63).collect();
    let fit = fit.trim_matches('-');
    if fit.is_empty() { "runner".to_owned() } else { fit.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runners_name_becomes_one_that_kubernetes_takes() {
        assert_eq!(resource_name("CI_worker.1-"), "ci-worker-1");
        assert_eq!(resource_name(&"a".repeat(64)).len(), 63);
    }

    #[test]
    fn no_text_leaves_its_place_in_yaml() {
        assert_eq!(json("a\"\n: b\\"), r#""a\"\n: b\\""#);
        assert_eq!(json("a\u{2028}b"), r#""a\u2028b""#);
    }
}
