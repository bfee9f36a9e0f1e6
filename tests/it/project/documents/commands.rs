//! The table of commands, held against the command line itself.

use std::collections::BTreeSet;

use clap::{Args, Command, Subcommand};
use regex::Regex;

use crate::markdown::{code, document};

/// A command as it is called, and what it takes: flags as `--flag`, other arguments as `NAME`.
type Usage = (String, BTreeSet<String>);

fn leaves(path: &str, command: &Command, found: &mut Vec<Usage>) {
    let children: Vec<&Command> = command.get_subcommands().filter(|one| one.get_name() != "help").collect();
    if children.is_empty() || command.is_args_conflicts_with_subcommands_set() {
        let arguments = command.get_arguments().filter(|argument| !argument.is_hide_set());
        let names = arguments.map(|argument| match argument.get_long() {
            Some(flag) => format!("--{flag}"),
            None => argument.get_id().as_str().to_uppercase(),
        });
        let names = names.filter(|name| name != "--help" && name != "--version");
        found.push((path.to_owned(), names.collect()));
    }
    for child in children {
        leaves(&format!("{path} {}", child.get_name()), child, found);
    }
}

#[test]
fn every_command_is_in_the_documents_with_its_flags_and_no_other_is() {
    let commands = runner_broker::cli::Command::augment_subcommands(Command::new("runner-broker"));
    let dev = runner_broker::dev::command::Dev::augment_args(Command::new("dev"));
    let commands = commands.subcommand(dev.args_conflicts_with_subcommands(true));
    let mut known = Vec::new();
    leaves("", &commands, &mut known);
    let known: BTreeSet<Usage> =
        known.into_iter().map(|(path, arguments)| (path.trim().to_owned(), arguments)).collect();

    let word = Regex::new(r"^(?:[a-z]+(?:-[a-z]+)*)$").expect("a pattern");
    let argument = Regex::new(r"--[a-z]+(?:-[a-z]+)*|(?:^|\s)[A-Z]+\b").expect("a pattern");
    let flag_with_value = Regex::new(r"(--[a-z-]+) [^\s\]|]+").expect("a pattern");
    let rows = document("docs/CONFIGURATION.md").rows("## Commands");
    let documented: BTreeSet<Usage> = rows
        .iter()
        .map(|row| {
            let usage = code(&row[0]);
            let path: Vec<&str> = usage.split(' ').take_while(|one| word.is_match(one)).collect();
            let rest = flag_with_value.replace_all(&usage, "$1");
            let found = argument.find_iter(&rest).map(|found| found.as_str().trim().to_owned());
            (path.join(" "), found.collect())
        })
        .collect();
    assert_eq!(documented, known);
}
