//! `elect`: leads an election until it is told to stop, or watches who leads.

use super::CONCURRENCY;
use super::signal::Stop;
use crate::cli::{Command, Flag, Invocation};
use crate::connect::{Session, show};
use crate::exit::Exit;
use crate::printer::{Answer, Format};
use cetera_client::concurrency::{self, Election};
use cetera_client::{Client, Get};

pub(super) const COMMAND: Command = Command {
    usage: "elect <election-name> [proposal]",
    short: "Observes and participates in leader election",
    group: CONCURRENCY,
    flags: &[Flag::bool("listen", "observation mode").letter('l')],
    run: Some(run),
    ..Command::EMPTY
};

fn run(invocation: &Invocation) -> Result<(), Exit> {
    let args = &invocation.args;
    if args.is_empty() || args.len() > 2 {
        let text = "elect takes one election name argument and an optional proposal argument";
        return Err(Exit::bad_args(text));
    }
    let listen = invocation.flags.bool("listen");
    // Flags are read before a client is made, as etcdctl connects only then.
    let session = Session::open(invocation)?;
    let client = session.unhurried();
    match args.get(1) {
        None if !listen => Err(Exit::bad_args("no proposal argument but -l not set")),
        None => session.block_on(observe(client, session.format, &args[0])),
        Some(_) if listen => Err(Exit::bad_args("proposal given but -l is set")),
        Some(proposal) => session.block_on(campaign(client, session.format, &args[0], proposal)),
    }
}

async fn observe(client: Client, format: Format, name: &[u8]) -> Result<(), Exit> {
    let mut stop = Stop::new()?;
    let lease = concurrency::Session::new(&client, concurrency::Session::DEFAULT_TTL).await?;
    let mut leaders = Election::new(&lease, name).observe();
    loop {
        tokio::select! {
            () = stop.wait() => return Ok(()),
            leader = leaders.next() => match leader {
                Ok(leader) => show(format, &Answer::Get(&leader))?,
                Err(_) => return Err(Exit::error("elect: observer lost")),
            }
        }
    }
}

async fn campaign(client: Client, format: Format, name: &[u8], proposal: &[u8]) -> Result<(), Exit> {
    let mut stop = Stop::new()?;
    let lease = concurrency::Session::new(&client, concurrency::Session::DEFAULT_TTL).await?;
    let mut election = Election::new(&lease, name);
    tokio::select! {
        elected = election.campaign(proposal.to_vec()) => elected?,
        () = stop.wait() => {
            // The user is leaving; the lease ends what this does not.
            let _ = election.resign().await;
            return Err(Exit::error("context canceled"));
        }
    }
    let leading = client.get(Get::new(election.key())).await?;
    show(format, &Answer::Get(&leading))?;
    tokio::select! {
        () = stop.wait() => Ok(election.resign().await?),
        () = lease.done() => Err(Exit::error("elect: session expired")),
    }
}
