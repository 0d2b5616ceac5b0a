//! `alarm list`, `alarm disarm`.

use super::MAINTENANCE;
use crate::cli::{Command, Invocation};
use crate::connect::Session;
use crate::exit::Exit;
use crate::printer::Answer;
use cetera_proto::etcdserverpb::AlarmMember;

pub(super) const COMMAND: Command = Command {
    usage: "alarm <subcommand>",
    short: "Alarm related commands. Use `etcdctl alarm --help` to see subcommands",
    long: "Alarm related commands",
    group: MAINTENANCE,
    children: &[
        Command { usage: "disarm", short: "Disarms all alarms", run: Some(disarm), ..Command::EMPTY },
        Command { usage: "list", short: "Lists all alarms", run: Some(list), ..Command::EMPTY },
    ],
    ..Command::EMPTY
};

fn disarm(invocation: &Invocation) -> Result<(), Exit> {
    if !invocation.args.is_empty() {
        return Err(Exit::bad_args("alarm disarm command accepts no arguments"));
    }
    let session = Session::open(invocation)?;
    let response = session.block_on(session.client.alarm_disarm(AlarmMember::default()))?;
    session.show(&Answer::Alarm(&response))
}

fn list(invocation: &Invocation) -> Result<(), Exit> {
    if !invocation.args.is_empty() {
        return Err(Exit::bad_args("alarm list command accepts no arguments"));
    }
    let session = Session::open(invocation)?;
    let response = session.block_on(session.client.alarm_list())?;
    session.show(&Answer::Alarm(&response))
}
