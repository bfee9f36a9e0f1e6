//! Where the token comes from, in which order, and what is said when there is none.

use std::path::Path;

use runner_broker::client::{Environment, Error, Source, find_token};
use serde_json::json;
use tempfile::TempDir;

use super::between::{Act, Between};
use super::{as_blue, request};
use crate::support::World;

const JIT: &[&str] = &["jit", "--name-prefix", "ci"];

fn file(folder: &TempDir, name: &str, text: &str) -> String {
    let path = folder.path().join(name);
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_may_come_from_five_places_and_the_first_in_order_counts() {
    let world = World::new().await;
    let (token, folder) = (world.token("blue"), tempfile::tempdir().unwrap());
    // With a line's end, as people write files.
    let (good, bad) = (file(&folder, "good", &format!("{token}\n")), file(&folder, "bad", "bad"));
    let prints = format!("cat {good}");
    let options = [
        ("--token", token.as_str(), "bad"),
        ("--token-file", &good, &bad),
        ("--token-command", &prints, "echo bad"),
    ];
    let variables =
        [("RUNNER_BROKER_TOKEN", token.as_str(), "bad"), ("RUNNER_BROKER_TOKEN_FILE", &good, &bad)];
    for chosen in 0..5 {
        // What comes before is absent, what comes after is bad.
        let value = |at: usize, good, bad| (at >= chosen).then_some(if at == chosen { good } else { bad });
        let options = options.iter().enumerate();
        let given: Vec<&str> = options
            .filter_map(|(at, (name, good, bad))| Some([*name, value(at, *good, *bad)?]))
            .flatten()
            .collect();
        let variables = variables.iter().enumerate();
        let mut environment: Vec<(&str, &str)> = variables
            .filter_map(|(at, (name, good, bad))| Some((*name, value(at + 3, *good, *bad)?)))
            .collect();
        environment.push(("RUNNER_BROKER_URL", &world.url));
        let ended = request(&[JIT, &given].concat(), &environment).await;
        assert_eq!(ended.code, 0, "{chosen}: {}", ended.err);
    }
    assert_eq!(world.on_github().len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_of_github_actions_asks_for_its_token_by_the_audience() {
    let world = World::new().await;
    let answer = json!({ "count": 1, "value": world.token("blue") }).to_string();
    let github =
        Between::start("", vec![Act::Answer(503, "", String::new()), Act::Answer(200, "", answer)]).await;
    let url = format!("{}/token?api-version=2.0", github.url);
    let environment = [
        ("GITHUB_ACTIONS", "true"),
        ("ACTIONS_ID_TOKEN_REQUEST_URL", url.as_str()),
        ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "of-the-job"),
        ("RUNNER_BROKER_URL", &world.url),
        ("RUNNER_BROKER_AUDIENCE", "a b&c"),
    ];
    let ended = request(JIT, &environment).await;
    assert_eq!(ended.code, 0, "{}", ended.err);
    // Tried again, and why.
    assert!(
        ended.err.contains("asking GitHub for an ID token: the answer was 503; trying again"),
        "{}",
        ended.err
    );
    let seen = github.seen();
    assert_eq!(seen.len(), 2);
    assert_eq!(seen[1].path, "/token?api-version=2.0&audience=a+b%26c");
    assert_eq!((seen[1].method.as_str(), seen[1].authorization.as_str()), ("GET", "Bearer of-the-job"));
    assert!(!ended.err.contains("of-the-job"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audience_is_the_brokers_url_unless_somebody_says_otherwise() {
    let world = World::new().await;
    let with_slash = format!("{}/", world.url);
    for (option, wanted) in [(None, world.url.as_str()), (Some("other"), "other")] {
        let answer = json!({ "value": world.token("blue") }).to_string();
        let github = Between::start("", vec![Act::Answer(200, "", answer)]).await;
        let url = format!("{}/?v=2", github.url);
        let environment = [
            ("GITHUB_ACTIONS", "true"),
            ("ACTIONS_ID_TOKEN_REQUEST_URL", url.as_str()),
            ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "t"),
        ];
        let mut args = [JIT, &["--url", &with_slash]].concat();
        args.extend(option.iter().flat_map(|audience| ["--audience", audience]));
        let ended = request(&args, &environment).await;
        assert_eq!(ended.code, 0, "{}", ended.err);
        let path = url::Url::parse(&format!("http://x{}", github.seen()[0].path)).unwrap();
        let asked = path.query_pairs().find(|(name, _)| name == "audience").unwrap().1;
        assert_eq!(asked, wanted);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_without_the_permission_is_told_which_lines_to_add() {
    let ended = request(
        &[JIT, &["--url", "https://broker.example.com"]].concat(),
        &[("GITHUB_ACTIONS", "true"), ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "hunter2")],
    )
    .await;
    assert_eq!(ended.code, 2, "{}", ended.err);
    assert!(ended.err.contains("    permissions:\n      id-token: write\n"), "{}", ended.err);
    assert!(!ended.err.contains("hunter2") && ended.out.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn gitlab_puts_the_token_into_a_variable_that_the_job_names() {
    let world = World::new().await;
    let token = world.token("blue");
    for name in ["RUNNER_BROKER_TOKEN", "BROKER_TOKEN"] {
        let environment = [("GITLAB_CI", "true"), (name, token.as_str()), ("RUNNER_BROKER_URL", &world.url)];
        assert_eq!(request(JIT, &environment).await.code, 0);
    }
    let environment = [("GITLAB_CI", "true"), ("RUNNER_BROKER_URL", "https://broker.example.com/x/")];
    let ended = request(JIT, &environment).await;
    assert_eq!(ended.code, 2, "{}", ended.err);
    let lines = "    id_tokens:\n      RUNNER_BROKER_TOKEN:\n        aud: \"https://broker.example.com/x\"\n";
    assert!(ended.err.contains(lines), "{}", ended.err);
    // Elsewhere a variable of so common a name is not ours.
    let environment = [("BROKER_TOKEN", token.as_str()), ("RUNNER_BROKER_URL", &world.url)];
    assert_eq!(request(JIT, &environment).await.code, 2);
}

/// What is found with these files below the folder for secrets.
fn in_a_pod(files: &[(&str, &str)], variables: &[(&str, &str)]) -> Result<Source, Error> {
    let secrets = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = secrets.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let variable =
        |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
    find_token(&Environment { variable: &variable, secrets: secrets.path() }, "the-broker")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_uses_the_token_that_was_projected_for_the_broker_and_its_own_only_if_that_is_for_it_too() {
    let issuer = World::new().await;
    let own = "kubernetes.io/serviceaccount/token";
    let (for_us, for_the_cluster) = (
        issuer.issuer.mint(json!({ "aud": ["x", "the-broker"] })),
        issuer.issuer.mint(json!({ "aud": "https://kubernetes.default.svc" })),
    );
    let is_file = |found: &Result<Source, Error>, end: &str| match found {
        Ok(Source::File(path)) => path.ends_with(Path::new(end)),
        _ => false,
    };
    let both = in_a_pod(&[("broker/token", "t"), (own, &for_us)], &[]);
    assert!(is_file(&both, "broker/token"), "{both:?}");
    let ours = in_a_pod(&[(own, &for_us)], &[]);
    assert!(is_file(&ours, own), "{ours:?}");

    let pod = [("KUBERNETES_SERVICE_HOST", "10.0.0.1")];
    for (files, whose) in [
        (vec![(own, for_the_cluster.as_str())], "whose own token is for https://kubernetes.default.svc, not"),
        (vec![(own, "no token")], "without a token for the broker"),
        (vec![], "without a token for the broker"),
    ] {
        let Err(Error::Usage(why)) = in_a_pod(&files, &pod) else { panic!() };
        assert!(why.contains(whose) && why.contains("audience: \"the-broker\""), "{why}");
        assert!(why.contains("mountPath: /var/run/secrets/broker\n") && !why.contains("eyJ"), "{why}");
    }
    // A job of GitHub's or GitLab's on a runner in a cluster has the pod's token all the same, if it is there.
    for ci in ["GITHUB_ACTIONS", "GITLAB_CI"] {
        assert!(is_file(&in_a_pod(&[("broker/token", "t")], &[(ci, "true")]), "broker/token"));
        let Err(Error::Usage(why)) = in_a_pod(&[], &[(ci, "true"), pod[0]]) else { panic!() };
        assert!(why.contains("pod in Kubernetes") && why.contains("This is a job of Git"), "{why}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_no_token_anywhere_one_message_lists_all_ways() {
    let ended = request(JIT, &[("RUNNER_BROKER_URL", "https://broker.example.com")]).await;
    assert_eq!(ended.code, 2, "{}", ended.err);
    for way in [
        "audience \"https://broker.example.com\"",
        "--token-file",
        "--token-command",
        "--token TOKEN",
        "RUNNER_BROKER_TOKEN, RUNNER_BROKER_TOKEN_FILE",
        "id-token: write",
        "id_tokens",
        "/var/run/secrets/broker/token",
    ] {
        assert!(ended.err.contains(way), "{way}: {}", ended.err);
    }
    assert_eq!(request(JIT, &[]).await.code, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_a_token_is_refused_without_being_shown() {
    let folder = tempfile::tempdir().unwrap();
    let url = ["--url", "http://127.0.0.1:1"];
    let bad = file(&folder, "bad", "first.hunter2\nsecond.hunter2");
    let nowhere = folder.path().join("nowhere").display().to_string();
    for (args, code, why) in [
        (["--token-file", &bad], 2, "blanks or other characters"),
        (["--token-file", &nowhere], 2, "No such file"),
        (["--token", "a hunter2"], 2, "--token: empty, or with blanks"),
        (["--token-command", "true"], 2, "the token command: empty"),
        (["--token-command", "echo hunter2; exit 3"], 1, "the token command failed: exit status: 3"),
    ] {
        let ended = request(&[JIT, &url, &args].concat(), &[]).await;
        assert_eq!(ended.code, code, "{args:?}: {}", ended.err);
        assert!(ended.err.contains(why) && !ended.err.contains("hunter2"), "{args:?}: {}", ended.err);
    }
}

/// A command that prints the first, the second, … of these tokens, one each time.
fn one_each_time(folder: &TempDir, tokens: &[String]) -> String {
    for (number, token) in tokens.iter().enumerate() {
        file(folder, &(number + 1).to_string(), token);
    }
    let folder = folder.path().display();
    format!("cd {folder}; echo x >> count; cat $(grep -c x count)")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_ends_between_two_attempts_is_fetched_anew() {
    let world = World::new().await;
    let folder = tempfile::tempdir().unwrap();
    let soon = world.clock.now().timestamp() + 11;
    let ends_soon = world.issuer.mint(json!({ "team": "blue", "sub": "blue-user", "exp": soon }));
    let tokens = [ends_soon, world.token("blue")];
    let busy = || Act::problem(503, "GITHUB_UNAVAILABLE", "retry-after: 1\r\n");
    let between = Between::start(&world.url, vec![busy(), busy()]).await;
    let prints = one_each_time(&folder, &tokens);
    let args = [JIT, &["--url", &between.url, "--token-command", &prints]].concat();
    let ended = request(&args, &[]).await;
    assert_eq!(ended.code, 0, "{}", ended.err);
    let used: Vec<String> = between.seen().iter().map(|seen| seen.authorization.clone()).collect();
    assert_eq!(
        (used[0].as_str(), used[2].as_str()),
        (&*format!("Bearer {}", tokens[0]), &*format!("Bearer {}", tokens[1]))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_token_is_fetched_anew_once_if_it_was_not_new_anyway() {
    let world = World::new().await;
    let refused = || Act::problem(401, "INVALID_TOKEN", "");
    let busy = || Act::problem(503, "GITHUB_UNAVAILABLE", "retry-after: 0\r\n");
    let folder = tempfile::tempdir().unwrap();
    let tokens: Vec<String> = (0..3).map(|_| world.token("blue")).collect();
    let prints = one_each_time(&folder, &tokens);
    // The second attempt's token is the first one's, so there may be a better one.
    let between = Between::start(&world.url, vec![busy(), refused()]).await;
    let args = [JIT, &["--url", &between.url, "--token-command", &prints]].concat();
    assert_eq!(request(&args, &[]).await.code, 0);
    assert_eq!(between.seen().len(), 3);

    let between = Between::start(&world.url, vec![refused(), refused()]).await;
    let ended = as_blue(&world, &between.url, JIT).await;
    assert!(ended.code == 1 && ended.err.contains("INVALID_TOKEN"), "{}", ended.err);
    assert_eq!(between.seen().len(), 1);
}
