//! A load generator that costs little: one thread, an HTTP/2 client written for this, messages encoded by hand.
//!
//! Speaks enough of gRPC to keep many requests in flight for one to two microseconds each, so that the processor time
//! of a server can be measured on a machine that it shares with its clients. Never decodes header blocks: a call that
//! ends without a message counts as failed, and the raw block of the first one is kept.

pub mod connection;
pub mod histogram;
pub mod keepalive;
pub mod meter;
pub mod requests;
pub mod steady;
pub mod unary;
pub mod watch;
pub mod wire;
