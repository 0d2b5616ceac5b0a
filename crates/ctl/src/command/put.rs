//! `put`.

use super::KEY_VALUE;
use crate::cli::{Command, Flag, Invocation};
use crate::connect::Session;
use crate::exit::Exit;
use crate::go;
use crate::printer::Answer;
use cetera_client::Put;
use std::io::Read;

pub(super) const COMMAND: Command = Command {
    usage: "put [options] <key> <value> (<value> can also be given from stdin)",
    short: "Puts the given key into the store",
    long: "
Puts the given key into the store.

When <value> begins with '-', <value> is interpreted as a flag.
Insert '--' for workaround:

$ put <key> -- <value>
$ put -- <key> <value>

If <value> isn't given as a command line argument and '--ignore-value' is not specified,
this command tries to read the value from standard input.

If <lease> isn't given as a command line argument and '--ignore-lease' is not specified,
this command tries to read the value from standard input.

For example,
$ cat file | put <key>
will store the content of the file to <key>.
",
    group: KEY_VALUE,
    flags: &[
        Flag::text("lease", "0", "lease ID (in hexadecimal) to attach to the key"),
        Flag::bool("prev-kv", "return the previous key-value pair before modification"),
        Flag::bool("ignore-value", "updates the key using its current value"),
        Flag::bool("ignore-lease", "updates the key using its current lease"),
    ],
    run: Some(run),
    ..Command::EMPTY
};

const NEEDS: &str = "put command needs 1 argument and input from stdin or 2 arguments";

fn run(invocation: &Invocation) -> Result<(), Exit> {
    let put = request(invocation)?;
    let session = Session::open(invocation)?;
    let response = session.block_on(session.client.put(put))?;
    session.show(&Answer::Put(&response))
}

/// What the flags and words of a `put` ask for.
pub(super) fn request(invocation: &Invocation) -> Result<Put, Exit> {
    let (flags, args) = (&invocation.flags, &invocation.args);
    let ignore_value = flags.bool("ignore-value");
    let key = args.first().ok_or_else(|| Exit::bad_args(NEEDS))?;
    if ignore_value && args.len() > 1 {
        return Err(Exit::bad_args("put command needs only 1 argument when 'ignore-value' is set"));
    }
    let value = match args.get(1) {
        _ if ignore_value => Vec::new(),
        Some(value) => value.clone(),
        None => from_stdin()?,
    };
    let lease = go::parse_int(flags.text("lease"), 16)
        .map_err(|e| Exit::bad_args(format!("bad lease ID ({e}), expecting ID in Hex")))?;
    let mut put = Put::new(key.clone(), value).lease(lease);
    put.0.prev_kv = flags.bool("prev-kv");
    put.0.ignore_value = ignore_value;
    put.0.ignore_lease = flags.bool("ignore-lease");
    Ok(put)
}

fn from_stdin() -> Result<Vec<u8>, Exit> {
    let mut value = Vec::new();
    let read = std::io::stdin().lock().read_to_end(&mut value);
    if read.is_err() || value.is_empty() {
        return Err(Exit::bad_args(NEEDS));
    }
    Ok(value)
}
