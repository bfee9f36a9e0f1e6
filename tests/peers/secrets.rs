//! Every flow at log level `trace`, and then a search for every secret, and for every piece of one, in
//! everything that stays: logs, tables, metrics, error bodies, what commands print.

use std::collections::HashSet;
use std::path::Path;

use reqwest::Method;
use runner_broker::dev::github::{Action, Canned, Fault};
use serde_json::{Value, json};

use crate::process::{DATABASE_PASSWORD, Replica, Site, until};
use crate::support::{ORG, REPO, answer};

/// A piece this long is as good as the whole: nothing that is no secret repeats it by chance.
const PIECE: usize = 24;

/// Everything that must not hold a secret, each with its name.
type Kept = Vec<(String, String)>;

struct Flows<'a> {
    site: &'a Site,
    replica: &'a Replica,
    kept: Kept,
}

impl Flows<'_> {
    /// A call whose answer may hold no secret unless it is a 201, which is checked to hold one.
    async fn call(&mut self, method: Method, path: &str, token: &str, key: &str, body: Option<Value>) -> u16 {
        let mut request = self.site.client.request(method.clone(), format!("{}{path}", self.replica.url));
        if !token.is_empty() {
            request = request.bearer_auth(token);
        }
        if !key.is_empty() {
            request = request.header("idempotency-key", key);
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = answer(request).await;
        match answer.status {
            201 => {
                let fields = ["encoded_jit_config", "registration_token", "remove_token"];
                let credential = fields.iter().find_map(|field| answer.body[field].as_str());
                assert!(self.site.github.issued().iter().any(|secret| credential == Some(secret)));
                assert_eq!(answer.header("cache-control"), "no-store");
                let headers = format!("{:?}", answer.headers);
                self.kept.push((format!("headers of {method} {path}"), headers));
            }
            _ => {
                let whole = format!("{:?} {}", answer.headers, answer.text);
                self.kept.push((format!("{} of {method} {path}", answer.status), whole));
            }
        }
        answer.status
    }

    async fn blue(&mut self, method: Method, path: &str, body: Option<Value>) -> u16 {
        let token = self.site.token("blue");
        self.call(method, path, &token, "", body).await
    }

    async fn provision(&mut self, path: &str, name: &str) -> u16 {
        self.blue(Method::POST, path, Some(json!({ "runner_name": name }))).await
    }

    async fn good(&mut self) {
        let token = self.site.token("blue");
        for path in ["/api/v1/runners/jit", "/api/v1/runners"] {
            let name = if path.ends_with("jit") { "jit" } else { "registered" };
            let body = Some(json!({ "runner_name": name, "labels": ["docker"] }));
            for _first_and_repeat in 0..2 {
                assert_eq!(self.call(Method::POST, path, &token, name, body.clone()).await, 201);
            }
            assert_eq!(self.provision(path, &format!("{name}-in-repo")).await, 201);
            let in_repo = json!({ "runner_name_prefix": name, "repository": REPO });
            assert_eq!(self.blue(Method::POST, path, Some(in_repo)).await, 201);
            assert_eq!(self.blue(Method::POST, &format!("/api/v1/runners/{name}/refresh"), None).await, 200);
        }
        assert_eq!(self.blue(Method::POST, "/api/v1/runners/registered/remove-token", None).await, 201);
        assert_eq!(self.blue(Method::POST, "/api/v1/runners/jit/remove-token", None).await, 422);
        for path in
            ["/api/v1/runners", "/api/v1/runners/jit", "/api/v1/audit", "/api/v1/auth/me", "/health/ready"]
        {
            assert_eq!(self.blue(Method::GET, path, None).await, 200, "{path}");
        }
        for path in ["/api/v1/runners/jit-in-repo", "/api/v1/runners/registered-in-repo"] {
            assert_eq!(self.blue(Method::DELETE, path, None).await, 200);
        }
    }

    async fn refused(&mut self) {
        let jit = "/api/v1/runners/jit";
        assert_eq!(self.provision(jit, "jit").await, 409);
        let gpu = json!({ "runner_name": "gpu", "labels": ["gpu"] });
        assert_eq!(self.blue(Method::POST, jit, Some(gpu)).await, 403);
        assert_eq!(self.blue(Method::POST, jit, Some(json!({ "runner_name": 7 }))).await, 422);
        assert_eq!(self.blue(Method::GET, "/api/v1/runners/nobody", None).await, 404);
        let stranger = self.site.token("nobody");
        let body = Some(json!({ "runner_name": "stranger" }));
        assert_eq!(self.call(Method::POST, jit, &stranger, "", body.clone()).await, 403);
        let good = self.site.token("blue");
        let (head, signature) = good.rsplit_once('.').expect("a signature");
        let issuer = &self.site.issuer;
        for bad in [
            String::new(),
            "no-token".into(),
            head.into(),
            format!("{head}."),
            format!("{head}.{}", signature.chars().rev().collect::<String>()),
            format!("{good}{good}"),
            format!("{good}{}", "A".repeat(17 * 1024)),
            issuer.mint(json!({ "aud": "somebody-else" })),
            issuer.mint(json!({ "iss": "https://elsewhere.example" })),
            issuer.mint(json!({ "exp": 1 })),
            issuer.mint(json!({ "sub": null })),
        ] {
            let status = self.call(Method::POST, jit, &bad, "", body.clone()).await;
            assert!(status == 401 || status == 400 || status == 431, "{status} for {bad}");
        }
    }

    async fn failing(&mut self) {
        let echo = self.site.github.issued().into_iter().filter(|secret| secret.len() > 100);
        let echo: Vec<String> = echo.map(|secret| format!("cannot use {secret} here")).collect();
        let page = format!("<html><body>{}</body></html>", echo.concat());
        let words = |i: usize| json!({ "message": echo[i % echo.len()], "errors": [echo[0]] }).to_string();
        let canned = |status| Canned::status(status).body(&words(usize::from(status)));
        let actions = [
            Action::Respond(canned(400)),
            Action::Respond(canned(403)),
            Action::Respond(canned(422)),
            Action::Respond(canned(500)),
            Action::Respond(Canned::status(502).body(&page)),
            Action::Respond(Canned::status(201).body(&page)),
            Action::Respond(Canned::status(201).body(&words(0))),
            Action::ActThenRespond(canned(500)),
            Action::ActThenDrop,
            Action::Truncate,
            Action::Drop,
            Action::Html { status: 200 },
            Action::Html { status: 503 },
            Action::PermissionMissing,
            Action::Hang,
        ];
        for (number, action) in actions.into_iter().enumerate() {
            for (part, path) in [("jitconfig", "/api/v1/runners/jit"), ("registration", "/api/v1/runners")] {
                self.site.github.fail(Fault::new("POST", part, action.clone()).times(2));
                let status = self.provision(path, &format!("{part}-{number}")).await;
                assert!(status == 201 || status >= 500, "{status} after {action:?}");
                self.site.github.clear_faults();
            }
            // While the installation token is fresh, a missing permission is asked for until it has spread.
            self.site.github.fail(Fault::new("POST", "remove-token", action.clone()).always());
            let status = self.blue(Method::POST, "/api/v1/runners/registered/remove-token", None).await;
            assert!(status >= 500, "{status} after {action:?}");
            self.site.github.clear_faults();
            self.site.github.fail(Fault::new("GET", "runners", action.clone()).times(3));
            self.blue(Method::POST, "/api/v1/runners/jit/refresh", None).await;
            self.site.github.clear_faults();
        }
    }

    async fn commands(&mut self) {
        let audit = self.site.file("audit.jsonl");
        let audit_name = audit.to_string_lossy();
        let commands: [&[&str]; 5] = [
            &["list-runners"],
            &["list-runners", "--json"],
            &["policy", "show"],
            &["cleanup-stale-runners", "--hours", "1", "--dry-run"],
            &["export-audit-log", "--since", "2020-01-01", "--format", "jsonl", "--output", &audit_name],
        ];
        for arguments in commands {
            self.run(arguments, "LOG_FORMAT", "json", Some(0)).await;
        }
        self.keep_file(&audit);
        // The key, but not whole: what is wrong with it is said without showing it.
        let half = self.site.github.private_key_pem();
        let half = format!("{}\n-----END PRIVATE KEY-----", &half[..half.len() / 2]);
        std::fs::write(self.site.file("half.pem"), &half).expect("a file");
        let path = self.site.file("half.pem");
        let arguments = ["serve"];
        self.run(&arguments, "GITHUB_APP_PRIVATE_KEY_PATH", &path.to_string_lossy(), Some(2)).await;
        self.run(&arguments, "OIDC_ISSUER", "http://elsewhere.example", Some(2)).await;
    }

    async fn run(&mut self, arguments: &[&str], variable: &str, value: &str, code: Option<i32>) {
        let mut command = self.site.command(arguments);
        let done = command.env("LOG_LEVEL", "trace").env(variable, value).output().await.expect("the binary");
        let printed =
            format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
        assert_eq!(done.status.code(), code, "{arguments:?}: {printed}");
        self.kept.push((arguments.join(" "), printed));
    }

    fn keep_file(&mut self, path: &Path) {
        let text = std::fs::read(path).expect("a file");
        self.kept.push((path.display().to_string(), String::from_utf8_lossy(&text).into_owned()));
    }

    /// Every table, a line a row.
    async fn keep_tables(&mut self) {
        let names = "SELECT quote_ident(table_name) FROM information_schema.tables
            WHERE table_schema = 'public'";
        let tables: Vec<String> = self.site.rows(names).await.into_iter().flatten().collect();
        assert!(tables.len() >= 10, "{tables:?}");
        for table in tables {
            let rows = self.site.rows(&format!("SELECT t::text FROM {table} t")).await;
            self.kept.push((format!("table {table}"), rows.concat().join("\n")));
        }
    }

    /// What must not appear: all that was handed out, the App's key, the password of the database.
    fn secrets(&self) -> Vec<String> {
        let mut secrets = self.site.github.issued();
        for size in [20..60, 60..600, 600..usize::MAX] {
            // Tokens for `config.sh`, the App's own, JIT configurations.
            assert!(secrets.iter().any(|secret| size.contains(&secret.len())), "none of {size:?} characters");
        }
        secrets.extend(self.site.issuer.issued());
        let pem = self.site.github.private_key_pem().lines().filter(|line| !line.starts_with('-'));
        let pem: Vec<&str> = pem.collect();
        secrets.extend([pem.concat(), pem.join("\n"), pem.join("\\n"), DATABASE_PASSWORD.to_owned()]);
        secrets
    }
}

/// The first piece of a secret in the text.
fn found<'a>(text: &'a str, pieces: &HashSet<&[u8]>) -> Option<&'a str> {
    let at = text.as_bytes().windows(PIECE).position(|piece| pieces.contains(piece))?;
    let (from, to) = (at.saturating_sub(300), (at + 300).min(text.len()));
    Some(&text[text.floor_char_boundary(from)..text.ceil_char_boundary(to)])
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_and_no_piece_of_one_is_in_logs_tables_metrics_errors_or_printed() {
    let site = Site::new().await;
    let replica = site.serve_with(&[("LOG_LEVEL", "trace"), ("LOG_FORMAT", "json")]).await;
    let mut flows = Flows { site: &site, replica: &replica, kept: Kept::new() };
    flows.good().await;
    flows.refused().await;
    flows.failing().await;
    site.settled().await;
    let sweeps = "broker_sweeps_total{result=\"complete\"}";
    let before = replica.metric(&site.client, sweeps).await;
    until("a whole sweep is done", async || replica.metric(&site.client, sweeps).await > before).await;
    assert!(site.github.runner(ORG, "jit").is_some());
    flows.commands().await;
    flows.keep_tables().await;
    for path in ["/metrics", "/health", "/openapi.json"] {
        assert_eq!(flows.call(Method::GET, path, "", "", None).await, 200);
    }
    replica.signal(rustix::process::Signal::TERM);
    let log = replica.log.clone();
    flows.keep_file(&log);

    let secrets = flows.secrets();
    let pieces: HashSet<&[u8]> = secrets.iter().flat_map(|secret| secret.as_bytes().windows(PIECE)).collect();
    let log_lines = flows.kept.last().map(|(_, log)| log.lines().count()).unwrap_or_default();
    assert!(secrets.len() > 100 && log_lines > 200, "{} secrets, {log_lines} lines", secrets.len());
    // The App signs its own tokens: nobody else knows them, but they look like what they are.
    let token = regex::Regex::new(r"eyJ[A-Za-z0-9_-]{20,}|gh[a-z]_[A-Za-z0-9._-]{8,}").expect("a pattern");
    for (name, text) in &flows.kept {
        assert_eq!(found(text, &pieces), None, "a secret in: {name}");
        assert_eq!(token.find(text).map(|found| found.as_str()), None, "a token in: {name}");
    }
}
