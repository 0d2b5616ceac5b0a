//! `watch`: events as they come, by line or typed in.

mod words;

use super::KEY_VALUE;
use super::lock::{cannot_run, exit_text};
use crate::cli::{Command, Flag, Invocation, Values, parse_line, print};
use crate::connect::{Session, show};
use crate::exit::{ERROR, Exit, INTERRUPTED, INVALID_INPUT};
use crate::go::{argify, quote};
use crate::printer::{Answer, Format};
use cetera_client::{Client, Watch, WatchHandle, Watcher, watch_error};
use cetera_proto::etcdserverpb::WatchResponse;
use cetera_proto::mvccpb::Event;
use cetera_proto::mvccpb::event::EventType;
use std::ffi::OsStr;
use std::io::BufRead;
use std::os::unix::ffi::OsStrExt;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use words::Words;

pub(super) const COMMAND: Command = Command {
    usage: "watch [options] [key or prefix] [range_end] [--] [exec-command arg1 arg2 ...]",
    short: "Watches events stream on keys or prefixes",
    group: KEY_VALUE,
    flags: &[
        Flag::bool("interactive", "Interactive mode").letter('i'),
        Flag::bool("prefix", "Watch on a prefix if prefix is set"),
        Flag::int("rev", "0", "Revision to start watching"),
        Flag::bool("prev-kv", "get the previous key-value pair before the event happens"),
        Flag::bool("progress-notify", "get periodic watch progress notification from server"),
    ],
    run: Some(run),
    ..Command::EMPTY
};

static SELF: Command = COMMAND;

/// Typed lines that wait to be acted on.
const LINE_QUEUE: usize = 16;

fn run(invocation: &Invocation) -> Result<(), Exit> {
    let environment = words::environment()?;
    if invocation.flags.bool("interactive") {
        let session = Session::open(invocation)?;
        return session.block_on(interactive(session.unhurried(), session.format, &environment));
    }
    let words = words::of_command_line(&invocation.args, invocation.dash, &environment).map_err(Exit::bad_args)?;
    let session = Session::open(invocation)?;
    let watch = request(&words.watch, &invocation.flags).map_err(Exit::bad_args)?;
    session.block_on(follow(session.unhurried().watch(watch), session.format, words.command))?;
    Err(Exit::new(INTERRUPTED, "watch is canceled by the server"))
}

/// What the flags and words of a watch ask for.
fn request(words: &[Vec<u8>], flags: &Values) -> Result<Watch, String> {
    let key = words.first().ok_or(words::BAD_NUMBER)?;
    let mut watch = Watch::new(key.clone()).revision(flags.int("rev")).require_leader();
    if let [_, end] = words {
        if flags.bool("prefix") {
            return Err("`range_end` and `--prefix` are mutually exclusive".to_string());
        }
        watch = watch.range(end.clone());
    }
    if flags.bool("prefix") {
        watch = watch.prefix();
    }
    if flags.bool("prev-kv") {
        watch = watch.prev_kv();
    }
    if flags.bool("progress-notify") {
        watch = watch.progress_notify();
    }
    Ok(watch)
}

/// Prints what a watch brings until the server ends it.
async fn follow(mut watcher: Watcher, format: Format, command: Vec<Vec<u8>>) -> Result<(), Exit> {
    loop {
        match watcher.next().await {
            Ok(Some(response)) => {
                if let Some(reason) = watch_error(&response) {
                    eprintln!("watch was canceled ({reason})");
                }
                tell(&response, format)?;
                if !command.is_empty() {
                    for event in &response.events {
                        execute(&command, &response, event).await?;
                    }
                }
            }
            Ok(None) => return Ok(()),
            Err(e) => {
                eprintln!("watch was canceled ({e})");
                return Ok(());
            }
        }
    }
}

fn tell(response: &WatchResponse, format: Format) -> Result<(), Exit> {
    let ended = response.canceled || response.compact_revision != 0;
    if response.events.is_empty() && !ended && !response.created {
        let revision = response.header.map_or(0, |h| h.revision);
        print(format!("progress notify: {revision}\n").as_bytes())?;
    }
    show(format, &Answer::Watch(response))
}

/// Runs the command for one event, with the event in its environment.
async fn execute(command: &[Vec<u8>], response: &WatchResponse, event: &Event) -> Result<(), Exit> {
    let kv = event.kv.clone().unwrap_or_default();
    let kind = if event.r#type == EventType::Put as i32 { "PUT" } else { "DELETE" };
    let program = OsStr::from_bytes(&command[0]);
    let status = tokio::process::Command::new(program)
        .args(command[1..].iter().map(|a| OsStr::from_bytes(a)))
        .env("ETCD_WATCH_REVISION", response.header.map_or(0, |h| h.revision).to_string())
        .env("ETCD_WATCH_EVENT_TYPE", quote(kind.as_bytes()))
        .env("ETCD_WATCH_KEY", quote(&kv.key))
        .env("ETCD_WATCH_VALUE", quote(&kv.value))
        .status()
        .await;
    let error = match status {
        Ok(status) if status.success() => return Ok(()),
        Ok(status) => exit_text(status),
        Err(e) => cannot_run(program, &e),
    };
    let words: Vec<String> = command.iter().map(|w| quote(w)).collect();
    eprintln!("command [{}] error ({error})", words.join(" "));
    Err(Exit::silent(ERROR))
}

/// `watch -i`: each line starts a watch, or asks all of them for progress.
async fn interactive(client: Client, format: Format, environment: &[Vec<u8>]) -> Result<(), Exit> {
    let mut lines = typed_lines();
    let mut watches: JoinSet<Result<(), Exit>> = JoinSet::new();
    let mut handles: Vec<WatchHandle> = Vec::new();
    loop {
        let line = tokio::select! {
            line = lines.recv() => line.ok_or_else(|| {
                Exit::new(INVALID_INPUT, "error reading watch request line: EOF")
            })?,
            Some(ended) = watches.join_next() => {
                // One that ended has said so; one whose command failed ends all.
                ended.map_err(Exit::error)??;
                continue;
            }
        };
        let shown = String::from_utf8_lossy(&line).into_owned();
        let mut args = argify(&line).map_err(|e| Exit::new(INVALID_INPUT, e))?;
        if args.is_empty() {
            eprintln!("Invalid command: {shown} (watch and progress supported)");
            continue;
        }
        match &args.remove(0)[..] {
            b"watch" if args.is_empty() && environment.is_empty() => {
                eprintln!("Invalid command {shown} (command type or key is not provided)");
            }
            b"watch" => {
                let call = parse_line(&SELF, args).map_err(Exit::bad_args)?;
                let Words { watch, command } =
                    words::of_typed_line(&call.args, call.dash, environment).map_err(Exit::bad_args)?;
                match request(&watch, &call.flags) {
                    Err(e) => eprintln!("Invalid command {shown} ({e})"),
                    Ok(watch) => {
                        let watcher = client.watch(watch);
                        handles.push(watcher.handle());
                        watches.spawn(follow(watcher, format, command));
                    }
                }
            }
            b"progress" => handles.iter().for_each(WatchHandle::request_progress),
            _ => eprintln!("Invalid command {shown} (only support watch)"),
        }
    }
}

/// Lines of stdin, read on a thread of their own: reading blocks.
fn typed_lines() -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel(LINE_QUEUE);
    std::thread::spawn(move || {
        let mut stdin = std::io::stdin().lock();
        let mut line = Vec::new();
        while stdin.read_until(b'\n', &mut line).is_ok() && line.last() == Some(&b'\n') {
            line.pop();
            if sender.blocking_send(std::mem::take(&mut line)).is_err() {
                return;
            }
        }
    });
    receiver
}
