//! Commands and flags, parsed and explained as Go's cobra does it, texts included.

mod flag;
mod help;
mod parse;
mod suggest;

pub(crate) use flag::{Flag, Kind, Values};
pub(crate) use help::options;
pub(crate) use parse::{Invocation, parse_line};

use crate::exit::{ERROR, Exit};
use std::io::Write;

/// What a command does.
pub(crate) type Run = fn(&Invocation) -> Result<(), Exit>;

/// One command of the tree.
pub(crate) struct Command {
    /// Its name and what it takes: `get [options] <key> [range_end]`.
    pub(crate) usage: &'static str,
    /// One line.
    pub(crate) short: &'static str,
    /// More lines, or nothing.
    pub(crate) long: &'static str,
    /// The group it is listed under by its parent, or nothing.
    pub(crate) group: &'static str,
    /// Its own flags.
    pub(crate) flags: &'static [Flag],
    /// Flags it shares with its children.
    pub(crate) persistent: &'static [Flag],
    /// What it does; a command without this only has children.
    pub(crate) run: Option<Run>,
    /// Its children, in the order in which they are suggested.
    pub(crate) children: &'static [Command],
}

impl Command {
    /// Nothing set.
    pub(crate) const EMPTY: Command =
        Command { usage: "", short: "", long: "", group: "", flags: &[], persistent: &[], run: None, children: &[] };

    pub(crate) fn name(&self) -> &'static str {
        self.usage.split(' ').next().unwrap_or_default()
    }

    /// The child of this name, or the only one whose name starts so (contract T-3).
    fn child(&self, name: &[u8]) -> Option<&Command> {
        if let Some(exact) = self.children.iter().find(|c| c.name().as_bytes() == name) {
            return Some(exact);
        }
        let mut like = self.children.iter().filter(|c| c.name().as_bytes().starts_with(name));
        like.next().filter(|_| like.next().is_none())
    }
}

/// Finds the command, reads its flags and runs it.
pub(crate) fn run(root: &'static Command, args: Vec<Vec<u8>>) -> Result<(), Exit> {
    let (path, rest) = parse::find(root, args);
    let command = path[path.len() - 1];
    if path.len() == 1
        && let Some(word) = parse::first_word(&path, &rest)
    {
        let word = String::from_utf8_lossy(word);
        let text = suggest::unknown_command(root, &word);
        return fail(&format!("Error: {text}\nRun '{} --help' for usage.\n", root.name()));
    }
    let invocation = match Invocation::parse(path, rest) {
        Ok(invocation) => invocation,
        Err((path, error)) => return fail(&format!("Error: {error}\n{}\n", help::usage(&path))),
    };
    match command.run {
        Some(run) if !invocation.flags.bool("help") => run(&invocation),
        _ => print(help::help(&invocation.path).as_bytes()),
    }
}

/// `help [command]`.
pub(crate) fn run_help(invocation: &Invocation) -> Result<(), Exit> {
    let root = invocation.path[0];
    let (path, rest) = parse::find(root, invocation.args.clone());
    if path.len() == 1 && !rest.is_empty() {
        let topic: Vec<_> = rest.iter().map(|a| format!("`{}`", String::from_utf8_lossy(a))).collect();
        // Nothing is left to do about a closed stderr.
        let _ = write!(std::io::stderr(), "Unknown help topic [{}]\n{}", topic.join(" "), help::usage(&path));
        return Ok(());
    }
    print(help::help(&path).as_bytes())
}

/// To stdout, at once.
pub(crate) fn print(bytes: &[u8]) -> Result<(), Exit> {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes)?;
    Ok(out.flush()?)
}

fn fail(text: &str) -> Result<(), Exit> {
    // Nothing is left to do about a closed stderr.
    let _ = std::io::stderr().write_all(text.as_bytes());
    Err(Exit::silent(ERROR))
}

/// Reads a command line without running it, for fuzz targets: the words, or what is wrong, with the help it would print.
#[cfg(feature = "fuzz")]
pub(crate) fn read(root: &'static Command, args: Vec<Vec<u8>>) -> Result<Vec<Vec<u8>>, String> {
    let (path, rest) = parse::find(root, args);
    if path.len() == 1
        && let Some(word) = parse::first_word(&path, &rest)
    {
        return Err(suggest::unknown_command(root, &String::from_utf8_lossy(word)));
    }
    match Invocation::parse(path, rest) {
        Ok(invocation) => Ok(invocation.args),
        Err((path, error)) => Err(format!("{error}{}{}", help::usage(&path), help::help(&path))),
    }
}
