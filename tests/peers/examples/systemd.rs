//! `systemd/`: installed as the unit says, looked at by `systemd-analyze`, and its commands run with what systemd gives
//! them.

use std::sync::Arc;

use serde_json::json;

use super::outside::Ask;
use super::private_root::{PATH, script};
use super::read;
use super::stage::{Stage, ended, spawn, terminate, token};
use crate::support::ORG;
use crate::tools::machine_program;

const UNIT: &str = "systemd/github-runner@.service";
const SECRET: &str = "correct horse+battery/staple";
/// `systemd-analyze security` counts from 0 (tight) to 10; here in tenths.
const EXPOSURE: &str = "25";

async fn stage() -> Option<Stage> {
    machine_program("systemd-analyze")?;
    machine_program("setpriv")?;
    let needed = Stage::with(&["curl", "jq"], |site| {
        let issued = token(site, json!({ "sub": "service-account", "azp": "github-runner" }));
        Arc::new(move |ask: &Ask| {
            let right = ask.what == "POST login.example.com/realms/main/protocol/openid-connect/token"
                && ask.field("grant_type") == "client_credentials"
                && ask.field("client_id") == "github-runner"
                && ask.field("client_secret") == SECRET;
            right.then(|| json!({ "access_token": issued, "token_type": "Bearer" }).to_string().into_bytes())
        })
    });
    let stage = needed.await?;
    let folder = stage.home.join("systemd");
    std::fs::create_dir(&folder).expect("a folder");
    for name in ["github-runner@.service", "settings"] {
        std::fs::copy(super::example(&format!("systemd/{name}")), folder.join(name)).expect("a copy");
    }
    // As an editor leaves it.
    std::fs::write(folder.join("client-secret"), format!("{SECRET}\n")).expect("a file");
    stage.copy("bootstrap.sh");
    stage.unpack_runner("actions-runner");
    Some(stage)
}

/// The values of a setting in the unit, for its first instance.
fn values(name: &str) -> Vec<String> {
    let unit = read(UNIT);
    let found = unit.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    found.map(|value| value.replace("%i", "1")).collect()
}

fn value(name: &str) -> String {
    let mut found = values(name);
    assert_eq!(found.len(), 1, "{name}");
    found.remove(0)
}

/// What the unit's head says on installing it, short of starting it.
fn installation() -> String {
    let unit = read(UNIT);
    let lines: Vec<&str> = unit
        .lines()
        .skip_while(|line| *line != "# Install:")
        .skip(1)
        .map_while(|line| line.strip_prefix("#   "))
        .filter(|line| !line.starts_with("systemctl "))
        .collect();
    assert!(lines.len() >= 4, "{lines:?}");
    format!("cd systemd\n{}\ncd ..\ncp -R actions-runner /opt/actions-runner\n", lines.join("\n"))
}

/// What systemd does with the unit's `[Service]`: environment, state folder, credential, capabilities.
fn service() -> String {
    let (id, source) =
        value("LoadCredential").split_once(':').map(|(a, b)| (a.to_owned(), b.to_owned())).expect("a pair");
    let capabilities: Vec<String> = value("CapabilityBoundingSet")
        .split_whitespace()
        .map(|name| format!("+{}", name.trim_start_matches("CAP_").to_lowercase()))
        .collect();
    let privileged = value("ExecStartPre");
    let privileged = privileged.strip_prefix("+").expect("as root, whatever the service may");
    format!(
        r#"
install -d -m 755 /var/lib/{state}
credentials=/run/credentials/github-runner@1.service
install -d -m 500 $credentials
install -m 400 {source} $credentials/{id}
started() {{
    exec env -i PATH={PATH} CREDENTIALS_DIRECTORY=$credentials {environment} sh -c 'set -a; . {settings}; set +a; exec "$@"' sh "$@"
}}
(started {privileged})
service() {{
    started setpriv --no-new-privs --bounding-set=-all,{capabilities} {start}
}}
"#,
        state = value("StateDirectory"),
        environment = values("Environment").join(" "),
        settings = value("EnvironmentFile"),
        capabilities = capabilities.join(","),
        start = value("ExecStart"),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn systemd_finds_nothing_wrong_with_the_unit_and_calls_it_tight() {
    let Some(stage) = stage().await else { return };
    // What `verify` has to say does not make it fail.
    let look = format!(
        "{}unit=/etc/systemd/system/github-runner@.service\n\
         systemd-analyze verify --man=no $unit > verified 2>&1\ncat verified\nrefused grep github-runner verified\n\
         systemd-analyze security --offline=true --no-pager --threshold={EXPOSURE} $unit",
        installation()
    );
    let Some(mut look) = script(&stage, &look) else { return };
    let (status, said) = ended(spawn(&mut look)).await;
    assert!(status.success(), "{status}: {said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_unit_keeps_a_runner_waiting_whose_job_cannot_read_the_secret() {
    let Some(stage) = stage().await else { return };
    let once = "(service)\ncp -r /var/lib/github-runner/1/_diag .\n";
    // Twice, as `Restart=always` does; the second finds nothing of the first.
    let again = "[ -e /var/lib/github-runner/1/.credentials ]\n";
    let secret = "as_the_job() { setpriv --reuid=github-runner --regid=github-runner --clear-groups \"$@\"; }\n\
                  refused as_the_job cat /etc/github-runner/client-secret\n\
                  refused as_the_job cat $credentials/client-secret\n";
    let text = format!(
        "{}{}{secret}{once}{again}{}[ ! -e /var/lib/github-runner/1/.credentials ]\nservice\n",
        installation(),
        service(),
        service()
    );
    let Some(mut both) = script(&stage, &text) else { return };
    let child = spawn(&mut both);
    stage.gets_a_job("rack-").await;
    let name = stage.online("rack-").await;
    let started = Stage::started(&stage.home);
    Stage::has_no_rights(&stage.home);
    assert_eq!(started["environment"]["HOME"], "/var/lib/github-runner/1");
    assert!(!started.to_string().contains(SECRET));
    stage.kept_its_secrets(Some(&stage.home));
    // And then the unit is stopped: the script has become the service's main process.
    terminate(&child);
    let (status, said) = ended(child).await;
    assert_eq!(status.code(), Some(143), "{said}");
    assert_eq!(value("SuccessExitStatus"), "143");
    assert!(stage.site.github.runners(ORG).is_empty(), "{said}");
    assert_eq!(stage.site.status(&name).await, "deleted");
}
