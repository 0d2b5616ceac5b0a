//! `version`.

use super::UTILITY;
use crate::cli::{Command, Invocation, print};
use crate::exit::Exit;

/// The release of etcd whose contract this tool keeps.
const VERSION: &str = "3.7.1";
const API_VERSION: &str = "3.7";

pub(super) const COMMAND: Command = Command {
    usage: "version",
    short: "Prints the version of etcdctl",
    group: UTILITY,
    run: Some(run),
    ..Command::EMPTY
};

fn run(_: &Invocation) -> Result<(), Exit> {
    print(format!("etcdctl version: {VERSION}\nAPI version: {API_VERSION}\n").as_bytes())
}
