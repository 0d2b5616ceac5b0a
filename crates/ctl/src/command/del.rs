//! `del`.

use super::KEY_VALUE;
use crate::cli::{Command, Flag, Invocation};
use crate::connect::Session;
use crate::exit::Exit;
use crate::go;
use crate::printer::Answer;
use cetera_client::Delete;
use std::time::Duration;

/// Time to think before a range is deleted without `--range`.
const SECOND_THOUGHTS: Duration = Duration::from_secs(2);

pub(super) const COMMAND: Command = Command {
    usage: "del [options] <key> [range_end]",
    short: "Removes the specified key or range of keys [key, range_end)",
    group: KEY_VALUE,
    flags: &[
        Flag::bool("prefix", "delete keys with matching prefix"),
        Flag::bool("prev-kv", "return deleted key-value pairs"),
        Flag::bool("from-key", "delete keys that are greater than or equal to the given key using byte compare"),
        Flag::bool("range", "delete range of keys"),
    ],
    run: Some(run),
    ..Command::EMPTY
};

fn run(invocation: &Invocation) -> Result<(), Exit> {
    let delete = request(invocation)?;
    let session = Session::open(invocation)?;
    let response = session.block_on(session.client.delete(delete))?;
    session.show(&Answer::Delete(&response))
}

/// What the flags and words of a `del` ask for.
pub(super) fn request(invocation: &Invocation) -> Result<Delete, Exit> {
    let (flags, args) = (&invocation.flags, &invocation.args);
    let (prefix, from_key) = (flags.bool("prefix"), flags.bool("from-key"));
    if args.is_empty() || args.len() > 2 {
        return Err(Exit::bad_args("del command needs one argument as key and an optional argument as range_end"));
    }
    if prefix && from_key {
        return Err(Exit::bad_args("`--prefix` and `--from-key` cannot be set at the same time, choose one"));
    }
    let mut delete = Delete::new(args[0].clone());
    if let Some(end) = args.get(1) {
        if prefix || from_key {
            let text = "too many arguments, only accept one argument when `--prefix` or `--from-key` is set";
            return Err(Exit::bad_args(text));
        }
        delete = delete.range(end.clone());
        if !flags.bool("range") {
            let (from, to) = (go::quote(&args[0]), go::quote(end));
            eprintln!(
                "Warning: Keys between {from} and {to} will be deleted. Please interrupt the command within next \
                 2 seconds to cancel. You can provide `--range` flag to avoid the delay."
            );
            std::thread::sleep(SECOND_THOUGHTS);
        }
    }
    if prefix {
        delete = delete.prefix();
    }
    if from_key {
        delete = delete.from_key();
    }
    delete.0.prev_kv = flags.bool("prev-kv");
    Ok(delete)
}
