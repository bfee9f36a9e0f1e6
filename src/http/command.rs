//! The commands that start and remove runners, with every argument quoted for the shell of the system.

use std::borrow::Cow;

use crate::model::Os;

/// What registers a runner with a token.
pub struct Registration<'a> {
    pub url: &'a str,
    /// `None`: it comes from `ACTIONS_RUNNER_INPUT_TOKEN`.
    pub token: Option<&'a str>,
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
    let labels = Some(labels.as_str()).filter(|labels| !labels.is_empty());
    let options = [
        ("--url", Some(what.url)),
        ("--token", what.token),
        ("--name", Some(what.name)),
        ("--labels", labels),
        ("--runnergroup", what.group),
        ("--work", Some(what.work_folder)),
    ];
    let mut command = match os {
        Os::Windows => r".\config.cmd --unattended".to_owned(),
        Os::Linux | Os::MacOs => "./config.sh --unattended".to_owned(),
    };
    for (option, value) in options {
        if let Some(value) = value {
            command.push_str(&format!(" {option} {}", quote(os, value)));
        }
    }
    for (flag, is_set) in [("--ephemeral", what.ephemeral), ("--disableupdate", what.disable_update)] {
        if is_set {
            command.push(' ');
            command.push_str(flag);
        }
    }
    command
}

/// Whether `config.cmd` receives this text unchanged: PowerShell drops quotes in words without blanks, and `cmd.exe`
/// parses the line a second time.
pub fn survives_windows(text: &str) -> bool {
    !text.chars().any(|c| "\"%&|<>^!`".contains(c) || !c.is_ascii())
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

/// Unregisters a runner, on its own machine.
pub fn unregister(os: Os, token: &str) -> String {
    match os {
        Os::Windows => format!(".\\config.cmd remove --token {}", quote(os, token)),
        Os::Linux | Os::MacOs => format!("./config.sh remove --token {}", quote(os, token)),
    }
}

/// One argument for a POSIX shell, or for PowerShell.
pub fn quote(os: Os, arg: &str) -> Cow<'_, str> {
    match os {
        // PowerShell treats four typographic quotes like the plain one; doubled, each stands for itself.
        Os::Windows => {
            let is_quote = |c: char| c == '\'' || ('\u{2018}'..='\u{201b}').contains(&c);
            let doubled = arg.chars().flat_map(|c| std::iter::repeat_n(c, if is_quote(c) { 2 } else { 1 }));
            Cow::Owned(format!("'{}'", doubled.collect::<String>()))
        }
        // A JIT configuration is base64 of some kilobytes, in which there is nothing to quote.
        Os::Linux | Os::MacOs if arg.bytes().all(|b| b.is_ascii_alphanumeric() || b"+/=".contains(&b)) => {
            Cow::Borrowed(if arg.is_empty() { "''" } else { arg })
        }
        // `try_quote` refuses a NUL only, which no argument can contain.
        Os::Linux | Os::MacOs => shlex::try_quote(arg).unwrap_or(Cow::Borrowed("''")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_text_of_the_caller_cannot_leave_its_argument() {
        let labels = ["a b".to_owned(), "$(reboot)".to_owned(), "it's".to_owned()];
        let what = Registration {
            url: "https://github.com/o",
            token: Some("T"),
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
        let windows = configure(Os::Windows, &what);
        assert!(
            windows.contains("--labels 'a b,$(reboot),it''s' --runnergroup 'my group; rm -rf /' --work '-x'")
        );
    }

    #[test]
    fn typographic_quotes_and_leading_dashes_stay_in_their_argument() {
        assert_eq!(quote(Os::Windows, "x\u{2019}; calc"), "'x\u{2019}\u{2019}; calc'");
        assert_eq!(quote(Os::Windows, "--x;calc"), "'--x;calc'");
        assert!(!survives_windows("a&calc") && survives_windows("gpu-a 100"));
    }

    /// What PowerShell makes of one single-quoted word: any of its five quotes ends it, two in a row stand for one.
    /// (about_Quoting_Rules; the tokenizer takes U+2018 to U+201B for a single quote.)
    fn powershell_word(text: &str) -> Option<String> {
        let is_quote = |c: char| matches!(c, '\'' | '\u{2018}' | '\u{2019}' | '\u{201a}' | '\u{201b}');
        let mut rest = text.chars().peekable();
        rest.next().filter(|c| is_quote(*c))?;
        let mut word = String::new();
        while let Some(c) = rest.next() {
            match (is_quote(c), rest.peek().copied().filter(|c| is_quote(*c))) {
                (false, _) => word.push(c),
                (true, Some(second)) => {
                    rest.next();
                    word.push(second);
                }
                // The end of the word, which must be the end of the text: nothing is left to be run.
                (true, None) => return rest.next().is_none().then_some(word),
            }
        }
        None
    }

    proptest! {
        #[test]
        fn powershell_reads_every_quoted_text_as_one_word(text in r#"[\PC\n'"$`;&\u{2018}-\u{201b}]{0,20}"#) {
            prop_assert_eq!(powershell_word(&quote(Os::Windows, &text)), Some(text));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_shell_reads_every_quoted_text_as_one_word(
            texts in prop::collection::vec(r#"[\PC\n\t'"$`;&|<>()!#~*?\\ -]{0,20}"#, 1..8)
        ) {
            let words: Vec<_> = texts.iter().map(|text| quote(Os::Linux, text)).collect();
            let script = format!("printf '%s\\0' {}", words.join(" "));
            let printed = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
            let expected: String = texts.iter().map(|text| format!("{text}\0")).collect();
            prop_assert_eq!(String::from_utf8(printed.stdout).unwrap(), expected);
        }
    }
}
