//! Watch streams of one front thread.

use cetera_node::event::EventBatch;
use cetera_node::published::Published;

use super::status::unimplemented;
use crate::seam::{CallId, Inbound, Outbound};

/// The watch service of one front thread. Only watch streams' events get here.
#[derive(Debug, Default)]
pub struct WatchService {}

impl WatchService {
    /// One event of one watch stream.
    pub fn handle(&mut self, inbound: Inbound, _published: &Published, out: &mut Vec<Outbound>) {
        if let Inbound::Open { call, method, .. } = inbound {
            out.push(Outbound::Finish { call, status: unimplemented(method) });
        }
    }

    /// The changes of one apply batch; `published` is at or past them.
    pub fn deliver(&mut self, _batch: &EventBatch, _published: &Published, _out: &mut Vec<Outbound>) {}

    /// Time has passed.
    pub fn tick(&mut self, _now_ms: u64, _published: &Published, _out: &mut Vec<Outbound>) {}

    /// Unsent output of this stream went over its budget; it is to produce nothing until drained.
    pub fn full(&mut self, _call: CallId) {}
}
