//! `lock`: holds a lock while a command runs, or until it is told to stop.

use super::CONCURRENCY;
use super::signal::Stop;
use crate::cli::{Command, Flag, Invocation};
use crate::connect::{Session, show};
use crate::exit::{ERROR, Exit};
use crate::printer::{Answer, Format};
use cetera_client::concurrency::{self, Mutex};
use cetera_client::{Client, Get};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

pub(super) const COMMAND: Command = Command {
    usage: "lock <lockname> [exec-command arg1 arg2 ...]",
    short: "Acquires a named lock",
    group: CONCURRENCY,
    flags: &[Flag::int("ttl", "10", "timeout for session")],
    run: Some(run),
    ..Command::EMPTY
};

fn run(invocation: &Invocation) -> Result<(), Exit> {
    let Some((name, command)) = invocation.args.split_first() else {
        return Err(Exit::bad_args("lock takes a lock name argument and an optional command to execute"));
    };
    let ttl = match u64::try_from(invocation.flags.int("ttl")) {
        Ok(seconds @ 1..) => Duration::from_secs(seconds),
        _ => concurrency::Session::DEFAULT_TTL,
    };
    let session = Session::open(invocation)?;
    session.block_on(hold(session.unhurried(), session.format, ttl, name, command))
}

async fn hold(client: Client, format: Format, ttl: Duration, name: &[u8], command: &[Vec<u8>]) -> Result<(), Exit> {
    let mut stop = Stop::new()?;
    let lease = concurrency::Session::new(&client, ttl).await?;
    let mut mutex = Mutex::new(&lease, name);
    tokio::select! {
        locked = mutex.lock() => locked?,
        () = stop.wait() => {
            // The user is leaving; the lease ends what this does not.
            let _ = mutex.unlock().await;
            return Err(Exit::error("context canceled"));
        }
    }
    if !command.is_empty() {
        let ran = execute(&mutex, command).await;
        let unlocked = mutex.unlock().await;
        ran?;
        return Ok(unlocked?);
    }
    let held = client.get(Get::new(mutex.key())).await?;
    if held.kvs.is_empty() {
        return Err(Exit::error("lock lost on init"));
    }
    show(format, &Answer::Get(&held))?;
    tokio::select! {
        () = stop.wait() => Ok(mutex.unlock().await?),
        () = lease.done() => Err(Exit::error("session expired")),
    }
}

/// Runs the command with the lock's key and revision in its environment, and fails as it fails.
async fn execute(mutex: &Mutex<'_>, command: &[Vec<u8>]) -> Result<(), Exit> {
    let revision = mutex.header().map_or(0, |h| h.revision);
    let program = OsStr::from_bytes(&command[0]);
    let status = tokio::process::Command::new(program)
        .args(command[1..].iter().map(|a| OsStr::from_bytes(a)))
        .env("ETCD_LOCK_KEY", OsString::from_vec(mutex.key().to_vec()))
        .env("ETCD_LOCK_REV", revision.to_string())
        .status()
        .await
        .map_err(|e| Exit::error(cannot_run(program, &e)))?;
    match status.code() {
        Some(0) => Ok(()),
        code => Err(Exit::new(code.unwrap_or(ERROR), exit_text(status))),
    }
}

/// As Go's `os/exec` says it.
pub(super) fn cannot_run(program: &OsStr, error: &std::io::Error) -> String {
    let program = program.to_string_lossy();
    match error.kind() {
        std::io::ErrorKind::NotFound if !program.contains('/') => {
            format!("exec: {}: executable file not found in $PATH", crate::go::quote(program.as_bytes()))
        }
        std::io::ErrorKind::NotFound => format!("fork/exec {program}: no such file or directory"),
        std::io::ErrorKind::PermissionDenied => format!("fork/exec {program}: permission denied"),
        _ => format!("fork/exec {program}: {error}"),
    }
}

pub(super) fn exit_text(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(9)) => "signal: killed".to_string(),
        (None, Some(15)) => "signal: terminated".to_string(),
        (None, Some(2)) => "signal: interrupt".to_string(),
        (None, signal) => format!("signal: {}", signal.unwrap_or_default()),
    }
}
