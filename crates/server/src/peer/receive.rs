//! One connection from a peer: frames in, one event per read for the node.

use std::rc::Rc;
use std::sync::atomic::Ordering;

use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::frame::Splitter;
use super::link::End;
use super::net::Net;
use crate::metrics::METRICS;

/// Reads until the connection ends. A node that has not taken what it was given is not given more.
pub(super) async fn receive(mut io: impl AsyncRead + Unpin, from: u64, net: &Rc<Net>) -> End {
    let mut splitter = Splitter::default();
    let counters = METRICS.peer(from);
    loop {
        match tokio::time::timeout(net.read_timeout(), io.read_buf(splitter.space())).await {
            Err(_) => return End::Stalled,
            Ok(Err(error)) => return End::Broken(error),
            Ok(Ok(0)) => return End::Closed,
            Ok(Ok(count)) => drop(counters.received_bytes.fetch_add(count as u64, Ordering::Relaxed)),
        }
        let mut messages = Vec::new();
        let before = splitter.len();
        let end = loop {
            match splitter.next() {
                Ok(None) => break None,
                Ok(Some(message)) if message.from == from && message.to == net.member_id() => messages.push(message),
                Ok(Some(_)) => break Some(End::Nonsense("a message of or for another member".into())),
                Err(error) => break Some(End::Nonsense(error.to_string())),
            }
        };
        if !messages.is_empty() {
            net.hear(messages, before - splitter.len()).await;
        }
        if let Some(end) = end {
            return end;
        }
    }
}
