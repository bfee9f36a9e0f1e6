//! `serve`, from its start to its end.

use std::io::Read;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::{Child, Command, Stdio};

use runner_broker::cli::Failure;
use runner_broker::cli::serve::wait_for;
use runner_broker::store::Store;
use serde_json::{Value, json};

use super::commands::{Environment, command, environment, folder_with, runner_broker};
use crate::support::World;

#[tokio::test(flavor = "multi_thread")]
async fn the_start_waits_for_a_database_and_gives_up_with_a_message() {
    let store = |url: &str| Store::new(&url.into(), 1).unwrap();
    let started = std::time::Instant::now();
    let gone = wait_for(
        &store("postgres://broker:hunter2@127.0.0.1:1/broker"),
        std::time::Duration::from_millis(1200),
    )
    .await;
    let Err(Failure::Failed(why)) = gone else { panic!("{gone:?}") };
    assert!(why.contains("the database is not available") && !why.contains("hunter2"), "{why}");
    assert!(started.elapsed() >= std::time::Duration::from_millis(1200));
    let database = crate::support::migrated().await;
    wait_for(&store(database.url()), std::time::Duration::ZERO).await.unwrap();

    // One that is there and refuses will not think better of it.
    let nobody = database.url().replace("user=postgres", "user=nobody-of-that-name");
    if nobody != database.url() {
        let refused = wait_for(&store(&nobody), std::time::Duration::from_secs(30)).await;
        let Err(Failure::Failed(why)) = refused else { panic!("{refused:?}") };
        assert!(why.contains("refuses DATABASE_URL"), "{why}");
        assert!(started.elapsed() < std::time::Duration::from_secs(20));
    }
}

#[test]
fn a_signal_ends_a_start_that_waits() {
    let mut child = command(&["serve"], &environment()).stderr(Stdio::piped()).spawn().unwrap();
    let mut err = child.stderr.take().unwrap();
    let mut seen = [0; 1];
    // Its first line: it waits for the database.
    err.read_exact(&mut seen).unwrap();
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    let mut rest = String::new();
    err.read_to_string(&mut rest).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0), "{rest}");
}

/// A `serve` on the world's database, issuer and GitHub.
struct Served {
    child: Child,
    url: String,
    environment: Environment,
}

impl Served {
    async fn start(world: &World, log_level: &str) -> Served {
        Served::start_with(world, log_level, &[]).await
    }

    async fn start_with(world: &World, log_level: &str, more: &[(&'static str, &str)]) -> Served {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let ours = [
            ("DATABASE_URL", world.database_url().to_owned()),
            ("GITHUB_APP_ID", world.github.app_id().to_string()),
            ("GITHUB_API_URL", world.github.url().to_owned()),
            ("OIDC_ISSUER", world.issuer.url().to_owned()),
            ("HOST", "127.0.0.1".to_owned()),
            ("PORT", port.to_string()),
            ("LOG_FORMAT", "json".to_owned()),
            ("LOG_LEVEL", log_level.to_owned()),
        ];
        let mut environment = environment();
        environment.retain(|(name, _)| ours.iter().all(|(own, _)| own != name));
        environment.extend(ours);
        environment.retain(|(name, _)| more.iter().all(|(own, _)| own != name));
        environment.extend(more.iter().map(|(name, value)| (*name, value.to_string())));
        // Into a file: nobody reads along, and a pipe would fill.
        let log = std::env::temp_dir().join(format!("rb-serve-{}-{port}", std::process::id()));
        let file = std::fs::File::create(&log).unwrap();
        let child = command(&["serve"], &environment).stderr(file).spawn().unwrap();
        let served = Served { child, url: format!("http://127.0.0.1:{port}"), environment };
        let health = format!("{}/health/ready", served.url);
        let is_ready = async || match world.client().get(&health).send().await {
            Ok(answer) => answer.status() == 200,
            Err(_) => false,
        };
        crate::support::eventually("a broker that serves", is_ready).await;
        served
    }

    /// Told to stop; its log.
    fn stop(mut self) -> String {
        let port = self.url.rsplit(':').next().unwrap();
        let log = std::env::temp_dir().join(format!("rb-serve-{}-{port}", std::process::id()));
        assert!(
            Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap().success()
        );
        let code = self.child.wait().unwrap().code();
        let text = std::fs::read_to_string(&log).unwrap();
        std::fs::remove_file(log).unwrap();
        assert_eq!(code, Some(0), "{text}");
        text
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_served_broker_answers_and_stops_when_told() {
    let world = World::new().await;
    let served = Served::start(&world, "info").await;
    // A second one cannot have the same port.
    let second = runner_broker(&["serve"], &served.environment);
    let place = served.url.trim_start_matches("http://");
    assert!(second.code == 1 && second.err.contains(&format!("cannot listen on {place}")), "{}", second.err);
    let asked = world.client().get(format!("{}/health", served.url));
    let answer = asked.send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let id = answer.headers()["x-request-id"].to_str().unwrap().to_owned();
    let log = served.stop();
    for weakness in [
        "AUDIT_SIGNING_KEY_PATH is not set",
        "the role in DATABASE_URL has more permissions than serve needs",
    ] {
        assert!(log.contains(weakness), "{log}");
    }
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let request = lines.iter().find(|line| line["message"] == "request" && line["span"]["request_id"] == id);
    assert_eq!(request.expect(&log)["status"], 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_start_warns_of_a_policy_that_may_say_what_nobody_meant() {
    let world = World::new().await;
    let warnings = |log: &str| -> Vec<(Option<u64>, String)> {
        let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).expect(line));
        let about = lines
            .filter(|line| line["message"].as_str().is_some_and(|text| text.contains("the policy may say")));
        about.map(|line| (line["line"].as_u64(), line["message"].as_str().unwrap().to_owned())).collect()
    };
    assert_eq!(warnings(&Served::start(&world, "info").await.stop()), [], "a tight one");
    let wide = "[[admin]]\nissuer = \"ISSUER\"\nclaims = { sub = \".*\" }\n\
                [[auditor]]\nissuer = \"https://elsewhere.example\"\nclaims = { oid = \"7\" }\n";
    world.policy(wide).await;
    let stored = warnings(&Served::start(&world, "info").await.stop());
    assert_eq!(stored.len(), 2, "{stored:?}");
    for word in ["admin 1", "'sub'", "nearly everybody", "auditor 1", "https://elsewhere.example"] {
        assert!(
            stored.iter().any(|(line, text)| line.is_none() && text.contains(word)),
            "{word}: {stored:?}"
        );
    }
    let (_folder, path) = folder_with("policy.toml", &wide.replace("ISSUER", world.issuer.url()));
    let of_file = warnings(&Served::start_with(&world, "info", &[("POLICY_FILE", &path)]).await.stop());
    let lines: Vec<Option<u64>> = of_file.iter().map(|(line, _)| *line).collect();
    assert_eq!(lines, [Some(3), Some(5)], "{of_file:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_level_makes_the_log_tell_a_secret() {
    let world = World::new().await;
    let every =
        "trace,hyper=trace,hyper_util::client=TRACE,octocrab=trace,tokio_postgres=trace,actix_http=trace";
    let served = Served::start(&world, every).await;
    for path in ["jit", "provision"] {
        let asked = world.client().post(format!("{}/api/v1/runners/{path}", served.url));
        let asked = asked.bearer_auth(world.token("blue")).json(&json!({ "runner_name": path }));
        assert_eq!(asked.send().await.unwrap().status(), 201);
    }
    let log = served.stop();
    let secrets: Vec<String> = world.github.issued().into_iter().chain(world.issuer.issued()).collect();
    assert!(secrets.len() >= 5, "{}", secrets.len());
    assert!(secrets.iter().all(|secret| !log.contains(secret.as_str())));
    // Not in part, and not in another form: below `info` only the broker itself speaks.
    let below = ["DEBUG", "TRACE"];
    let mut own = 0;
    for line in log.lines().map(|line| serde_json::from_str::<Value>(line).expect(line)) {
        if below.contains(&line["level"].as_str().unwrap()) {
            assert!(line["target"].as_str().unwrap().starts_with("runner_broker"), "{line}");
            own += 1;
        }
    }
    assert!(own > 0, "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn weak_settings_are_warned_of_and_the_memory_is_nobody_elses() {
    let world = World::new().await;
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("app.pem");
    std::fs::write(&key, world.github.private_key_pem()).unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let weak = [
        ("TRUSTED_PROXIES", "10.0.0.0/8,0.0.0.0/0"),
        ("GITHUB_WEBHOOK_SECRET", "x"),
        ("GITHUB_APP_PRIVATE_KEY", ""),
        ("GITHUB_APP_PRIVATE_KEY_PATH", key.to_str().unwrap()),
    ];
    let served = Served::start_with(&world, "info", &weak).await;
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", served.child.id())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).expect("a limit");
    assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"]);
    let environment = std::fs::metadata(format!("/proc/{}/environ", served.child.id())).unwrap();
    assert_eq!(environment.uid(), 0, "not even the same user's other processes read it");
    let log = served.stop();
    for weakness in [
        "TRUSTED_PROXIES trusts every address",
        "GITHUB_WEBHOOK_SECRET has fewer than 16 characters",
        "GITHUB_APP_PRIVATE_KEY_PATH names a file that every user can read",
    ] {
        assert!(log.contains(weakness), "{weakness}: {log}");
    }
}
