//! `member add`, `remove`, `update`, `list`, `promote`.

use super::MAINTENANCE;
use super::get::is_serializable;
use crate::cli::{Command, Flag, Invocation, print};
use crate::connect::Session;
use crate::exit::Exit;
use crate::go;
use crate::printer::Answer;

pub(super) const COMMAND: Command = Command {
    usage: "member <subcommand>",
    short: "Membership related commands. Use `etcdctl member --help` to see subcommands",
    long: "Membership related commands",
    group: MAINTENANCE,
    children: &[
        Command {
            usage: "add <memberName> [options]",
            short: "Adds a member into the cluster",
            flags: &[
                Flag::text("peer-urls", "", "comma separated peer URLs for the new member."),
                Flag::bool("learner", "indicates if the new member is raft learner"),
            ],
            run: Some(add),
            ..Command::EMPTY
        },
        Command {
            usage: "remove <memberID>",
            short: "Removes a member from the cluster",
            run: Some(remove),
            ..Command::EMPTY
        },
        Command {
            usage: "update <memberID> [options]",
            short: "Updates a member in the cluster",
            flags: &[Flag::text("peer-urls", "", "comma separated peer URLs for the updated member.")],
            run: Some(update),
            ..Command::EMPTY
        },
        Command {
            usage: "list",
            short: "Lists all members in the cluster",
            long: "When --write-out is set to simple, this command prints out comma-separated member lists for each endpoint.
The items in the lists are ID, Status, Name, Peer Addrs, Client Addrs, Is Learner.
",
            flags: &[Flag::text("consistency", "l", "Linearizable(l) or Serializable(s)")],
            run: Some(list),
            ..Command::EMPTY
        },
        Command {
            usage: "promote <memberID>",
            short: "Promotes a non-voting member in the cluster",
            long: "Promotes a non-voting learner member to a voting one in the cluster.
",
            run: Some(promote),
            ..Command::EMPTY
        },
    ],
    ..Command::EMPTY
};

fn add(invocation: &Invocation) -> Result<(), Exit> {
    let name = match invocation.args.len() {
        0 => return Err(Exit::bad_args("member name not provided")),
        1 => invocation.arg(0),
        count => {
            let words = (0..count).map(|i| invocation.arg(i));
            let urls = words.filter(|w| w.to_lowercase().starts_with("http"));
            let hints: String = urls.map(|u| format!(", did you mean --peer-urls={u}")).collect();
            return Err(Exit::bad_args(format!("too many arguments{hints}")));
        }
    };
    let peer_urls = peer_urls(invocation)?;
    let session = Session::open(invocation)?;
    let call = session.client.member_add(peer_urls, invocation.flags.bool("learner"));
    let response = session.block_on(call)?;
    session.show(&Answer::MemberAdd(&response))?;
    if !session.format.is_simple() {
        return Ok(());
    }
    let id = response.member.as_ref().map_or(0, |m| m.id);
    let cluster: Vec<String> = response
        .members
        .iter()
        .flat_map(|m| m.peer_urls.iter().map(|u| format!("{}={u}", if m.id == id { &name } else { &m.name })))
        .collect();
    let quoted = |text: &str| go::quote(text.as_bytes());
    let settings = format!(
        "\nETCD_NAME={}\nETCD_INITIAL_CLUSTER={}\nETCD_INITIAL_ADVERTISE_PEER_URLS={}\nETCD_INITIAL_CLUSTER_STATE=\"existing\"\n",
        quoted(&name),
        quoted(&cluster.join(",")),
        quoted(invocation.flags.text("peer-urls")),
    );
    print(settings.as_bytes())
}

fn remove(invocation: &Invocation) -> Result<(), Exit> {
    let id = member_id(invocation)?;
    let session = Session::open(invocation)?;
    let response = session.block_on(session.client.member_remove(id))?;
    session.show(&Answer::MemberRemove(id, &response))
}

fn update(invocation: &Invocation) -> Result<(), Exit> {
    let id = member_id(invocation)?;
    let peer_urls = peer_urls(invocation)?;
    let session = Session::open(invocation)?;
    let response = session.block_on(session.client.member_update(id, peer_urls))?;
    session.show(&Answer::MemberUpdate(id, &response))
}

fn list(invocation: &Invocation) -> Result<(), Exit> {
    let serializable = is_serializable(invocation.flags.text("consistency"))?;
    let session = Session::open(invocation)?;
    let response = session.block_on(session.client.member_list(!serializable))?;
    session.show(&Answer::MemberList(&response))
}

fn promote(invocation: &Invocation) -> Result<(), Exit> {
    let id = member_id(invocation)?;
    let session = Session::open(invocation)?;
    let response = session.block_on(session.client.member_promote(id))?;
    session.show(&Answer::MemberPromote(id, &response))
}

fn member_id(invocation: &Invocation) -> Result<u64, Exit> {
    if invocation.args.len() != 1 {
        return Err(Exit::bad_args("member ID is not provided"));
    }
    go::parse_uint(&invocation.arg(0), 16)
        .map_err(|e| Exit::bad_args(format!("bad member ID arg ({e}), expecting ID in Hex")))
}

fn peer_urls(invocation: &Invocation) -> Result<Vec<String>, Exit> {
    let urls = invocation.flags.text("peer-urls");
    if urls.is_empty() {
        return Err(Exit::bad_args("member peer urls not provided"));
    }
    Ok(urls.split(',').map(str::to_string).collect())
}
