//! `doctor`, as the built binary: a healthy installation is made ill in one way at a time, and each illness has to be
//! told by its own line, with what to do, and by no other.

mod configured;
mod database;
mod github;
mod issuers;
mod webhooks;
mod whole;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use chrono::{Datelike, TimeDelta, Utc};
use rcgen::{CertificateParams, KeyPair};
use runner_broker::dev::github::rotated_private_key_pem;
use runner_broker::seal::key::SigningKey;
use runner_broker::store::Store;
use runner_broker::store::service_role::Setup;
use serde_json::Value;
use tempfile::TempDir;

use crate::audit::sealer::seal;
use crate::cli::commands::{Environment, runner_broker};
use crate::store::service_role::{forget, role_on};
use crate::support::{AUDIENCE, ORG, REPO, WEBHOOK_SECRET, World, eventually};

const HOST: &str = "broker.example.com";

/// An installation where all is well: a service that leads, its role, its certificate, and GitHub with a webhook that
/// arrives.
struct Patient {
    world: World,
    role: String,
    folder: TempDir,
    environment: Environment,
}

impl Patient {
    async fn new() -> Patient {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("audit.key"), SigningKey::generate().expect("a key")).expect("a file");
        let audit_key = path("audit.key");
        let world = World::with(|config| {
            config.broker.audit_signing_key = Some(audit_key);
            config.broker.lease = Duration::from_secs(600);
        })
        .await;
        let role = format!("doc_{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let own = role_on(world.database_url(), &role).await;
        let store = Store::new(&world.database_url().into(), 1).expect("a URL");
        assert_eq!(store.set_up_service_role(&role).await.expect("a role"), Setup::Done);

        world.github.set_webhook(&hook(&world), WEBHOOK_SECRET);
        world.github.queue_job(REPO, "build", &["self-hosted"]);
        eventually("the webhook", async || world.github.delivered().1 == 1).await;
        world.broker.work_off().await.expect("a database");
        world.sweep().await;
        seal(&world).await;

        std::fs::write(path("app.pem"), world.github.private_key_pem()).expect("a file");
        let mut patient = Patient { environment: Vec::new(), role, world, folder };
        patient.certify("tls", -1, 90);
        let url = patient.world.github.url().to_owned();
        let issuer = patient.world.issuer.url().to_owned();
        let public_url = patient.world.url.clone();
        for (name, value) in [
            ("DATABASE_URL", own),
            ("PUBLIC_URL", public_url),
            ("HTTPS_CERT_FILE", patient.path("tls.crt")),
            ("HTTPS_KEY_FILE", patient.path("tls.key")),
            ("GITHUB_APP_ID", patient.world.github.app_id().to_string()),
            ("GITHUB_APP_PRIVATE_KEY_PATH", patient.path("app.pem")),
            ("GITHUB_ORG", ORG.to_owned()),
            ("GITHUB_API_URL", url),
            ("GITHUB_WEBHOOK_SECRET", WEBHOOK_SECRET.to_owned()),
            ("OIDC_ISSUER", issuer),
            ("OIDC_AUDIENCE", AUDIENCE.to_owned()),
            ("AUDIT_SIGNING_KEY_PATH", patient.path("audit.key")),
        ] {
            patient.set(name, &value);
        }
        patient
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn set(&mut self, name: &'static str, value: &str) {
        self.environment.retain(|(known, _)| *known != name);
        self.environment.push((name, value.to_owned()));
    }

    /// Does this with one variable different.
    fn with(&mut self, name: &'static str, value: &str) -> Seen {
        let before = self.environment.clone();
        self.set(name, value);
        let seen = self.seen();
        self.environment = before;
        seen
    }

    /// A certificate for `HOST` that is good from then until then, in days from now, as `name.crt` and `name.key`.
    fn certify(&self, name: &str, from: i64, until: i64) {
        let day = |days: i64| {
            let day = (Utc::now() + TimeDelta::days(days)).date_naive();
            rcgen::date_time_ymd(day.year(), day.month() as u8, day.day() as u8)
        };
        let mut params = CertificateParams::new(vec![HOST.to_owned()]).expect("names");
        (params.not_before, params.not_after) = (day(from), day(until));
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        std::fs::write(self.file(&format!("{name}.crt")), certificate.pem()).expect("a file");
        std::fs::write(self.file(&format!("{name}.key")), key.serialize_pem()).expect("a file");
    }

    /// What `doctor` says now.
    fn seen(&self) -> Seen {
        let ended = runner_broker(&["doctor", "--json"], &self.environment);
        let report = serde_json::from_str(&ended.out)
            .unwrap_or_else(|err| panic!("{err}: {}{}", ended.out, ended.err));
        for secret in self.secrets() {
            assert!(!ended.out.contains(&secret) && !ended.err.contains(&secret), "{secret} is shown");
        }
        Seen { code: ended.code, report }
    }

    fn secrets(&self) -> Vec<String> {
        let line = |pem: &str| pem.lines().nth(1).unwrap_or_default().to_owned();
        let mut secrets = self.world.github.issued();
        secrets.extend([line(self.world.github.private_key_pem()), line(rotated_private_key_pem())]);
        secrets.extend([WEBHOOK_SECRET.to_owned(), "hunter2".into(), "ghs_".into(), "eyJ".into()]);
        secrets
    }

    /// Until all that GitHub sent was answered.
    async fn settled(&self) {
        let github = &self.world.github;
        eventually("answers", async || github.answered() == github.delivered().0).await;
    }

    async fn leave(self) {
        forget(self.world.database_url(), &self.role).await;
    }
}

fn hook(world: &World) -> String {
    format!("{}/api/v1/webhooks/github", world.url)
}

/// A report.
struct Seen {
    code: i32,
    report: Value,
}

impl Seen {
    fn checks(&self) -> &Vec<Value> {
        self.report["checks"].as_array().expect("checks")
    }

    /// What is not well, but for what could not be looked at because of something else.
    fn findings(&self) -> Vec<&Value> {
        let own = |check: &&Value| check["state"] != "ok" && check["code"] != "not_checked";
        self.checks().iter().filter(own).collect()
    }

    #[track_caller]
    fn is_well(&self) {
        let ill: Vec<_> = self.checks().iter().filter(|check| check["state"] != "ok").collect();
        assert!(ill.is_empty(), "{ill:#?}");
        assert_eq!((self.code, &self.report["state"]), (0, &"ok".into()));
    }

    /// There is one finding, and this is it.
    #[track_caller]
    fn is(&self, state: &str, code: &str, detail: &str, advice: &str) {
        let findings = self.findings();
        assert_eq!(findings.len(), 1, "{findings:#?}");
        let text = |field: &str| findings[0][field].as_str().unwrap_or_default();
        assert_eq!((text("state"), text("code")), (state, code), "{findings:#?}");
        assert!(text("detail").contains(detail), "{detail}: {findings:#?}");
        assert!(text("advice").contains(advice), "{advice}: {findings:#?}");
        assert_eq!(self.report["state"], state);
        assert_eq!(self.code, i32::from(state == "fault"));
        let faults = self.checks().iter().filter(|check| check["state"] == "fault").count();
        assert_eq!(faults, usize::from(state == "fault"), "{:#}", self.report);
    }

    #[track_caller]
    fn fault(&self, code: &str, detail: &str, advice: &str) {
        self.is("fault", code, detail, advice);
    }

    #[track_caller]
    fn warning(&self, code: &str, detail: &str, advice: &str) {
        self.is("warning", code, detail, advice);
    }

    /// How many could not be looked at.
    fn not_checked(&self) -> usize {
        self.checks().iter().filter(|check| check["code"] == "not_checked").count()
    }
}
