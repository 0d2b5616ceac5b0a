//! `defrag`.

use super::MAINTENANCE;
use crate::cli::{Command, Flag, Invocation, print};
use crate::connect::Session;
use crate::exit::{ERROR, Exit};
use crate::go::format_duration;
use std::time::Instant;

pub(super) const COMMAND: Command = Command {
    usage: "defrag",
    short: "Defragments the storage of the etcd members with given endpoints",
    group: MAINTENANCE,
    persistent: &[Flag::bool("cluster", "use all endpoints from the cluster member list")],
    run: Some(run),
    ..Command::EMPTY
};

fn run(invocation: &Invocation) -> Result<(), Exit> {
    let session = Session::open(invocation)?;
    let mut failed = false;
    for endpoint in session.endpoints(invocation)? {
        let client = session.client_of(&endpoint)?;
        let start = Instant::now();
        let result = session.block_on(client.defragment());
        let took = format_duration(start.elapsed());
        match result {
            Ok(_) => print(format!("Finished defragmenting etcd member[{endpoint}]. took {took}\n").as_bytes())?,
            Err(e) => {
                eprintln!("Failed to defragment etcd member[{endpoint}]. took {took}. ({e})");
                failed = true;
            }
        }
    }
    if failed { Err(Exit::silent(ERROR)) } else { Ok(()) }
}
