//! What changes without a restart: the certificate by itself, the App's key, the policy and the log level on SIGHUP. What
//! cannot be used leaves what was there.

use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{CertifiedKey, generate_simple_self_signed};
use runner_broker::dev::github::{private_key_pem, rotated_private_key_pem};
use rustix::process::Signal;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::process::{Replica, Site, until};
use crate::support::{REPO, answer};

/// A certificate and its key, as PEM and as a client would know it.
struct Pair {
    cert: String,
    key: String,
    der: CertificateDer<'static>,
}

fn pair() -> Pair {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    Pair { cert: cert.pem(), key: signing_key.serialize_pem(), der: cert.der().clone() }
}

struct Files {
    cert: PathBuf,
    key: PathBuf,
}

impl Files {
    fn write(&self, pair: &Pair) {
        std::fs::write(&self.cert, &pair.cert).expect("a file");
        std::fs::write(&self.key, &pair.key).expect("a file");
    }
}

/// A connection that believes one certificate alone; `None`: it was another.
async fn connect(replica: &Replica, pair: &Pair) -> Option<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(pair.der.clone()).expect("a root");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let tcp = TcpStream::connect(("127.0.0.1", replica.port)).await.expect("a server");
    let name = ServerName::try_from("localhost").expect("a name");
    TlsConnector::from(Arc::new(config)).connect(name, tcp).await.ok()
}

/// One request on a connection that stays open.
async fn ask(connection: &mut TlsStream<TcpStream>) -> String {
    connection.write_all(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n").await.expect("sent");
    let mut answer = vec![0; 4096];
    let length = connection.read(&mut answer).await.expect("an answer");
    String::from_utf8_lossy(&answer[..length]).into_owned()
}

async fn count(site: &Site, replica: &Replica, what: &str, result: &str) -> f64 {
    let series = format!("broker_reloads_total{{what=\"{what}\",result=\"{result}\"}}");
    replica.metric(&site.client, &series).await.unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_certificate_is_taken_once_it_is_whole_and_open_connections_live_on() {
    let site = Site::new().await;
    let files = Files { cert: site.file("tls.crt"), key: site.file("tls.key") };
    let (first, second, third, other) = (pair(), pair(), pair(), pair());
    files.write(&first);
    let paths = [&files.cert, &files.key].map(|path| path.display().to_string());
    let variables =
        [("HTTPS_ENABLED", "true"), ("HTTPS_CERT_FILE", &*paths[0]), ("HTTPS_KEY_FILE", &*paths[1])];
    let replica = site.serve_with(&variables).await;
    let mut open = connect(&replica, &first).await.expect("the first certificate");
    assert!(ask(&mut open).await.starts_with("HTTP/1.1 200"));
    assert!(connect(&replica, &second).await.is_none());

    // By itself.
    files.write(&second);
    until("the second certificate", async || connect(&replica, &second).await.is_some()).await;
    assert!(connect(&replica, &first).await.is_none());
    assert!(ask(&mut open).await.starts_with("HTTP/1.1 200"), "an open connection lives on");
    assert_eq!(count(&site, &replica, "certificate", "done").await, 1.0);

    // A certificate without its key is told of, once, and not taken; nor is half of one.
    std::fs::write(&files.cert, &third.cert).expect("a file");
    until("the mismatch is told of", async || count(&site, &replica, "certificate", "failed").await == 1.0)
        .await;
    assert!(connect(&replica, &second).await.is_some());
    std::fs::write(&files.cert, &third.cert[..third.cert.len() / 2]).expect("a file");
    until("the half is told of", async || count(&site, &replica, "certificate", "failed").await == 2.0).await;
    assert!(connect(&replica, &second).await.is_some());
    std::fs::remove_file(&files.key).expect("the file");
    files.write(&third);
    until("the third certificate", async || connect(&replica, &third).await.is_some()).await;
    let log = replica.read_log();
    let told = log.lines().filter(|line| line.contains("reload failed")).count();
    assert!(told == 2 && log.contains("HTTPS_KEY_FILE") && log.contains("HTTPS_CERT_FILE"), "{log}");

    // On SIGHUP at once, good or bad.
    std::fs::write(&files.key, &other.key).expect("a file");
    replica.signal(Signal::HUP);
    until("the wrong key is told of", async || count(&site, &replica, "certificate", "failed").await == 3.0)
        .await;
    let mut open = connect(&replica, &third).await.expect("the third certificate");
    files.write(&other);
    replica.signal(Signal::HUP);
    until("the other certificate", async || connect(&replica, &other).await.is_some()).await;
    assert!(ask(&mut open).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_apps_key_is_replaced_on_sighup_if_github_knows_the_new_one() {
    let site = Site::new().await;
    let replica = site.serve().await;
    assert_eq!(answer(site.jit(&replica, "b1")).await.status, 201);
    let half = &private_key_pem()[..600];
    let bad = [
        ("no PEM".to_owned(), "no PEM private key"),
        (format!("{half}\n-----END PRIVATE KEY-----\n"), "no whole RSA key"),
        // A good key, but GitHub does not know it yet.
        (rotated_private_key_pem().to_owned(), "the private key is not one of App"),
    ];
    for (number, (pem, why)) in bad.iter().enumerate() {
        std::fs::write(site.file("app.pem"), pem).expect("a file");
        replica.signal(Signal::HUP);
        let failed = number as f64 + 1.0;
        until("it is told of", async || count(&site, &replica, "github_key", "failed").await == failed).await;
        let log = replica.read_log();
        assert!(log.contains(why), "{why}: {log}");
        assert!(!log.contains(&half[100..150]), "the key is in the log");
    }
    // The old one still signs: a repository wants another token than the organisation.
    let body = json!({ "runner_name": "r1", "repository": REPO });
    let made = answer(site.post(&replica, "/api/v1/runners/jit", &body)).await;
    assert_eq!(made.status, 201, "{}", made.text);

    site.github.rotate_key();
    std::fs::write(site.file("app.pem"), rotated_private_key_pem()).expect("a file");
    replica.signal(Signal::HUP);
    until("the new key", async || count(&site, &replica, "github_key", "done").await == 1.0).await;
    let fresh = site.serve().await;
    assert_eq!(answer(site.jit(&fresh, "b2")).await.status, 201, "the file is what it should be");
    assert_eq!(answer(site.jit(&replica, "b3")).await.status, 201);
    // Once more changes nothing.
    replica.signal(Signal::HUP);
    until("a second SIGHUP", async || replica.read_log().matches("SIGHUP").count() == 5).await;
    assert_eq!(count(&site, &replica, "github_key", "done").await, 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn policy_and_log_level_are_read_again_on_sighup() {
    let site = Site::new().await;
    std::fs::write(site.file(".env"), "LOG_LEVEL=warn\n").expect("a file");
    let replica = site.serve().await;
    let others = site.serve_with(&[("LOG_LEVEL", "warn")]).await;
    assert_eq!(answer(site.jit(&replica, "b1")).await.status, 201);
    assert!(!replica.read_log().contains("milliseconds"));

    std::fs::write(site.file(".env"), "LOG_LEVEL=info\n").expect("a file");
    let policy = std::fs::read_to_string(site.file("policy.toml")).expect("a file");
    std::fs::write(site.file("policy.toml"), policy.replace("linux.*", "gpu")).expect("a file");
    let ask = json!({ "runner_name": "g1", "labels": ["gpu"] });
    assert_eq!(answer(site.post(&replica, "/api/v1/runners/jit", &ask)).await.status, 403);
    for replica in [&replica, &others] {
        replica.signal(Signal::HUP);
    }
    until("the new policy", async || {
        answer(site.post(&replica, "/api/v1/runners/jit", &ask)).await.status == 201
    })
    .await;
    until("the new level", async || replica.read_log().contains("milliseconds")).await;
    assert_eq!(count(&site, &replica, "log_level", "done").await, 1.0);
    // What the environment says stands above the file.
    assert_eq!(count(&site, &others, "log_level", "done").await, 0.0);

    // Faults are told of, and what was there stays.
    std::fs::write(site.file(".env"), "LOG_LEVEL=loud\n").expect("a file");
    std::fs::write(site.file("policy.toml"), "[[team]]\nname = 7\n").expect("a file");
    replica.signal(Signal::HUP);
    until("the faults are told of", async || {
        count(&site, &replica, "policy", "failed").await == 1.0
            && count(&site, &replica, "log_level", "failed").await == 1.0
    })
    .await;
    let log = replica.read_log();
    assert!(log.contains("POLICY_FILE") && log.contains("LOG_LEVEL"), "{log}");
    let ask = json!({ "runner_name": "g2", "labels": ["gpu"] });
    assert_eq!(answer(site.post(&replica, "/api/v1/runners/jit", &ask)).await.status, 201);
}
