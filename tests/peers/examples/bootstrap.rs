//! `bootstrap.sh`: in every shell, with every kind of token, stopped, refused, and kept waiting.

use std::time::Duration;

use runner_broker::dev::github::{Action, Canned, Fault};
use serde_json::json;
use tokio::process::Child;

use super::outside::Ask;
use super::stage::{Stage, ended, spawn, terminate, token};
use crate::process::until;
use crate::support::ORG;
use crate::tools::{machine_program, run};

const LIMIT: Duration = Duration::from_secs(60);
const NEEDS: &[&str] = &["curl", "jq"];

/// A member of the team in `examples/policy.toml`.
fn member() -> serde_json::Value {
    json!({ "sub": "service-account", "azp": "github-runner" })
}

/// A stage with the script, the runner in `runner`, and a token in a file.
async fn stage() -> Option<Stage> {
    let stage = Stage::new(NEEDS).await?;
    stage.copy("bootstrap.sh");
    stage.unpack_runner("runner");
    write_secret(&stage, "token", &stage.token(member()));
    Some(stage)
}

fn write_secret(stage: &Stage, name: &str, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    let path = stage.home.join(name);
    std::fs::write(&path, text).expect("a file");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).expect("our own");
}

fn start(stage: &Stage, environment: &[(&str, &str)]) -> Child {
    let usual = [("RUNNER_BROKER_TOKEN_FILE", "token"), ("RUNNER_HOME", "runner")];
    spawn(&mut stage.command(stage.home.join("bootstrap.sh"), &[&usual, environment].concat()))
}

#[tokio::test(flavor = "multi_thread")]
async fn shellcheck_finds_nothing() {
    let Some(shellcheck) = machine_program("shellcheck") else { return };
    for script in ["bootstrap.sh", "github-actions/start-runner.sh"] {
        run(tokio::process::Command::new(&shellcheck).arg(super::example(script)), LIMIT).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_with_curl_and_jq_becomes_a_runner_whatever_its_shell_is() {
    let shells: [(&str, &[&str]); 3] = [("dash", &[]), ("bash", &["--posix"]), ("busybox", &["sh"])];
    let Some(stage) = stage().await else { return };
    for (shell, arguments) in shells {
        let Some(program) = machine_program(shell) else { return };
        let environment = [("RUNNER_BROKER_TOKEN_FILE", "token"), ("RUNNER_HOME", "runner")];
        let mut command = stage.command(program, &environment);
        let child = spawn(command.args(arguments).arg("bootstrap.sh"));
        stage.gets_a_job("machine-").await;
        let (status, said) = ended(child).await;
        assert!(status.success() && said.contains("Listening for Jobs"), "{shell}: {status}: {said}");
        let started = Stage::started(&stage.home.join("runner"));
        assert_eq!(started["arguments"], json!(["run"]), "{shell}");
    }
    stage.kept_its_secrets(Some(&stage.home.join("runner")));
    assert!(stage.site.github.runners(ORG).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_comes_from_a_command_from_the_environment_or_from_github_actions() {
    let needed = Stage::with(NEEDS, |site| {
        let issued = token(site, member());
        std::sync::Arc::new(move |ask: &Ask| {
            let right = ask.what == "GET pipelines.actions.example.com/42/idtoken"
                && ask.field("api-version") == "2.0"
                && ask.field("audience") == super::stage::BROKER
                && ask.header("authorization") == "Bearer of-this-job";
            right.then(|| json!({ "count": 1, "value": issued }).to_string().into_bytes())
        })
    });
    let Some(stage) = needed.await else { return };
    stage.copy("bootstrap.sh");
    stage.unpack_runner("runner");
    let token = stage.token(member());
    write_secret(&stage, "token", &token);
    let ways: [&[(&str, &str)]; 3] = [
        &[("RUNNER_BROKER_TOKEN_COMMAND", "cat token")],
        &[("RUNNER_BROKER_TOKEN", &token)],
        &[
            (
                "ACTIONS_ID_TOKEN_REQUEST_URL",
                "https://pipelines.actions.example.com/42/idtoken?api-version=2.0",
            ),
            ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "of-this-job"),
        ],
    ];
    for way in ways {
        let environment = [&[("RUNNER_HOME", "runner")], way].concat();
        let child = spawn(&mut stage.command(stage.home.join("bootstrap.sh"), &environment));
        stage.gets_a_job("machine-").await;
        let (status, said) = ended(child).await;
        assert!(status.success(), "{way:?}: {status}: {said}");
        let runner = stage.home.join("runner");
        stage.kept_its_secrets(Some(&runner));
        let environment = Stage::started(&runner)["environment"].to_string();
        assert!(!environment.contains("TOKEN") && !environment.contains("JITCONFIG"), "{environment}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn stopped_before_it_had_a_job_the_runner_is_taken_off_github() {
    let Some(stage) = stage().await else { return };
    let child = start(&stage, &[]);
    let name = stage.online("machine-").await;
    terminate(&child);
    let (status, said) = ended(child).await;
    assert_eq!(status.code(), Some(143), "{said}");
    assert!(said.contains("Exiting..."), "the runner was to end as it does: {said}");
    assert!(stage.site.github.runners(ORG).is_empty(), "{said}");
    assert_eq!(stage.site.status(&name).await, "deleted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_that_does_not_start_is_taken_off_github() {
    let Some(stage) = stage().await else { return };
    std::fs::remove_file(stage.home.join("runner/run.sh")).expect("a file");
    let (status, said) = ended(start(&stage, &[])).await;
    assert!(!status.success() && said.contains("the runner ended with"), "{said}");
    assert!(stage.site.github.runners(ORG).is_empty(), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_passes_is_waited_for_and_one_runner_comes_of_it() {
    let Some(stage) = stage().await else { return };
    let away = Canned { status: 503, ..Canned::default() };
    // Each request asks GitHub twice at most; the first one after the deed.
    stage.site.github.fail(Fault::new("POST", "jitconfig", Action::ActThenRespond(away.clone())));
    stage.site.github.fail(Fault::new("POST", "jitconfig", Action::Respond(away)).times(1));
    let child = start(&stage, &[]);
    stage.gets_a_job("machine-").await;
    let (status, said) = ended(child).await;
    assert!(status.success() && said.contains("GITHUB_UNAVAILABLE"), "{status}: {said}");
    assert!(stage.site.github.runners(ORG).is_empty());
    assert_eq!(stage.site.one("SELECT count(*) FROM runners WHERE status <> 'failed'").await, "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn its_patience_ends() {
    let Some(stage) = stage().await else { return };
    let away = Canned { status: 503, ..Canned::default() };
    stage.site.github.fail(Fault::new("POST", "jitconfig", Action::Respond(away)).always());
    let (status, said) = ended(start(&stage, &[("RUNNER_BROKER_PATIENCE", "1")])).await;
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("given up: 503 GITHUB_UNAVAILABLE"), "{said}");
    // A pause that the broker asks for and that is longer than the patience is not begun.
    stage.site.github.clear_faults();
    let limit = Action::SecondaryLimit { retry_after_seconds: 900 };
    stage.site.github.fail(Fault::new("POST", "jitconfig", limit));
    let asked = stage.site.asked("POST", "jitconfig");
    let (status, said) = ended(start(&stage, &[])).await;
    assert!(status.code() == Some(1) && said.contains("given up: 503 GITHUB_RATE_LIMITED"), "{said}");
    assert!(!said.contains("again in"), "{said}");
    assert_eq!(stage.site.asked("POST", "jitconfig"), asked + 1);
    let nobody = [("RUNNER_BROKER_PATIENCE", "1"), ("RUNNER_BROKER_URL", "http://127.0.0.1:1")];
    let (status, said) = ended(start(&stage, &nobody)).await;
    assert!(status.code() == Some(1) && said.contains("given up: no answer"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_ends_it_at_once_in_the_brokers_words() {
    let Some(stage) = stage().await else { return };
    let greedy = [("RUNNER_REQUEST", r#"{"runner_name_prefix": "machine", "labels": ["forbidden"]}"#)];
    let (status, said) = ended(start(&stage, &greedy)).await;
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(
        said.contains("403 LABEL_POLICY_VIOLATION Labels ['forbidden'] not permitted by policy"),
        "{said}"
    );
    let asked = "SELECT count(*) FROM audit_log WHERE event_type = 'provision_refused'";
    assert_eq!(stage.site.one(asked).await, "1");
    let (status, said) = ended(start(&stage, &[("RUNNER_BROKER_URL", "http://broker.example.com")])).await;
    assert!(status.code() == Some(1) && said.contains("https only"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_on_a_command_line_while_the_broker_is_asked() {
    let Some(stage) = stage().await else { return };
    // So long that every look at the processes sees the request.
    stage.site.github.fail(Fault::new("POST", "jitconfig", Action::Delay { millis: 500 }));
    let child = start(&stage, &[]);
    until("GitHub is asked", async || stage.site.asked("POST", "jitconfig") == 1).await;
    stage.gets_a_job("machine-").await;
    let (status, said) = ended(child).await;
    assert!(status.success(), "{said}");
    stage.kept_its_secrets(Some(&stage.home.join("runner")));
}
