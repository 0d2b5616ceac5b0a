//! `help`.

use super::UTILITY;
use crate::cli::{Command, run_help};

pub(super) const COMMAND: Command = Command {
    usage: "help [command]",
    short: "Help about any command",
    long: "Help provides help for any command in the application.\nSimply type etcdctl help [path to command] for full details.",
    group: UTILITY,
    run: Some(run_help),
    ..Command::EMPTY
};
