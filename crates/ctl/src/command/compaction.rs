//! `compaction`.

use super::KEY_VALUE;
use crate::cli::{Command, Flag, Invocation, print};
use crate::connect::Session;
use crate::exit::Exit;
use crate::go;

pub(super) const COMMAND: Command = Command {
    usage: "compaction [options] <revision>",
    short: "Compacts the event history in etcd",
    group: KEY_VALUE,
    flags: &[Flag::bool("physical", "'true' to wait for compaction to physically remove all old revisions")],
    run: Some(run),
    ..Command::EMPTY
};

fn run(invocation: &Invocation) -> Result<(), Exit> {
    if invocation.args.len() != 1 {
        return Err(Exit::bad_args("compaction command needs 1 argument"));
    }
    let revision = go::parse_int(&invocation.arg(0), 10).map_err(Exit::error)?;
    let session = Session::open(invocation)?;
    session.block_on(session.client.compact(revision, invocation.flags.bool("physical")))?;
    print(format!("compacted revision {revision}\n").as_bytes())
}
