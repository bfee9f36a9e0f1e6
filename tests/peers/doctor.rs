//! What `doctor` says of an App's key, against what openssl makes of it as GitHub's documentation has it.

use std::path::Path;
use std::process::{Command, Stdio};

use runner_broker::dev::github::{GitHub, Settings};
use serde_json::Value;

use crate::support::ORG;
use crate::tools::machine_program;

fn shell(line: &str, folder: &Path) -> String {
    let output = Command::new("sh").args(["-euc", line]).current_dir(folder).output().expect("a shell");
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text").trim().to_owned()
}

#[test]
fn the_fingerprint_of_a_key_is_the_one_that_github_lists() {
    if machine_program("openssl").is_none() {
        return;
    }
    let github = GitHub::start(Settings::default()).expect("a GitHub");
    github.add_org(ORG);
    let folder = tempfile::tempdir().expect("a folder");
    shell(
        "openssl genrsa -out pkcs8.pem 2048 && openssl rsa -in pkcs8.pem -traditional -out pkcs1.pem",
        folder.path(),
    );
    let fingerprint = shell(
        "openssl rsa -in pkcs8.pem -pubout -outform DER | openssl sha256 -binary | openssl base64",
        folder.path(),
    );
    for name in ["pkcs1.pem", "pkcs8.pem"] {
        let output = Command::new(env!("CARGO_BIN_EXE_runner-broker"))
            .args(["doctor", "--json"])
            .env_clear()
            .envs([
                ("DATABASE_URL", "postgres://broker@127.0.0.1:1/broker"),
                ("HTTPS_ENABLED", "false"),
                ("GITHUB_APP_ID", "424242"),
                ("GITHUB_ORG", ORG),
                ("GITHUB_API_URL", github.url()),
                ("OIDC_ISSUER", "http://127.0.0.1:1"),
                ("OIDC_AUDIENCE", "runner-broker"),
            ])
            .env("GITHUB_APP_PRIVATE_KEY_PATH", folder.path().join(name))
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .output()
            .expect("the binary");
        let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let checks = report["checks"].as_array().expect("checks");
        let app = checks.iter().find(|check| check["code"] == "app_key").expect("a wrong key");
        let advice = app["advice"].as_str().unwrap_or_default();
        assert!(advice.contains(&format!("SHA256:{fingerprint}:")), "{name}: {fingerprint}: {app:#}");
    }
}
