//! `make-mirror`: copies keys into another cluster, then every change as it comes.
//!
//! The copy of the keys is that of one revision, and the changes begin behind it. What one revision changed is one
//! transaction at the destination, or several if it is too large for one there.

use super::UTILITY;
use crate::cli::{Command, Flag, Invocation, Values, print};
use crate::connect::Session;
use crate::exit::Exit;
use cetera_client::{Client, Delete, Get, Op, Put, Txn, Watch, watch_error};
use cetera_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use cetera_proto::mvccpb::Event;
use cetera_proto::mvccpb::event::EventType;
use std::cell::Cell;
use std::time::Duration;

pub(super) const COMMAND: Command = Command {
    usage: "make-mirror [options] <destination>",
    short: "Makes a mirror at the destination etcd cluster",
    group: UTILITY,
    flags: &[
        Flag::text("prefix", "", "Key-value prefix to mirror"),
        Flag::int("rev", "0", "Specify the kv revision to start to mirror"),
        Flag::int(
            "max-txn-ops",
            "128",
            "Maximum number of operations permitted in a transaction during syncing updates.",
        ),
        Flag::text(
            "dest-prefix",
            "",
            "destination prefix to mirror a prefix to a different prefix in the destination cluster",
        ),
        Flag::bool("no-dest-prefix", "mirror key-values to the root of the destination cluster"),
        Flag::text(
            "dest-cert",
            "",
            "Identify secure client using this TLS certificate file for the destination cluster",
        ),
        Flag::text("dest-key", "", "Identify secure client using this TLS key file"),
        Flag::text("dest-cacert", "", "Verify certificates of TLS enabled secure servers using this CA bundle"),
        Flag::bool("dest-insecure-transport", "Disable transport security for client connections").default("true"),
        Flag::text(
            "dest-user",
            "",
            "Destination username[:password] for authentication (prompt if password is not supplied)",
        ),
        Flag::text(
            "dest-password",
            "",
            "Destination password for authentication (if this option is used, --user option shouldn't include password)",
        ),
    ],
    run: Some(run),
    ..Command::EMPTY
};

/// Keys of one page of the copy.
const PAGE: i64 = 1_000;
/// Between two words on how many keys were mirrored.
const TELL_EVERY: Duration = Duration::from_secs(30);

fn run(invocation: &Invocation) -> Result<(), Exit> {
    let [destination] = &invocation.args[..] else {
        return Err(Exit::bad_args("make-mirror takes one destination argument"));
    };
    let flags = &invocation.flags;
    for name in ["dest-cert", "dest-key", "dest-cacert"] {
        if !flags.text(name).is_empty() {
            return Err(Exit::error(format!("--{name}: TLS is not supported by this client yet")));
        }
    }
    let user = user(flags)?;
    let session = Session::open(invocation)?;
    let destination = session.client_for(&String::from_utf8_lossy(destination), user)?.with_timeout(None);
    let mirror = Mirror::new(session.unhurried(), destination, flags)?;
    session.block_on(async {
        tokio::select! {
            ended = mirror.run() => ended,
            told = mirror.tell() => told,
        }
    })
}

fn user(flags: &Values) -> Result<Option<(String, String)>, Exit> {
    let (user, password) = (flags.text("dest-user"), flags.text("dest-password"));
    if user.is_empty() {
        return Ok(None);
    }
    let (name, password) = match (password, user.split_once(':')) {
        ("", Some((name, password))) => (name, password.to_string()),
        ("", None) => (user, super::prompt::password("Destination Password: ")?),
        (password, _) => (user, password.to_string()),
    };
    Ok(Some((name.to_string(), password)))
}

struct Mirror {
    source: Client,
    destination: Client,
    prefix: Vec<u8>,
    /// What stands for the prefix at the destination.
    new_prefix: Vec<u8>,
    /// The copy is left out, and changes begin at this revision.
    first_revision: Option<i64>,
    ops_max: usize,
    total: Cell<i64>,
}

impl Mirror {
    fn new(source: Client, destination: Client, flags: &Values) -> Result<Mirror, Exit> {
        let (prefix, new_prefix) = (flags.text("prefix"), flags.text("dest-prefix"));
        let none = flags.bool("no-dest-prefix");
        if none && !new_prefix.is_empty() {
            let text = "`--dest-prefix` and `--no-dest-prefix` cannot be set at the same time, choose one";
            return Err(Exit::bad_args(text));
        }
        let first_revision = Some(flags.int("rev")).filter(|revision| *revision > 1);
        // As in etcdctl, which thinks of the source's prefix only when it copies.
        let same = !none && new_prefix.is_empty() && first_revision.is_none();
        Ok(Mirror {
            source,
            destination,
            prefix: prefix.into(),
            new_prefix: if same { prefix } else { new_prefix }.into(),
            first_revision,
            ops_max: usize::try_from(flags.int("max-txn-ops")).unwrap_or(0).max(1),
            total: Cell::new(0),
        })
    }

    /// Says now and then how many keys were mirrored.
    async fn tell(&self) -> Result<(), Exit> {
        loop {
            tokio::time::sleep(TELL_EVERY).await;
            print(format!("{}\n", self.total.get()).as_bytes())?;
        }
    }

    /// Mirrors until the source ends it.
    async fn run(&self) -> Result<(), Exit> {
        let from = match self.first_revision {
            Some(revision) => revision,
            None => self.copy().await? + 1,
        };
        let mut watcher = self.source.watch(Watch::new(self.prefix.clone()).prefix().revision(from));
        while let Some(response) = watcher.next().await? {
            if let Some(reason) = watch_error(&response) {
                return Err(Exit::error(reason));
            }
            for ops in self.transactions(&response.events) {
                let count = ops.len() as i64;
                self.destination.txn(Txn::new().and_then(ops)).await?;
                self.total.set(self.total.get() + count);
            }
        }
        Err(Exit::error("the source ended the watch"))
    }

    /// Copies all keys as of one revision, which it returns.
    async fn copy(&self) -> Result<i64, Exit> {
        // Any key tells the present revision.
        let asked = if self.prefix.is_empty() { b"foo".to_vec() } else { self.prefix.clone() };
        let revision = self.source.get(Get::new(asked)).await?.header.map_or(0, |header| header.revision);
        let all = Get::new(self.prefix.clone()).prefix().sort(SortTarget::Key, SortOrder::Ascend);
        let mut page = all.limit(PAGE).revision(revision);
        loop {
            let response = self.source.get(page.clone()).await?;
            let last = response.kvs.last().map(|kv| kv.key.clone());
            for kv in response.kvs {
                self.destination.put(Put::new(self.renamed(&kv.key), kv.value)).await?;
                self.total.set(self.total.get() + 1);
            }
            match last {
                Some(last) if response.more => page.0.key = [&last[..], b"\0"].concat().into(),
                _ => return Ok(revision),
            }
        }
    }

    /// The changes by revision, each as one transaction or, if it is too large, several.
    fn transactions(&self, events: &[Event]) -> Vec<Vec<Op>> {
        let revision = |event: &Event| event.kv.as_ref().map_or(0, |kv| kv.mod_revision);
        let by_revision = events.chunk_by(|a, b| revision(a) == revision(b));
        let pieces = by_revision.flat_map(|events| events.chunks(self.ops_max));
        pieces.map(|events| events.iter().map(|event| self.op(event)).collect()).collect()
    }

    fn op(&self, event: &Event) -> Op {
        let kv = event.kv.clone().unwrap_or_default();
        let key = self.renamed(&kv.key);
        if event.r#type == EventType::Delete as i32 { Delete::new(key).into() } else { Put::new(key, kv.value).into() }
    }

    fn renamed(&self, key: &[u8]) -> Vec<u8> {
        let rest = key.strip_prefix(&self.prefix[..]).unwrap_or(key);
        [&self.new_prefix[..], rest].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cetera_proto::mvccpb::KeyValue;

    fn mirror(args: &[&str]) -> Result<Mirror, Exit> {
        let args = args.iter().map(|arg| arg.as_bytes().to_vec()).collect();
        let call = crate::cli::parse_line(&MAKE_MIRROR, args).map_err(Exit::bad_args)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let _inside = runtime.enter();
        let client = || Client::new(cetera_client::Config::new(["127.0.0.1:1"])).expect("a client");
        Mirror::new(client(), client(), &call.flags)
    }

    static MAKE_MIRROR: Command = COMMAND;

    #[test]
    fn keys_get_their_new_prefix() {
        for (args, key, renamed) in [
            (&["d"][..], "a/b", "a/b"),
            (&["--prefix=a/", "d"], "a/b", "a/b"),
            (&["--prefix=a/", "--dest-prefix=c/", "d"], "a/a/b", "c/a/b"),
            (&["--dest-prefix=c/", "d"], "a", "c/a"),
            (&["--prefix=a/", "--no-dest-prefix", "d"], "a/b", "b"),
            (&["--prefix=a/", "--rev=5", "d"], "a/b", "b"),
        ] {
            assert_eq!(mirror(args).expect("good flags").renamed(key.as_bytes()), renamed.as_bytes(), "{args:?}");
        }
        let both = mirror(&["--dest-prefix=c", "--no-dest-prefix", "d"]).err().expect("refused");
        assert_eq!(both.code, crate::exit::BAD_ARGS);
    }

    #[test]
    fn one_revision_is_one_transaction_if_it_fits() {
        let event = |key: &str, mod_revision, r#type: EventType| Event {
            r#type: r#type as i32,
            kv: Some(KeyValue { key: key.to_owned().into(), mod_revision, ..Default::default() }),
            prev_kv: None,
        };
        let events = [
            event("a", 2, EventType::Put),
            event("b", 2, EventType::Delete),
            event("c", 2, EventType::Put),
            event("a", 3, EventType::Put),
        ];
        let lengths = |mirror: Mirror| mirror.transactions(&events).iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(lengths(mirror(&["d"]).expect("good")), [3, 1]);
        assert_eq!(lengths(mirror(&["--max-txn-ops=2", "d"]).expect("good")), [2, 1, 1]);
        let ops = mirror(&["d"]).expect("good").transactions(&events);
        assert!(matches!(ops[0][1], Op::Delete(_)) && matches!(ops[0][2], Op::Put(_)));
    }
}
