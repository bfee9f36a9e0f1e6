//! The commands that we hand out: every argument quoted for the shell of the runner's system.

use std::borrow::Cow;

use crate::model::Os;

/// What registers a runner with a token.
pub struct Registration<'a> {
    pub url: &'a str,
    pub token: &'a str,
    pub name: &'a str,
    /// Without the system's: `config.sh` adds those itself.
    pub labels: &'a [String],
    pub group: Option<&'a str>,
    pub work_folder: &'a str,
    pub ephemeral: bool,
    pub disable_update: bool,
}

/// `config.sh`, or `config.cmd` for PowerShell, with everything that was granted.
pub fn configure(os: Os, what: &Registration<'_>) -> String {
    let labels = what.labels.join(",");
    let mut args = vec!["--unattended", "--url", what.url, "--token", what.token, "--name", what.name];
    if !labels.is_empty() {
        args.extend(["--labels", &labels]);
    }
    if let Some(group) = what.group {
        args.extend(["--runnergroup", group]);
    }
    args.extend(["--work", what.work_folder]);
    if what.ephemeral {
        args.push("--ephemeral");
    }
    if what.disable_update {
        args.push("--disableupdate");
    }
    let program = match os {
        Os::Windows => r".\config.cmd",
        Os::Linux | Os::MacOs => "./config.sh",
    };
    let quoted: Vec<Cow<'_, str>> = args.iter().map(|arg| quote(os, arg)).collect();
    format!("{program} {}", quoted.join(" "))
}

/// Starts a JIT runner. The configuration goes through the environment, which other users of the machine
/// cannot read as they can a process's arguments.
pub fn run(os: Os, jit_config: &str) -> String {
    let config = quote(os, jit_config);
    match os {
        Os::Windows => format!("$env:ACTIONS_RUNNER_INPUT_JITCONFIG={config}; .\\run.cmd"),
        Os::Linux | Os::MacOs => format!("ACTIONS_RUNNER_INPUT_JITCONFIG={config} ./run.sh"),
    }
}

/// One argument for a POSIX shell, or for PowerShell.
fn quote(os: Os, arg: &str) -> Cow<'_, str> {
    match os {
        // PowerShell takes a bare word only if nothing in it means something, so all are quoted.
        Os::Windows if !arg.starts_with("--") => Cow::Owned(format!("'{}'", arg.replace('\'', "''"))),
        Os::Windows => Cow::Borrowed(arg),
        // A JIT configuration is base64 of some kilobytes, in which there is nothing to quote.
        Os::Linux | Os::MacOs if arg.bytes().all(|b| b.is_ascii_alphanumeric() || b"+/=".contains(&b)) => {
            Cow::Borrowed(if arg.is_empty() { "''" } else { arg })
        }
        // A NUL is all that it refuses, and no argument can hold one.
        Os::Linux | Os::MacOs => shlex::try_quote(arg).unwrap_or(Cow::Borrowed("''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_caller_chose_cannot_leave_its_argument() {
        let labels = ["a b".to_owned(), "$(reboot)".to_owned(), "it's".to_owned()];
        let what = Registration {
            url: "https://github.com/o",
            token: "T",
            name: "n",
            labels: &labels,
            group: Some("my group; rm -rf /"),
            work_folder: "-x",
            ephemeral: true,
            disable_update: false,
        };
        let words = shlex::split(&configure(Os::Linux, &what)).unwrap();
        assert!(words.contains(&"a b,$(reboot),it's".to_owned()));
        assert!(words.contains(&"my group; rm -rf /".to_owned()));
        assert!(configure(Os::Windows, &what).contains("'a b,$(reboot),it''s'"));
    }
}
