//! Whether a server serves.

use std::io;
use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout};

use crate::load::connection::Connection;
use crate::load::wire;
use crate::process::{Launch, Server};

/// A server that does not serve within this will not.
const PATIENCE: Duration = Duration::from_secs(300);
/// Longest wait for one answer.
const CALL_PATIENCE: Duration = Duration::from_secs(5);
/// Pause between two tries.
const PAUSE: Duration = Duration::from_millis(1);

/// Sends one request and returns whether a message came back.
///
/// # Errors
/// The connection broke.
pub async fn ask(address: &str, path: &'static str, body: &[u8]) -> io::Result<bool> {
    let mut connection = Connection::open(address).await?;
    connection.start(path, body, true);
    let mut answered = false;
    loop {
        let frames = connection.pump().await?;
        for frame in &frames {
            answered |= frame.is_data && !frame.is_empty();
            if frame.ends {
                return Ok(answered);
            }
        }
        connection.give_back(frames);
    }
}

/// Starts a server and returns when a linearizable read was answered, with the time from the start to that answer.
///
/// # Errors
/// It ended, or does not serve.
pub async fn start(launch: &Launch) -> Result<(Server, Duration), String> {
    let mut server = launch.start().map_err(|error| format!("the server cannot be started: {error}"))?;
    let took = serves(launch, &mut server, CALL_PATIENCE).await?;
    Ok((server, took))
}

/// Returns when a started server has answered a linearizable read, with the time from its start to that answer. A read
/// that was not answered within `patience` is given up and made again.
///
/// # Errors
/// It ended, or does not serve.
pub async fn serves(launch: &Launch, server: &mut Server, patience: Duration) -> Result<Duration, String> {
    let mut body = Vec::new();
    wire::range(&mut body, b"k", b"", 0);
    loop {
        let asked = timeout(patience, ask(&launch.address(), wire::RANGE, &body)).await;
        if let Ok(Ok(true)) = asked {
            return Ok(server.started.elapsed());
        }
        if let Some(status) = server.ended() {
            return Err(format!("the server ended: {status}\n{}", launch.last_lines()));
        }
        if server.started.elapsed() > PATIENCE {
            return Err(format!("the server does not serve within {PATIENCE:?}\n{}", launch.last_lines()));
        }
        sleep(PAUSE).await;
    }
}

/// Waits until `done` says so, looking every few milliseconds. False: not within `patience`.
pub async fn wait_until(patience: Duration, mut done: impl FnMut() -> bool) -> bool {
    let begun = Instant::now();
    while !done() {
        if begun.elapsed() > patience {
            return false;
        }
        sleep(Duration::from_millis(2)).await;
    }
    true
}
