//! A client for etcd 3 servers.
//!
//! Holds connections to the members, one call per RPC, and on them watches, lease keep-alive and the recipes of
//! [`concurrency`]. Promises etcd's own error texts, at most one delivery of each write, and calls that end at
//! their timeout. Never prints, and keeps no state of the cluster but the endpoints it was given.
//!
//! ```no_run
//! # async fn example() -> Result<(), cetera_client::Error> {
//! use cetera_client::{Client, Config, Get, Put};
//!
//! let client = Client::new(Config::new(["127.0.0.1:2379"]))?;
//! client.put(Put::new("greeting", "hello")).await?;
//! let found = client.get(Get::new("greeting")).await?;
//! assert_eq!(found.kvs[0].value, "hello");
//! # Ok(())
//! # }
//! ```

mod auth;
mod call;
mod client;
mod cluster;
pub mod concurrency;
mod config;
mod endpoint;
mod error;
mod kv;
mod lease;
mod maintenance;
mod op;
mod watch;

pub use cetera_proto as proto;
pub use client::Client;
pub use config::{Config, FailedAttempt, Listener};
pub use error::{Code, Error};
pub use lease::KeepAlive;
pub use op::{Cmp, Compare, Delete, Get, Op, Put, Txn, prefix_end};
pub use watch::{Watch, WatchHandle, Watcher, watch_error};
