//! `move-leader`.

use super::MAINTENANCE;
use crate::cli::{Command, Invocation};
use crate::connect::Session;
use crate::exit::Exit;
use crate::go;
use crate::printer::Answer;

pub(super) const COMMAND: Command = Command {
    usage: "move-leader <transferee-member-id>",
    short: "Transfers leadership to another etcd cluster member.",
    group: MAINTENANCE,
    run: Some(run),
    ..Command::EMPTY
};

fn run(invocation: &Invocation) -> Result<(), Exit> {
    if invocation.args.len() != 1 {
        return Err(Exit::bad_args("move-leader command needs 1 argument"));
    }
    let target = go::parse_uint(&invocation.arg(0), 16).map_err(Exit::bad_args)?;
    let session = Session::open(invocation)?;
    // Only the leader hands its place on: find it among the endpoints.
    for endpoint in session.client.endpoints() {
        let client = session.client_of(endpoint)?;
        let status = session.block_on(client.status())?;
        if status.header.is_some_and(|h| h.member_id == status.leader) {
            let response = session.block_on(client.move_leader(target))?;
            return session.show(&Answer::MoveLeader { from: status.leader, to: target, response: &response });
        }
    }
    let all = session.client.endpoints().join(" ");
    Err(Exit::bad_args(format!("no leader endpoint given at [{all}]")))
}
