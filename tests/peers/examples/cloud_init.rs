//! `cloud-init/`: the user data, by cloud-init itself, on a machine of its own.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use serde_json::json;
use tokio::process::Command;

use super::outside::Ask;
use super::private_root::script;
use super::read;
use super::stage::{BROKER, Stage, ended, spawn, token};
use crate::support::ORG;
use crate::tools::{machine_program, run};

/// What the user data have where the release's checksum goes.
const ADAPT: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// A boot's stages with the modules that the user data are for; `packages` and `power_state` are left out, since
/// nothing is to be installed and nothing to be switched off here.
const BOOT: &str = r#"
rm -rf /var/lib/cloud /etc/cloud/cloud.cfg.d /etc/cloud/cloud-init.disabled
mkdir -p /var/lib/cloud/seed/nocloud
cp user-data /var/lib/cloud/seed/nocloud/user-data
echo 'instance-id: i-1' > /var/lib/cloud/seed/nocloud/meta-data
cat > /etc/cloud/cloud.cfg <<'END'
datasource_list: [NoCloud]
datasource: {NoCloud: {fs_label: null}}
disable_root: false
preserve_hostname: true
network: {config: disabled}
cloud_init_modules: [users-groups, write-files]
cloud_config_modules: [runcmd]
cloud_final_modules: [scripts-user]
system_info: {distro: debian, default_user: {name: debian}}
END
cloud-init init --local
cloud-init init
cloud-init modules --mode=config
[ "$(stat --format %a /etc/github-runner/settings)" = 600 ]
cloud-init modules --mode=final
refused setpriv --reuid=github-runner --clear-groups cat /etc/github-runner/settings
cp -r /var/lib/github-runner/_diag .
"#;

async fn stage() -> Option<Stage> {
    machine_program("cloud-init")?;
    let needed = Stage::with(&["curl", "jq"], |site| {
        let claims = json!({ "sub": "1234", "email": "github-runner@my-project.iam.gserviceaccount.com",
            "email_verified": true });
        let (issued, archive) = (token(site, claims), site.file("runner.tar.gz"));
        Arc::new(move |ask: &Ask| match ask.what.as_str() {
            "GET metadata.google.internal/computeMetadata/v1/instance/service-accounts/default/identity" => {
                let right = ask.header("metadata-flavor") == "Google"
                    && ask.field("audience") == BROKER
                    && ask.field("format") == "full";
                right.then(|| issued.clone().into_bytes())
            }
            "GET downloads.example.com/actions-runner-linux-x64.tar.gz" => std::fs::read(&archive).ok(),
            _ => None,
        })
    });
    let stage = needed.await?;
    let runner = stage.unpack_runner("runner");
    let archive = stage.site.file("runner.tar.gz");
    let mut tar = Command::new("tar");
    run(tar.arg("-czf").arg(archive).arg("-C").arg(runner).arg("."), std::time::Duration::from_secs(60))
        .await;
    Some(stage)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fresh_machine_becomes_a_runner_by_its_user_data() {
    let Some(stage) = stage().await else { return };
    let archive = std::fs::read(stage.site.file("runner.tar.gz")).expect("a file");
    let user_data = read("cloud-init/user-data.yaml");
    assert!(user_data.contains(ADAPT));
    let adapted = user_data.replace(ADAPT, &hex::encode(digest(&SHA256, &archive)));
    std::fs::write(stage.home.join("user-data"), adapted).expect("a file");
    let Some(mut boot) = script(&stage, BOOT) else { return };
    let child = spawn(&mut boot);
    stage.gets_a_job("cloud-").await;
    let (status, said) = ended(child).await;
    assert!(status.success(), "{status}: {said}");
    Stage::has_no_rights(&stage.home);
    stage.kept_its_secrets(Some(&stage.home));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_that_is_not_the_one_that_was_meant_is_not_started() {
    let Some(stage) = stage().await else { return };
    std::fs::write(stage.home.join("user-data"), read("cloud-init/user-data.yaml")).expect("a file");
    let Some(mut boot) = script(&stage, BOOT) else { return };
    let (status, said) = ended(spawn(&mut boot)).await;
    assert!(!status.success() && said.contains("did NOT match"), "{status}: {said}");
    assert!(stage.site.github.runners(ORG).is_empty());
    assert_eq!(stage.site.one("SELECT count(*) FROM runners").await, "0");
}
