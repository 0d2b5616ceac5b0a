//! `lease grant`, `revoke`, `timetolive`, `list`, `keep-alive`.

use super::KEY_VALUE;
use crate::cli::{Command, Flag, Invocation, print};
use crate::connect::Session;
use crate::exit::{BAD_CONNECTION, Exit};
use crate::go;
use crate::printer::Answer;
use cetera_client::Error;

pub(super) const COMMAND: Command = Command {
    usage: "lease <subcommand>",
    short: "Lease related commands. Use `etcdctl lease --help` to see subcommands",
    long: "Lease related commands",
    group: KEY_VALUE,
    children: &[
        Command { usage: "grant <ttl>", short: "Creates leases", run: Some(grant), ..Command::EMPTY },
        Command { usage: "revoke <leaseID>", short: "Revokes leases", run: Some(revoke), ..Command::EMPTY },
        Command {
            usage: "timetolive <leaseID> [options]",
            short: "Get lease information",
            flags: &[Flag::bool("keys", "Get keys attached to this lease")],
            run: Some(time_to_live),
            ..Command::EMPTY
        },
        Command { usage: "list", short: "List all active leases", run: Some(list), ..Command::EMPTY },
        Command {
            usage: "keep-alive [options] <leaseID>",
            short: "Keeps leases alive (renew)",
            flags: &[Flag::bool(
                "once",
                "Resets the keep-alive time to its original value and cobrautl.Exits immediately",
            )],
            run: Some(keep_alive),
            ..Command::EMPTY
        },
    ],
    ..Command::EMPTY
};

fn grant(invocation: &Invocation) -> Result<(), Exit> {
    if invocation.args.len() != 1 {
        return Err(Exit::bad_args("lease grant command needs TTL argument"));
    }
    let ttl = go::parse_int(&invocation.arg(0), 10).map_err(|e| Exit::bad_args(format!("bad TTL ({e})")))?;
    let session = Session::open(invocation)?;
    let response = session
        .block_on(session.client.lease_grant(ttl, 0))
        .map_err(|e| Exit::error(format!("failed to grant lease ({e})")))?;
    session.show(&Answer::Grant(&response))
}

fn revoke(invocation: &Invocation) -> Result<(), Exit> {
    let id = lease_id(invocation, "lease revoke command needs 1 argument")?;
    let session = Session::open(invocation)?;
    let response = session
        .block_on(session.client.lease_revoke(id))
        .map_err(|e| Exit::error(format!("failed to revoke lease ({e})")))?;
    session.show(&Answer::Revoke(id, &response))
}

fn time_to_live(invocation: &Invocation) -> Result<(), Exit> {
    let id = lease_id(invocation, "lease timetolive command needs lease ID as argument")?;
    let keys = invocation.flags.bool("keys");
    let session = Session::open(invocation)?;
    let response = session.block_on(session.unhurried().lease_time_to_live(id, keys)).map_err(bad_connection)?;
    session.show(&Answer::TimeToLive(&response, keys))
}

fn list(invocation: &Invocation) -> Result<(), Exit> {
    let session = Session::open(invocation)?;
    let response = session.block_on(session.unhurried().lease_leases()).map_err(bad_connection)?;
    session.show(&Answer::Leases(&response))
}

fn keep_alive(invocation: &Invocation) -> Result<(), Exit> {
    let id = lease_id(invocation, "lease keep-alive command needs lease ID as argument")?;
    let session = Session::open(invocation)?;
    if invocation.flags.bool("once") {
        let response = session.block_on(session.client.lease_keep_alive_once(id)).map_err(bad_connection)?;
        return session.show(&Answer::KeepAlive(&response));
    }
    let mut renewals = session.client.lease_keep_alive(id);
    while let Some(response) = session.block_on(renewals.next()).map_err(bad_connection)? {
        session.show(&Answer::KeepAlive(&response))?;
    }
    if session.format.is_simple() {
        print(format!("lease {id:016x} expired or revoked.\n").as_bytes())?;
    }
    Ok(())
}

fn lease_id(invocation: &Invocation, needs: &str) -> Result<i64, Exit> {
    if invocation.args.len() != 1 {
        return Err(Exit::bad_args(needs));
    }
    go::parse_int(&invocation.arg(0), 16)
        .map_err(|e| Exit::bad_args(format!("bad lease ID arg ({e}), expecting ID in Hex")))
}

fn bad_connection(error: Error) -> Exit {
    Exit::new(BAD_CONNECTION, error)
}
