//! Commands that write where only root may, in a private copy of this machine's files.

use std::path::Path;

use rustix::process::getuid;
use tokio::process::Command;

use super::stage::Stage;
use crate::tools::{here, machine_program};

/// The PATH that systemd gives.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// `refused COMMAND…` ends the script unless the command fails: `!` alone would not.
const REFUSED: &str = r#"refused() { if "$@"; then echo "went through: $*"; exit 1; fi; }"#;

/// A script that is run by root in such a copy, in the stage's home, which is the same inside and outside; root's curl
/// sees the stage's network. `None`: this machine cannot, the test is skipped.
pub fn script(stage: &Stage, text: &str) -> Option<Command> {
    let unshare = machine_program("unshare")?;
    let home = stage.home.display();
    let text = format!("set -eu\n{REFUSED}\ncd '{home}'\ncp .curlrc /root/.curlrc\n{text}");
    std::fs::write(stage.home.join("script"), text).expect("a file");
    let folder = stage.site.file("private-root");
    std::fs::create_dir_all(&folder).expect("a folder");
    let environment = [("PATH", PATH), ("HOME", "/root")];
    let mut command = match getuid().is_root() {
        true => stage.command(unshare, &environment),
        false => {
            let mut command = stage.command(machine_program("sudo")?, &environment);
            command
                .args(["--non-interactive", "env", "-i", "HOME=/root", &format!("PATH={PATH}")])
                .arg(unshare);
            command
        }
    };
    command.arg("--mount").arg(here("private-root.sh")).args([&folder, &stage.home]);
    command.arg("sh").arg(stage.home.join("script"));
    Some(command)
}

/// A path as a word of a shell's command.
pub fn quoted(path: &Path) -> String {
    shlex::try_quote(path.to_str().expect("UTF-8")).expect("no NUL").into_owned()
}
