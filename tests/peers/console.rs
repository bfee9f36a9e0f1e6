//! The console in a real browser (Debian's chromium, driven by npm's playwright-core): people sign in at a real
//! OpenID provider and do each page's main task; axe-core looks at every page.

use std::io::Write;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::process::{Replica, Site, until};
use crate::support::{ORG, REPO, answer};
use crate::tools::{free_port, here, machine_program, node_with, run};

/// For one that hangs: on a busy machine the longest task takes some minutes.
const LIMIT: Duration = Duration::from_secs(900);
const START: Duration = Duration::from_secs(30);
const WEBHOOK_SECRET: &str = "of-the-browser-test";

/// npm's `oidc-provider` for people; it ends with this.
struct LoginProvider {
    issuer: String,
    _process: Child,
    /// It says more there, and would end if nobody could hear it.
    _output: Lines<BufReader<ChildStdout>>,
}

impl LoginProvider {
    /// Who may sign in, and what it says of them.
    async fn start(node: &std::path::Path, redirect_uri: &str) -> LoginProvider {
        let accounts = json!({
            "ada": { "name": "Ada", "groups": ["platform-admins"] },
            "max": { "name": "Max", "team": "blue" },
            "otto": { "name": "Otto", "groups": ["security"] },
            "tess": { "name": "Tess", "groups": ["sales"] },
        });
        let mut process = Command::new(node)
            .arg(here("login-provider.mjs"))
            .args([redirect_uri, &accounts.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("a provider");
        let mut lines = BufReader::new(process.stdout.take().expect("its output")).lines();
        let line = tokio::time::timeout(START, lines.next_line()).await.expect("an issuer in time");
        let line = line.expect("its output").expect("an issuer, not the end");
        let started: Value = serde_json::from_str(&line).expect("a line of JSON");
        let issuer = started["issuer"].as_str().expect("an issuer").to_owned();
        LoginProvider { issuer, _process: process, _output: lines }
    }
}

/// A console with something to show on every page.
struct Shown {
    site: Site,
    replica: Replica,
    _login: LoginProvider,
}

impl Shown {
    async fn new(node: &std::path::Path) -> Shown {
        let site = Site::new().await;
        let port = free_port().to_string();
        let url = format!("http://127.0.0.1:{port}");
        let login = LoginProvider::start(node, &format!("{url}/sign-in/company/callback")).await;
        policy(&site, &login.issuer).await;
        let providers = json!([{
            "id": "company", "kind": "openid", "name": "the company's account", "issuer": login.issuer,
            "client_id": "console", "client_secret": "console-secret",
        }]);
        let key = site.file("audit.pem");
        let made = site.command(&["audit-key", "generate"]).arg("--output").arg(&key).output().await;
        assert!(made.expect("the binary").status.success());
        let replica = site
            .serve_with(&[
                ("AUDIT_SIGNING_KEY_PATH", key.to_str().expect("a path")),
                ("PORT", &port),
                ("PUBLIC_URL", &url),
                // The console may change what no file owns.
                ("POLICY_FILE", ""),
                ("LOGIN_PROVIDERS", &providers.to_string()),
                ("GITHUB_WEBHOOK_SECRET", WEBHOOK_SECRET),
            ])
            .await;
        site.github.set_webhook(&format!("{url}/api/v1/webhooks/github"), WEBHOOK_SECRET);
        let shown = Shown { site, replica, _login: login };
        shown.fill().await;
        shown
    }

    /// Runners in several states, jobs, refusals, a user agent that is a script.
    async fn fill(&self) {
        let Shown { site, replica, .. } = self;
        for number in 1..=9 {
            let made = answer(site.jit(replica, &format!("ci-{number:03}"))).await;
            assert_eq!(made.status, 201, "{}", made.text);
            if number > 3 {
                site.github.connect_jit(made.str("encoded_jit_config")).expect("a runner");
            }
        }
        let script = "<script>document.title = 'taken over'</script>";
        let refused = json!({ "runner_name": "gpu-1", "labels": ["gpu"] });
        let refused = site.post(replica, "/api/v1/runners/jit", &refused).header("user-agent", script);
        assert_eq!(answer(refused).await.status, 403);
        let registered = json!({ "runner_name": "vm-1", "labels": ["docker"] });
        let registered = answer(site.post(replica, "/api/v1/runners/provision", &registered)).await;
        assert_eq!(registered.status, 201, "{}", registered.text);
        for (name, labels) in [("build", &["self-hosted"][..]), ("train <b>", &["self-hosted", "gpu"])] {
            site.github.queue_job(REPO, name, labels);
        }
        let job = site.github.queue_job(REPO, "test", &["self-hosted", "linux"]);
        site.github.take_job(job.id, ORG, "ci-004").expect("a runner");
        let jobs = "SELECT count(*) FROM jobs";
        until("the jobs are known", async || site.one(jobs).await == "3").await;
        let busy = "SELECT count(*) FROM runners WHERE busy AND status = 'active'";
        until("a runner is busy", async || site.one(busy).await == "1").await;
        let sealed = "SELECT count(*) FROM audit_checkpoints";
        until("the log is sealed", async || site.one(sealed).await != "0").await;
    }
}

/// Put in force by the command line: the console may change it afterwards.
async fn policy(site: &Site, login: &str) {
    let mut policy = std::fs::read_to_string(site.file("policy.toml")).expect("a policy");
    let member = format!("[[team.member]]\nissuer = \"{login}\"\nclaims = {{ team = \"blue\" }}\n");
    policy = policy.replace("[[admin]]", &format!("{member}[[admin]]")).replace("100000", "50");
    policy += &format!(
        "[[team]]\nname = \"green\"\ndescription = \"GPU runners\"\nallowed_labels = [\"gpu\"]\n\
         [[team.member]]\nissuer = \"{login}\"\nclaims = {{ team = \"green\" }}\n\
         [[admin]]\nissuer = \"{login}\"\nclaims = {{ groups = \"platform-admins\" }}\n\
         [[auditor]]\nissuer = \"{login}\"\nclaims = {{ groups = \"security\" }}\n"
    );
    std::fs::write(site.file("policy.toml"), policy).expect("a file");
    let file = site.file("policy.toml");
    let applied = site.command(&["policy", "apply"]).arg(file).output().await.expect("the binary");
    assert!(applied.status.success(), "{}", String::from_utf8_lossy(&applied.stderr));
}

/// Where pictures of the pages go, if `CONSOLE_IMAGES=1` asks for new ones.
fn images() -> Option<PathBuf> {
    let wanted = std::env::var("CONSOLE_IMAGES").is_ok_and(|value| value == "1");
    wanted.then(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/images"))
}

/// Does these tasks (`browser/<task>.mjs`) in a browser.
async fn browse(tasks: &[&str]) {
    let Some(node) = node_with("playwright-core") else { return };
    let Some(_) = node_with("axe-core") else { return };
    let Some(_) = node_with("oidc-provider") else { return };
    let Some(chromium) = machine_program("chromium") else { return };
    let shown = Shown::new(&node).await;
    let settings = json!({
        "url": shown.replica.url, "chromium": chromium, "images": images(), "tasks": tasks,
        "token": shown.site.token("blue"),
    });
    let mut browser = Command::new(node);
    browser.arg(here("browser.mjs")).arg(settings.to_string());
    let said = run(&mut browser, LIMIT).await;
    // For who looks on with --nocapture.
    let _ = std::io::stderr().write_all(said.as_bytes());
    let title = "SELECT count(*) FROM audit_log WHERE user_agent LIKE '%<script>%'";
    assert_ne!(shown.site.one(title).await, "0", "the script was there to be shown");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_page_is_accessible_quiet_and_fits_any_screen_for_everybody() {
    browse(&["looks"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_pages_main_task_is_done_with_scripts() {
    browse(&["tasks"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_and_forms_work_without_scripts() {
    browse(&["plain"]).await;
}
