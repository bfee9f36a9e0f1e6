//! Commands that start a new runner: in a shell, in a container, in Kubernetes. The credential goes through the
//! environment, since other users of the machine can read the arguments of a process.

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

/// The ways to start a runner on this system; `url` is the address of its target on GitHub.
pub fn recipes(provisioned: &Provisioned, os: Os, url: &str) -> Vec<Recipe> {
    let shell = Recipe {
        id: "shell",
        title: if os == Os::Windows { "PowerShell" } else { "Shell" },
        explanation: "Run this in the folder of GitHub's runner software.",
        text: in_a_shell(provisioned, os, url),
    };
    match os {
        Os::Windows | Os::MacOs => vec![shell],
        Os::Linux => vec![
            shell,
            Recipe {
                id: "container",
                title: "Container",
                explanation: "Docker or Podman, with GitHub's runner image. The container is removed when the runner stops.",
                text: in_a_container(provisioned, url),
            },
            Recipe {
                id: "kubernetes",
                title: "Kubernetes",
                explanation: "A Secret, and a Job that uses it: paste this into kubectl create -f - and press Ctrl+D.",
                text: in_kubernetes(provisioned, url),
            },
        ],
    }
}

fn registration<'a>(
    provisioned: &'a Provisioned,
    url: &'a str,
    token: Option<&'a str>,
    labels: &'a [String],
) -> Registration<'a> {
    Registration {
        url,
        token,
        name: &provisioned.runner.name,
        labels,
        group: provisioned.group_name.as_deref(),
        work_folder: provisioned.grant.work_folder(),
        ephemeral: provisioned.grant.ephemeral(),
        disable_update: provisioned.grant.disable_update(),
    }
}

/// The labels without those that the runner software adds by itself.
fn custom_labels(provisioned: &Provisioned) -> Vec<String> {
    provisioned
        .runner
        .labels
        .iter()
        .filter(|label| !provisioned.system_labels.contains(*label))
        .cloned()
        .collect()
}

fn in_a_shell(provisioned: &Provisioned, os: Os, url: &str) -> String {
    let secret = provisioned.credential.expose_secret();
    match provisioned.grant.method() {
        Method::Jit => command::run(os, secret),
        Method::RegistrationToken => {
            let labels = custom_labels(provisioned);
            let run = if os == Os::Windows { "; .\\run.cmd" } else { " && ./run.sh" };
            command::configure(os, &registration(provisioned, url, Some(secret), &labels)) + run
        }
    }
}

/// The environment variable of the credential, and the command in the container.
fn inside(provisioned: &Provisioned, url: &str) -> (&'static str, Vec<String>) {
    match provisioned.grant.method() {
        Method::Jit => ("ACTIONS_RUNNER_INPUT_JITCONFIG", vec!["./run.sh".to_owned()]),
        Method::RegistrationToken => {
            let labels = custom_labels(provisioned);
            let configure = command::configure(Os::Linux, &registration(provisioned, url, None, &labels));
            let script = format!("{configure} && exec ./run.sh");
            ("ACTIONS_RUNNER_INPUT_TOKEN", vec!["bash".to_owned(), "-c".to_owned(), script])
        }
    }
}

fn in_a_container(provisioned: &Provisioned, url: &str) -> String {
    let (variable, inside) = inside(provisioned, url);
    let secret = quote(Os::Linux, provisioned.credential.expose_secret());
    let words: Vec<_> = inside.iter().map(|word| quote(Os::Linux, word)).collect();
    format!("{variable}={secret} docker run --rm -e {variable} {IMAGE} {}", words.join(" "))
}

/// Every text is written as JSON, which is YAML too, so none can end its string.
fn in_kubernetes(provisioned: &Provisioned, url: &str) -> String {
    let (variable, inside) = inside(provisioned, url);
    let name = json(&resource_name(&provisioned.runner.name));
    let words: Vec<String> = inside.iter().map(|word| json(word)).collect();
    let (secret, command) = (json(provisioned.credential.expose_secret()), words.join(", "));
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

/// U+2028 and U+2029 end a line in YAML, but not in JSON.
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
    fn a_runner_name_becomes_a_name_that_kubernetes_accepts() {
        assert_eq!(resource_name("CI_worker.1-"), "ci-worker-1");
        assert_eq!(resource_name(&"a".repeat(64)).len(), 63);
    }

    #[test]
    fn no_text_ends_its_string_in_yaml() {
        assert_eq!(json("a\"\n: b\\"), r#""a\"\n: b\\""#);
        assert_eq!(json("a\u{2028}b"), r#""a\u2028b""#);
    }
}
