//! `options`.

use super::UTILITY;
use crate::cli::{Command, Invocation, options, print};
use crate::exit::Exit;

pub(super) const COMMAND: Command = Command {
    usage: "options",
    short: "Show the global command-line flags",
    group: UTILITY,
    run: Some(run),
    ..Command::EMPTY
};

fn run(invocation: &Invocation) -> Result<(), Exit> {
    print(options(invocation.path[0]).as_bytes())
}
