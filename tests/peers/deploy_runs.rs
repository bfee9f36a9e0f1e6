//! The containers of the rendered chart, run here: the real binary with exactly the arguments and variables of the
//! manifests, their Secrets and ConfigMaps as files below a folder of the test's.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};
use tokio::time::timeout;
use url::Url;

use crate::database::connect;
use crate::deploy::{Chart, Manifests, SETS, named};
use crate::process::{Site, until};
use crate::support::{AUDIENCE, ORG};
use crate::tools::free_port;

const LIMIT: Duration = Duration::from_secs(60);
/// Where manifests mount what is mounted.
const ROOT: &str = "/etc/runner-broker/";

/// A database that nobody has migrated, and a role that may log in and nothing else.
struct Database {
    admin: String,
    name: String,
    role: String,
}

impl Database {
    async fn new(site: &Site, set: &str) -> Database {
        let name = format!("deploy_{}_{}", set.replace('-', "_"), std::process::id());
        let database = Database { admin: site.database_url().to_owned(), role: format!("svc_{name}"), name };
        let (client, _connection) = connect(&database.admin).await;
        let (name, role) = (&database.name, &database.role);
        for statement in [
            format!("CREATE DATABASE {name} TEMPLATE template0"),
            format!("CREATE ROLE {role} LOGIN PASSWORD 'secret'"),
        ] {
            client.batch_execute(&statement).await.expect(&statement);
        }
        database
    }

    fn owner(&self) -> Url {
        let mut url = Url::parse(&self.admin).expect("a URL");
        url.set_path(&self.name);
        url
    }

    fn service(&self) -> Url {
        let mut url = self.owner();
        let before = url.query().map(|query| format!("{query}&")).unwrap_or_default();
        url.set_query(Some(&format!("{before}options=-c%20role%3D{}", self.role)));
        url
    }

    async fn forget(self) {
        let (client, _connection) = connect(&self.admin).await;
        for statement in
            [format!("DROP DATABASE {} WITH (FORCE)", self.name), format!("DROP ROLE {}", self.role)]
        {
            client.batch_execute(&statement).await.expect(&statement);
        }
    }
}

/// What the cluster holds beside the release: Secrets and ConfigMaps by name, their entries by key.
type Held = BTreeMap<&'static str, BTreeMap<&'static str, String>>;

fn held(site: &Site, database: &Database) -> Held {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    let key = site.github.private_key_pem().to_owned();
    let (owner, service) = (database.owner().to_string(), database.service().to_string());
    let policy = fs::read_to_string(site.file("policy.toml")).expect("a file");
    let audit_key = site.file("audit.key");
    let made = std::process::Command::new(env!("CARGO_BIN_EXE_runner-broker"))
        .args(["audit-key", "generate", "--output"])
        .arg(&audit_key)
        .output()
        .expect("the binary");
    assert!(made.status.success() || audit_key.exists());
    let audit_key = fs::read_to_string(audit_key).expect("a key");
    [
        ("runner-broker-database", vec![("DATABASE_URL", service.clone())]),
        ("runner-broker-migrate", vec![("DATABASE_URL", owner.clone())]),
        ("runner-broker-github-app", vec![("private-key.pem", key.clone())]),
        ("broker", vec![("DATABASE_URL", service), ("OWNER_URL", owner), ("app.pem", key)]),
        ("broker-tls", vec![("tls.crt", cert.pem()), ("tls.key", signing_key.serialize_pem())]),
        ("broker-audit", vec![("audit.key", audit_key)]),
        ("broker-webhook", vec![("GITHUB_WEBHOOK_SECRET", "webhook-secret".into())]),
        ("broker-login", vec![("sso", "client-secret".into())]),
        ("broker-database-certificates", vec![("ca.crt", cert.pem())]),
        ("broker-policy", vec![("policy.toml", policy)]),
        ("example-ca", vec![("bundle.crt", cert.pem()), ("ca.crt", cert.pem())]),
        (
            "broker-alerts",
            vec![
                ("ALERT_WEBHOOK_URL", "https://alerts.example.com/key".into()),
                ("ALERT_WEBHOOK_SECRET", "alert-secret".into()),
            ],
        ),
    ]
    .into_iter()
    .map(|(name, entries)| (name, entries.into_iter().collect()))
    .collect()
}

/// What a container would see: its variables, and its files in a folder.
struct Seen {
    folder: TempDir,
    variables: BTreeMap<String, String>,
    arguments: Vec<String>,
}

impl Seen {
    fn of(pod: &Value, held: &Held, manifests: &Manifests) -> Seen {
        let folder = tempfile::tempdir().expect("a folder");
        let container = &pod["spec"]["containers"][0];
        let here = |text: &str| text.replace(ROOT, &format!("{}{ROOT}", folder.path().display()));
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        let entry = |name: &Value, key: &Value| held[name.as_str().unwrap()][key.as_str().unwrap()].clone();
        let variables = container["env"].as_array().expect("variables").iter().map(|variable| {
            let from = &variable["valueFrom"]["secretKeyRef"];
            let value = match variable["value"].as_str() {
                Some(value) => here(value),
                None => entry(&from["name"], &from["key"]),
            };
            (text(&variable["name"]), value)
        });
        let variables = variables.collect();
        for mount in container["volumeMounts"].as_array().into_iter().flatten() {
            let path = text(&mount["mountPath"]);
            if !path.starts_with(ROOT) {
                continue;
            }
            let into = PathBuf::from(here(&path));
            fs::create_dir_all(&into).expect("a folder");
            let volume = named(&pod["spec"]["volumes"], mount["name"].as_str().unwrap()).expect("a volume");
            for (file, content) in files(volume, held, manifests) {
                fs::write(into.join(file), content).expect("a file");
            }
        }
        let arguments = container["args"].as_array().expect("arguments").iter().map(text).collect();
        Seen { folder, variables, arguments }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_runner-broker"));
        command
            .args(arguments)
            .env_clear()
            .envs(&self.variables)
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    fn own_command(&self) -> Command {
        self.command(&self.arguments.iter().map(String::as_str).collect::<Vec<_>>())
    }

    async fn to_the_end(&self) -> Output {
        timeout(LIMIT, self.own_command().output()).await.expect("in time").expect("the binary")
    }
}

/// The files of a volume.
fn files(volume: &Value, held: &Held, manifests: &Manifests) -> Vec<(String, String)> {
    let (secret, map) = (&volume["secret"], &volume["configMap"]);
    let name = secret["secretName"].as_str().or(map["name"].as_str()).expect("a Secret or a ConfigMap");
    let rendered = manifests.all("ConfigMap").into_iter().find(|one| one["metadata"]["name"] == name);
    if let Some(rendered) = rendered {
        let data = rendered["data"].as_object().expect("data");
        return data.iter().map(|(key, value)| (key.clone(), value.as_str().unwrap().to_owned())).collect();
    }
    let all = &held[name];
    match secret["items"].as_array() {
        None => all.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect(),
        Some(items) => {
            let item = |item: &Value| {
                (item["path"].as_str().unwrap().to_owned(), all[item["key"].as_str().unwrap()].clone())
            };
            items.iter().map(item).collect()
        }
    }
}

/// The few values by which this machine is another place: where the servers of the test are.
fn of_this_machine(site: &Site, set: &str, role: &str) -> Value {
    let mut config = json!({
        "HOST": "127.0.0.1",
        "GITHUB_APP_ID": site.github.app_id(),
        "GITHUB_ORG": ORG,
        "GITHUB_API_URL": site.github.url(),
        "OIDC_ISSUER": site.issuer.url(),
        "OIDC_AUDIENCE": AUDIENCE,
    });
    if set == "own-tls" || set == "everything" {
        config["GITHUB_APP_INSTALLATION_ID"] = json!(site.github.installation_id(ORG));
    }
    if set == "everything" {
        config["OIDC_JWKS_URL"] = Value::Null;
    }
    json!({ "containerPort": free_port(), "config": config, "migrate": { "serviceRole": role } })
}

/// A container that runs; what it says is read once it has ended.
struct Running {
    child: Child,
    url: String,
}

impl Running {
    fn start(seen: &Seen) -> Running {
        let child = seen.own_command().spawn().expect("the binary");
        let tls = seen.variables["HTTPS_ENABLED"] == "true";
        let scheme = if tls { "https" } else { "http" };
        Running { child, url: format!("{scheme}://127.0.0.1:{}", seen.variables["PORT"]) }
    }

    /// As the kubelet asks; `false` too if there is no answer.
    async fn passes(&mut self, site: &Site, probe: &Value) -> bool {
        if let Some(status) = self.child.try_wait().expect("a child") {
            panic!("it ended: {status}");
        }
        let asks = &probe["httpGet"];
        assert_eq!(asks["scheme"].as_str().unwrap().to_lowercase(), self.url.split_once(':').unwrap().0);
        let url = format!("{}{}", self.url, asks["path"].as_str().expect("a path"));
        let patience = Duration::from_secs(probe["timeoutSeconds"].as_u64().unwrap_or(1));
        let answer = timeout(patience, site.client.get(url).send()).await;
        matches!(answer, Ok(Ok(answer)) if answer.status() == 200)
    }

    /// By SIGTERM; what it had said.
    async fn stop(self, within: Duration) -> String {
        let pid = self.child.id().and_then(|id| Pid::from_raw(id as i32)).expect("a running process");
        kill_process(pid, Signal::TERM).expect("our own child");
        let output = timeout(within, self.child.wait_with_output()).await.expect("within its grace period");
        let output = output.expect("its output");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(0), "{said}");
        said
    }
}

/// Fed with this file, as by `kubectl exec -i … < FILE`.
async fn feed(mut command: Command, file: &Path) -> Output {
    let mut child = command.stdin(Stdio::piped()).spawn().expect("the binary");
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(&fs::read(file).expect("a file")).await.expect("all of it");
    drop(stdin);
    timeout(LIMIT, child.wait_with_output()).await.expect("in time").expect("its output")
}

async fn runs(chart: &Chart, set: &str) {
    let site = Site::new().await;
    let database = Database::new(&site, set).await;
    let values = site.file("values.json");
    fs::write(&values, of_this_machine(&site, set, &database.role).to_string()).expect("a file");
    let manifests = chart.newest(set, &["--values", &values.display().to_string()]).await;
    let held = held(&site, &database);
    let pod = manifests.server();
    let server = Seen::of(pod, &held, &manifests);
    let job = Seen::of(&manifests.one("Job", "")["spec"]["template"], &held, &manifests);

    let too_early = server.to_the_end().await;
    let said = String::from_utf8_lossy(&too_early.stderr);
    assert_eq!(too_early.status.code(), Some(1), "{set}: {said}");
    assert!(said.contains("runner-broker migrate"), "{set}: {said}");

    let migrated = job.to_the_end().await;
    let (said, complained) =
        (String::from_utf8_lossy(&migrated.stdout), String::from_utf8_lossy(&migrated.stderr));
    assert_eq!(migrated.status.code(), Some(0), "{set}: {complained}");
    let done = format!("granted {} exactly what serve needs", database.role);
    assert!(said.contains(&done), "{set}: {said}");

    let begun = Instant::now();
    let mut running = Running::start(&server);
    let container = &pod["spec"]["containers"][0];
    for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
        let probe = &container[probe];
        while !running.passes(&site, probe).await {
            assert!(begun.elapsed() < LIMIT, "{set}: {probe}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    if set == SETS[0] {
        // As the notes say: there is no policy yet, so nobody may do anything.
        let ask = || {
            let ask = site.client.post(format!("{}/api/v1/runners/jit", running.url));
            ask.bearer_auth(site.token("blue")).json(&json!({ "runner_name_prefix": "ci" })).send()
        };
        assert_eq!(ask().await.expect("an answer").status(), 403);
        let applied =
            feed(server.command(&["policy", "apply", "/dev/stdin"]), &site.file("policy.toml")).await;
        assert!(applied.status.success(), "{}", String::from_utf8_lossy(&applied.stderr));
        until("it may", async || ask().await.expect("an answer").status() == 201).await;
    }
    let grace = pod["spec"]["terminationGracePeriodSeconds"].as_u64().expect("a number");
    let said = running.stop(Duration::from_secs(grace)).await;
    assert!(!said.contains("can do more than it needs"), "{set}: {said}");
    for secret in ["PRIVATE KEY", "client-secret", "webhook-secret", "alert-secret", "alerts.example.com/key"]
    {
        assert!(!said.contains(secret), "{set}: {secret} is in the log");
    }
    database.forget().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_its_defaults_the_chart_migrates_serves_takes_a_first_policy_and_stops() {
    let Some(chart) = Chart::found() else { return };
    runs(&chart, "default").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_as_little_as_possible_the_chart_migrates_serves_and_stops() {
    let Some(chart) = Chart::found() else { return };
    runs(&chart, "minimal").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_its_own_tls_and_a_policy_in_the_values_the_chart_migrates_serves_and_stops() {
    let Some(chart) = Chart::found() else { return };
    runs(&chart, "own-tls").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_every_variable_set_the_chart_migrates_serves_and_stops() {
    let Some(chart) = Chart::found() else { return };
    runs(&chart, "everything").await;
}
