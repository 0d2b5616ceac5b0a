//! What `--help` says.

use super::{Command, Flag, Kind};
use std::collections::BTreeMap;

/// Follows the help of every command.
const OPTIONS_HINT: &str =
    "Use \"etcdctl options\" for a list of global command-line options (applies to all commands).\n";

/// The help of the last command of `path`.
pub(super) fn help(path: &[&'static Command]) -> String {
    let command = path[path.len() - 1];
    let about = if command.long.is_empty() { command.short } else { command.long };
    format!("{}\n\n{}{OPTIONS_HINT}", about.trim_end(), usage(path))
}

/// Its usage, as shown after an error too.
pub(super) fn usage(path: &[&'static Command]) -> String {
    let command = path[path.len() - 1];
    let parents: String = path[..path.len() - 1].iter().map(|c| format!("{} ", c.name())).collect();
    let full_name = format!("{parents}{}", command.name());
    let own_flags: Vec<&Flag> = visible(command.flags.iter().chain(command.persistent));
    let help_for = (path.len() > 1).then(|| command.name());
    let has_flags = help_for.is_some() || !own_flags.is_empty();
    let inherited = visible(path[..path.len() - 1].iter().flat_map(|c| c.persistent));

    let mut text = String::from("Usage:");
    if command.run.is_some() {
        let flags = if has_flags { " [flags]" } else { "" };
        text += &format!("\n  {parents}{}{flags}", command.usage);
    }
    if !command.children.is_empty() {
        text += &format!("\n  {full_name} [command]");
        text += &children(command);
    }
    if has_flags {
        text += &format!("\n\nFlags:\n{}", flag_usages(&own_flags, help_for).trim_end());
    }
    if !inherited.is_empty() {
        text += &format!("\n\nGlobal Flags:\n{}", flag_usages(&inherited, None).trim_end());
    }
    if !command.children.is_empty() {
        text += &format!("\n\nUse \"{full_name} [command] --help\" for more information about a command.");
    }
    text + "\n"
}

/// The flags of the root, which no other help shows.
pub(crate) fn options(root: &Command) -> String {
    let all: Vec<&Flag> = root.persistent.iter().collect();
    format!("The following options can be passed to any command:\n\n{}", flag_usages(&all, None))
}

fn visible(flags: impl Iterator<Item = &'static Flag>) -> Vec<&'static Flag> {
    flags.filter(|f| !f.hidden).collect()
}

/// Children by name, in their groups.
fn children(command: &Command) -> String {
    let mut sorted: Vec<&Command> = command.children.iter().collect();
    sorted.sort_by_key(|c| c.name());
    let width = sorted.iter().map(|c| c.name().len()).max().unwrap_or(0).max(11);
    let list = |group: &str| -> String {
        let members = sorted.iter().filter(|c| c.group == group);
        members.map(|c| format!("\n  {:width$} {}", c.name(), c.short)).collect()
    };
    let groups: Vec<&str> = command.children.iter().map(|c| c.group).collect();
    if groups.iter().all(|g| g.is_empty()) {
        return format!("\n\nAvailable Commands:{}", list(""));
    }
    let mut text = String::new();
    for group in crate::command::GROUPS {
        text += &format!("\n\n{group}{}", list(group));
    }
    text
}

/// One line a flag, by name, aligned. The help flag is in every command but the root's.
fn flag_usages(flags: &[&Flag], help_for: Option<&str>) -> String {
    let mut lines: BTreeMap<&str, (String, String)> = flags.iter().map(|f| (f.name, (left(f), right(f)))).collect();
    if let Some(command) = help_for {
        lines.insert("help", ("  -h, --help".to_string(), format!("help for {command}")));
    }
    let width = lines.values().map(|(left, _)| left.len()).max().unwrap_or(0);
    lines.into_values().map(|(left, right)| format!("{left:width$}   {right}\n")).collect()
}

fn left(flag: &Flag) -> String {
    let letter = flag.letter.map_or("      ".to_string(), |l| format!("  -{l}, "));
    let kind = match flag.kind {
        Kind::Bool => "",
        Kind::Int => " int",
        Kind::Text => " string",
        Kind::Texts => " strings",
        Kind::Duration => " duration",
    };
    format!("{letter}--{}{kind}", flag.name)
}

fn right(flag: &Flag) -> String {
    let default = match (flag.kind, flag.default) {
        (_, "" | "0" | "false") if flag.kind != Kind::Text || flag.default.is_empty() => String::new(),
        (Kind::Text, default) => format!(" (default {})", crate::go::quote(default.as_bytes())),
        (Kind::Texts, default) => format!(" (default [{default}])"),
        (_, default) => format!(" (default {default})"),
    };
    format!("{}{default}", flag.usage)
}
