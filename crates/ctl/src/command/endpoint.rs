//! `endpoint health`, `endpoint status`, `endpoint hashkv`.

use super::MAINTENANCE;
use crate::cli::{Command, Flag, Invocation};
use crate::connect::Session;
use crate::exit::{ERROR, Exit};
use crate::go::format_duration;
use crate::printer::{Answer, Health};
use cetera_client::{Client, Code, Get};
use cetera_proto::etcdserverpb::AlarmType;
use std::time::Instant;

pub(super) const COMMAND: Command = Command {
    usage: "endpoint <subcommand>",
    short: "Endpoint related commands. Use `etcdctl endpoint --help` to see subcommands",
    long: "Endpoint related commands",
    group: MAINTENANCE,
    persistent: &[Flag::bool("cluster", "use all endpoints from the cluster member list")],
    children: &[
        Command {
            usage: "health",
            short: "Checks the healthiness of endpoints specified in `--endpoints` flag",
            run: Some(health),
            ..Command::EMPTY
        },
        Command {
            usage: "status",
            short: "Prints out the status of endpoints specified in `--endpoints` flag",
            long: "When --write-out is set to simple, this command prints out comma-separated status lists for each endpoint.
The items in the lists are endpoint, ID, version, db size, is leader, is learner, raft term, raft index, raft applied index, errors.
",
            run: Some(status),
            ..Command::EMPTY
        },
        Command {
            usage: "hashkv",
            short: "Prints the KV history hash for each endpoint in --endpoints",
            persistent: &[Flag::int("rev", "0", "maximum revision to hash (default: latest revision)")],
            run: Some(hash_kv),
            ..Command::EMPTY
        },
    ],
    ..Command::EMPTY
};

fn health(invocation: &Invocation) -> Result<(), Exit> {
    let session = Session::open(invocation)?;
    let mut checks = Vec::new();
    for endpoint in session.endpoints(invocation)? {
        checks.push((session.client_of(&endpoint)?, endpoint));
    }
    // All at once: a dead one takes the whole timeout.
    let list = session.block_on(async {
        let mut tasks = tokio::task::JoinSet::new();
        for (client, endpoint) in checks {
            tasks.spawn(check(client, endpoint));
        }
        tasks.join_all().await
    });
    session.show(&Answer::Health(&list))?;
    if list.iter().any(|h| !h.error.is_empty()) {
        return Err(Exit::error("unhealthy cluster"));
    }
    Ok(())
}

/// Healthy means that a linearizable read is answered and no alarm is on.
async fn check(client: Client, endpoint: String) -> Health {
    let start = Instant::now();
    let read = client.get(Get::new("health")).await;
    let took = format_duration(start.elapsed());
    let error = match read {
        // The read went through consensus to be refused.
        Err(e) if e.code() != Code::PermissionDenied => e.to_string(),
        _ => alarms(&client).await,
    };
    Health { endpoint, healthy: error.is_empty(), took, error }
}

/// What is wrong by the alarms: nothing if none is on.
async fn alarms(client: &Client) -> String {
    let Ok(response) = client.alarm_list().await else { return "Unable to fetch the alarm list".to_string() };
    if response.alarms.is_empty() {
        return String::new();
    }
    let name = |alarm: i32| match AlarmType::try_from(alarm) {
        Ok(AlarmType::Nospace) => "NOSPACE ",
        Ok(AlarmType::Corrupt) => "CORRUPT ",
        _ => "UNKNOWN ",
    };
    response.alarms.iter().fold("Active Alarm(s): ".to_string(), |text, a| text + name(a.alarm))
}

fn status(invocation: &Invocation) -> Result<(), Exit> {
    let session = Session::open(invocation)?;
    let mut list = Vec::new();
    let mut failed = false;
    for endpoint in session.endpoints(invocation)? {
        let client = session.client_of(&endpoint)?;
        match session.block_on(client.status()) {
            Ok(response) => list.push((endpoint, response)),
            Err(e) => {
                eprintln!("Failed to get the status of endpoint {endpoint} ({e})");
                failed = true;
            }
        }
    }
    session.show(&Answer::Status(&list))?;
    if failed { Err(Exit::silent(ERROR)) } else { Ok(()) }
}

fn hash_kv(invocation: &Invocation) -> Result<(), Exit> {
    let session = Session::open(invocation)?;
    let mut list = Vec::new();
    let mut failed = None;
    for endpoint in session.endpoints(invocation)? {
        let client = session.client_of(&endpoint)?;
        match session.block_on(client.hash_kv(invocation.flags.int("rev"))) {
            Ok(response) => list.push((endpoint, response)),
            Err(e) => {
                eprintln!("Failed to get the hash of endpoint {endpoint} ({e})");
                failed = Some(e);
            }
        }
    }
    session.show(&Answer::HashKv(&list))?;
    failed.map_or(Ok(()), |e| Err(e.into()))
}
