//! `txn`: a transaction typed in, line by line.

mod compare;

use super::{KEY_VALUE, del, get, put};
use crate::cli::{Command, Flag, Invocation, parse_line, print};
use crate::connect::Session;
use crate::exit::{Exit, INVALID_INPUT};
use crate::go::argify;
use crate::printer::Answer;
use cetera_client::{Op, Txn};
use std::io::BufRead;

pub(super) const COMMAND: Command = Command {
    usage: "txn [options]",
    short: "Txn processes all the requests in one transaction",
    long: "Txn reads multiple etcd requests from standard input and applies them as a single atomic transaction.

A transaction consists of three components:
1) a list of conditions,
2) a list of requests to apply if all the conditions are true,
3) a list of requests to apply if any condition is false.

Example interactive stdin usage:

---
etcdctl txn -i
# compares:
mod(\"key1\") > \"0\"

# success requests (get, put, delete):
put key1 \"overwrote-key1\"

# failure requests (get, put, delete):
put key1 \"created-key1\"
put key2 \"some extra key\"
---

Refer to https://github.com/etcd-io/etcd/blob/main/etcdctl/README.md#txn-options.",
    group: KEY_VALUE,
    flags: &[Flag::bool("interactive", "Input transaction in interactive mode").letter('i')],
    run: Some(run),
    ..Command::EMPTY
};

/// What a line of a transaction may do.
static OPERATIONS: [Command; 3] = [put::COMMAND, get::COMMAND, del::COMMAND];

fn run(invocation: &Invocation) -> Result<(), Exit> {
    if !invocation.args.is_empty() {
        return Err(Exit::bad_args("txn command does not accept argument"));
    }
    let session = Session::open(invocation)?;
    let prompt = |text: &str| match invocation.flags.bool("interactive") {
        true => print(text.as_bytes()),
        false => Ok(()),
    };
    prompt("compares:\n")?;
    let compares = block()?.iter().map(|line| compare::parse(line)).collect::<Result<Vec<_>, _>>()?;
    prompt("success requests (get, put, del):\n")?;
    let success = block()?.iter().map(|line| operation(line)).collect::<Result<Vec<_>, _>>()?;
    prompt("failure requests (get, put, del):\n")?;
    let failure = block()?.iter().map(|line| operation(line)).collect::<Result<Vec<_>, _>>()?;
    let txn = Txn::new().when(compares).and_then(success).or_else(failure);
    let response = session.block_on(session.unhurried().txn(txn))?;
    session.show(&Answer::Txn(&response))
}

/// Lines up to an empty one.
fn block() -> Result<Vec<Vec<u8>>, Exit> {
    let mut stdin = std::io::stdin().lock();
    let mut lines = Vec::new();
    loop {
        let mut line = Vec::new();
        stdin.read_until(b'\n', &mut line).map_err(|e| Exit::new(INVALID_INPUT, e))?;
        if line.last() != Some(&b'\n') {
            return Err(Exit::new(INVALID_INPUT, "EOF"));
        }
        let line = line.trim_ascii();
        if line.is_empty() {
            return Ok(lines);
        }
        lines.push(line.to_vec());
    }
}

fn operation(line: &[u8]) -> Result<Op, Exit> {
    let shown = String::from_utf8_lossy(line);
    let mut args = argify(line).map_err(|e| Exit::new(INVALID_INPUT, e))?;
    if args.len() < 2 {
        return Err(Exit::new(INVALID_INPUT, format!("invalid txn compare request: {shown}")));
    }
    let name = args.remove(0);
    let invalid = || Exit::new(INVALID_INPUT, format!("invalid txn request: {shown}"));
    let command = OPERATIONS.iter().find(|c| c.name().as_bytes() == name).ok_or_else(invalid)?;
    let call = parse_line(command, args).map_err(|_| invalid())?;
    Ok(match command.name() {
        "put" => put::request(&call)?.into(),
        "get" => get::request(&call)?.into(),
        _ => del::request(&call)?.into(),
    })
}

/// A line as a condition and as an operation, for fuzz targets.
#[cfg(feature = "fuzz")]
pub(crate) fn read_line(line: &[u8]) -> (Option<cetera_client::Compare>, Option<Op>) {
    (compare::parse(line).ok(), operation(line).ok())
}
