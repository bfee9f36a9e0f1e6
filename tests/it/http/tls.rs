//! HTTPS by our own certificate.

use std::path::{Path, PathBuf};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use reqwest::Method;
use runner_broker::config::Tls;
use serde_json::json;
use tempfile::TempDir;

use crate::cli::commands::{Ended, environment, runner_broker};
use crate::support::World;

/// A certificate for loopback and its key, as PEM files.
fn certificate() -> (TempDir, Tls, String) {
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(names).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let tls = Tls { cert_file: folder.path().join("tls.crt"), key_file: folder.path().join("tls.key") };
    std::fs::write(&tls.cert_file, cert.pem()).unwrap();
    std::fs::write(&tls.key_file, signing_key.serialize_pem()).unwrap();
    (folder, tls, cert.pem())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_makes_the_service_speak_https() {
    let (_folder, tls, pem) = certificate();
    let world = World::with(|config| config.http.tls = Some(tls)).await;
    assert!(world.url.starts_with("https://"));
    // A client that believes this certificate and no other.
    let root = reqwest::Certificate::from_pem(pem.as_bytes()).unwrap();
    let client = reqwest::Client::builder().tls_certs_only([root]).build().unwrap();
    let ask = |path: &str| client.get(format!("{}{path}", world.url));
    assert_eq!(ask("/health").send().await.unwrap().status(), 200);
    let made = client.post(format!("{}/api/v1/runners/jit", world.url)).bearer_auth(world.token("blue"));
    assert_eq!(made.json(&json!({ "runner_name": "b1" })).send().await.unwrap().status(), 201);
    // Not in plain text, too.
    let plain = world.url.replace("https://", "http://");
    assert!(client.get(format!("{plain}/health")).send().await.is_err());
    assert_eq!(world.call(Method::GET, "/health", "", &[], None).await.status, 200);
}

/// `serve` with these two files.
fn serve(tls: &Tls) -> Ended {
    let mut environment = environment();
    environment.retain(|(name, _)| *name != "HTTPS_ENABLED");
    environment.push(("HTTPS_CERT_FILE", tls.cert_file.display().to_string()));
    environment.push(("HTTPS_KEY_FILE", tls.key_file.display().to_string()));
    runner_broker(&["serve"], &environment)
}

#[track_caller]
fn refused(tls: &Tls, name: &str, file: &Path, why: &str) {
    let ended = serve(tls);
    assert_eq!(ended.code, 2, "{}", ended.err);
    let message = ended.err.lines().find(|line| line.contains(name)).unwrap_or_default();
    assert!(message.contains(&file.display().to_string()) && message.contains(why), "{}", ended.err);
}

#[test]
fn files_that_make_no_certificate_are_refused_by_their_variables_names() {
    let (folder, tls, _) = certificate();
    let bad = folder.path().join("bad.pem");
    std::fs::write(&bad, "no PEM").unwrap();
    let missing = folder.path().join("missing.pem");
    let (_other_folder, other, _) = certificate();

    let cert = |cert_file: &PathBuf| Tls { cert_file: cert_file.clone(), ..tls.clone() };
    let key = |key_file: &PathBuf| Tls { key_file: key_file.clone(), ..tls.clone() };
    refused(&cert(&bad), "HTTPS_CERT_FILE", &bad, "no certificate");
    refused(&cert(&missing), "HTTPS_CERT_FILE", &missing, "a readable file");
    refused(&cert(&tls.key_file), "HTTPS_CERT_FILE", &tls.key_file, "no certificate");
    refused(&key(&bad), "HTTPS_KEY_FILE", &bad, "no private key");
    refused(&key(&missing), "HTTPS_KEY_FILE", &missing, "a readable file");
    refused(&key(&tls.cert_file), "HTTPS_KEY_FILE", &tls.cert_file, "no private key");
    refused(&key(&other.key_file), "HTTPS_KEY_FILE", &other.key_file, "not the key of the certificate");
}
