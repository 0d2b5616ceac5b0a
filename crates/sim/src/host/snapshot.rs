//! Snapshots on their way: each over a line of its own between two lives, chunk by chunk, until one side is gone or the
//! line breaks. What breaks off is begun anew by the node, and goes on where the receiver stopped.
//!
//! The sender reads its open files and the receiver writes to its disk at each step, so that either may fail or lose its
//! power at any of them. Chunks here are small: what is sent in one piece cannot break in the middle.

use std::collections::{BTreeMap, BTreeSet};

use cetera_node::event::Event;
use cetera_node::snapshot::{ReceivedSnapshot, SnapshotReceiver, SnapshotSend};
use cetera_proto::ceterapb::{PeerMessage, SnapshotChunk, SnapshotHeader, SnapshotPosition, peer_message::Body};
use cetera_proto::raftpb;

use super::Host;
use crate::core::{Core, Happening};
use crate::trace::Kind;

/// Shortest and longest chunk, mostly near the shortest while there are faults, and all of the longest after them.
const CHUNK_BYTES: (u64, u64) = (200, 64 << 10);
/// Shortest and longest time between chunks that follow one another.
const FLOWS_US: (u64, u64) = (50, 500);
/// How long a line stands still before both sides give it up.
const STALL_US: u64 = 2_000_000;
/// What a lost packet costs until it is sent again.
const AGAIN_US: u64 = 200_000;
/// How often what is sent over a line is lost at most.
const TRIES_MAX: u32 = 64;

/// A line between two members, by its number.
pub(crate) type Line = u64;

/// What goes over a line.
#[derive(Debug)]
pub(crate) enum Wire {
    /// To the receiver: what is to come.
    Header(Box<SnapshotHeader>),
    /// To the sender: go on here.
    Position(SnapshotPosition),
    /// To the receiver.
    Chunk(SnapshotChunk),
    /// To the receiver: that was all.
    End,
    /// To the sender: whether everything is there, and good.
    Took(bool),
    /// To either: the line broke.
    Broken,
}

impl Wire {
    fn content(&self) -> u64 {
        match self {
            Self::Header(header) => header.id,
            Self::Position(at) => u64::from(at.file) << 40 | at.offset,
            Self::Chunk(chunk) => chunk.data.len() as u64,
            Self::End => 1,
            Self::Took(ok) => 2 + u64::from(*ok),
            Self::Broken => 4,
        }
    }
}

/// The two ends of a line.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Ends {
    from: usize,
    to: usize,
}

/// A life's lines.
pub(super) struct Lines {
    sending: BTreeMap<Line, SnapshotSend>,
    receiver: SnapshotReceiver,
    /// The line of the snapshot that is being received, and its id.
    receiving: Option<(Line, u64)>,
    /// The lines of what was received and is being verified.
    verifying: BTreeSet<Line>,
}

impl Lines {
    pub(super) fn new(receiver: SnapshotReceiver) -> Self {
        Self { sending: BTreeMap::new(), receiver, receiving: None, verifying: BTreeSet::new() }
    }

    /// Every line that ends here.
    pub(super) fn all(&self) -> Vec<Line> {
        let received = self.receiving.map(|(line, _)| line).into_iter().chain(self.verifying.iter().copied());
        self.sending.keys().copied().chain(received).collect()
    }
}

impl Core {
    /// Sends something over a line; a line that is cut breaks.
    fn send_wire(&mut self, line: Line, from: usize, to: usize, wire: Wire) {
        let trouble = *self.network.link(from, to);
        let blocked = trouble.blocked > 0 || self.network.link(to, from).blocked > 0;
        let breaks = self.faults_on && self.dice.chance(self.options.line_breaks_per_mille);
        if blocked || breaks {
            let after_us = if blocked { STALL_US } else { self.dice.skewed(100, STALL_US) };
            for at in [from, to] {
                self.after(after_us, Happening::Wire { line, at, wire: Wire::Broken });
            }
            return;
        }
        // The peers' port does not wait for an answer before it sends the next: while nothing is wrong, only the first
        // and the last cost their way.
        let flows = !self.faults_on && matches!(wire, Wire::Chunk(_) | Wire::Position(_));
        let (low, high) = if flows { FLOWS_US } else { self.options.delay_us };
        let mut after_us = self.dice.within(low, high) + trouble.delay_us;
        // Troubles add up, to a line on which all is lost: it comes through when they are over.
        let lost = (0..TRIES_MAX).take_while(|_| self.dice.chance(trouble.loss)).count();
        after_us += lost as u64 * AGAIN_US;
        self.after(after_us, Happening::Wire { line, at: to, wire });
    }

    /// A process is gone: the other ends of its lines learn it.
    pub(super) fn break_lines(&mut self, gone: usize, lines: Vec<Line>) {
        for line in lines {
            let Some(Ends { from, to }) = self.lines.remove(&line) else { continue };
            let other = if from == gone { to } else { from };
            let after_us = self.dice.skewed(100, STALL_US);
            self.after(after_us, Happening::Wire { line, at: other, wire: Wire::Broken });
        }
    }
}

impl Host {
    /// The node wants these sent.
    pub(super) fn send_snapshots(&mut self, snapshots: Vec<SnapshotSend>, core: &mut Core) {
        for send in snapshots {
            core.unique += 1;
            let line = core.unique;
            let (to, id) = (send.to(), send.id());
            let Some(at) = core.ids.iter().position(|seated| *seated == to) else {
                self.push_event(Event::SnapshotSent { to, id, ok: false }, core);
                continue;
            };
            core.trace.say(core.now_us, &self.name(), || format!("snapshot {id:x} to m{at}: {} bytes", send.bytes()));
            let header = Wire::Header(Box::new(send.header()));
            let Some(life) = &mut self.life else { return };
            life.lines.sending.insert(line, send);
            core.lines.insert(line, Ends { from: self.index, to: at });
            core.send_wire(line, self.index, at, header);
        }
    }

    /// Something arrives over a line.
    pub(crate) fn wire(&mut self, line: Line, wire: Wire, core: &mut Core) {
        core.trace.note(core.now_us, Kind::Wire, self.index as u64, line, wire.content());
        if self.life.is_some() && self.paused {
            return self.backlog.push(Happening::Wire { line, at: self.index, wire });
        }
        let ends = core.lines.get(&line).copied();
        let (Some(life), Some(ends)) = (&mut self.life, ends) else {
            // Nobody is there, which the other side learns, or the other side has gone: what is left of the line ends.
            return self.hang_up(line, core);
        };
        match wire {
            Wire::Broken => self.line_broke(line, core),
            Wire::Position(_) | Wire::Took(_) if !life.lines.sending.contains_key(&line) => self.hang_up(line, core),
            Wire::Position(at) => self.send_chunk(line, at, ends, core),
            Wire::Took(ok) => {
                core.lines.remove(&line);
                let Some(send) = life.lines.sending.remove(&line) else { return };
                self.push_event(Event::SnapshotSent { to: send.to(), id: send.id(), ok }, core);
            }
            Wire::Header(header) => self.begin_snapshot(line, &header, ends, core),
            Wire::Chunk(_) | Wire::End if life.lines.receiving.is_none_or(|(open, _)| open != line) => {
                self.hang_up(line, core);
            }
            Wire::Chunk(chunk) => {
                let (_, id) = life.lines.receiving.expect("just seen");
                match life.lines.receiver.chunk(id, &chunk) {
                    Ok(at) => core.send_wire(line, ends.to, ends.from, Wire::Position(at)),
                    Err(error) => self.snapshot_failed(line, &error.to_string(), core),
                }
            }
            Wire::End => self.finish_snapshot(line, ends, core),
        }
        self.look_at_disk(core);
    }

    fn send_chunk(&mut self, line: Line, at: SnapshotPosition, ends: Ends, core: &mut Core) {
        let Some(send) = self.life.as_ref().and_then(|life| life.lines.sending.get(&line)).cloned() else { return };
        if send.is_cancelled() {
            return self.hang_up(line, core);
        }
        let (low, high) = CHUNK_BYTES;
        let most = if core.faults_on { core.dice.skewed(low, high) } else { high } as usize;
        let wire = match send.chunk(at) {
            Ok(Some(SnapshotChunk { at, data })) => {
                let data = data.slice(..data.len().min(most));
                Wire::Chunk(SnapshotChunk { at, data })
            }
            Ok(None) => Wire::End,
            Err(error) => {
                core.trace.say(core.now_us, &self.name(), || format!("cannot read a snapshot: {error}"));
                return self.hang_up(line, core);
            }
        };
        core.send_wire(line, ends.from, ends.to, wire);
    }

    fn begin_snapshot(&mut self, line: Line, header: &SnapshotHeader, ends: Ends, core: &mut Core) {
        let Some(life) = &mut self.life else { return };
        let committed = life.node.published().committed_index;
        if !header.resync
            && let Some(message) = header.message.clone().filter(|message| index(message) <= committed)
        {
            // It says nothing new; its sender learns how far this member is.
            let message = PeerMessage { from: message.from, to: message.to, body: Some(Body::Raft(message)) };
            self.push_event(Event::Peer(vec![message]), core);
            return core.send_wire(line, ends.to, ends.from, Wire::Took(false));
        }
        match life.lines.receiver.begin(header) {
            Ok(at) => {
                life.lines.receiving = Some((line, header.id));
                core.trace.say(core.now_us, &self.name(), || format!("snapshot {:x} from {at:?}", header.id));
                core.send_wire(line, ends.to, ends.from, Wire::Position(at));
            }
            Err(error) => self.snapshot_failed(line, &error.to_string(), core),
        }
    }

    fn finish_snapshot(&mut self, line: Line, ends: Ends, core: &mut Core) {
        let Some(life) = &mut self.life else { return };
        let (_, id) = life.lines.receiving.take().expect("the caller looked");
        match life.lines.receiver.finish(id) {
            Ok(received) => {
                let is_new = received.is_some();
                core.trace.say(core.now_us, &format!("m{}", self.index), || {
                    format!("snapshot {id:x} is there (new: {is_new})")
                });
                match received {
                    None => core.send_wire(line, ends.to, ends.from, Wire::Took(true)),
                    Some(received) => {
                        life.lines.verifying.insert(line);
                        life.jobs.enqueue_received(line, received);
                        self.jobs_kick(core);
                    }
                }
            }
            Err(error) => self.snapshot_failed(line, &error.to_string(), core),
        }
    }

    fn snapshot_failed(&mut self, line: Line, why: &str, core: &mut Core) {
        core.trace.say(core.now_us, &self.name(), || format!("a snapshot is not received: {why}"));
        self.hang_up(line, core);
    }

    /// This side ends a line.
    fn hang_up(&mut self, line: Line, core: &mut Core) {
        self.line_broke(line, core);
        core.break_lines(self.index, vec![line]);
    }

    fn line_broke(&mut self, line: Line, core: &mut Core) {
        let Some(life) = &mut self.life else { return };
        life.lines.receiving.take_if(|(open, _)| *open == line);
        life.lines.verifying.remove(&line);
        if let Some(send) = life.lines.sending.remove(&line) {
            self.push_event(Event::SnapshotSent { to: send.to(), id: send.id(), ok: false }, core);
        }
    }

    /// A received snapshot was looked through, off the node's thread. Its sender is told, if the line is still there.
    pub(super) fn snapshot_prepared(&mut self, line: Line, received: ReceivedSnapshot, core: &mut Core) {
        let prepared = received.prepare();
        if self.disk.has_stopped() {
            return;
        }
        if self.life.as_mut().is_some_and(|life| life.lines.verifying.remove(&line))
            && let Some(Ends { from, to }) = core.lines.get(&line).copied()
        {
            core.send_wire(line, to, from, Wire::Took(prepared.is_ok()));
        }
        match prepared {
            Ok(prepared) => {
                core.trace.say(core.now_us, &self.name(), || format!("{prepared:?} is ready"));
                self.push_event(Event::Snapshot(Box::new(prepared)), core);
            }
            Err(error) => {
                core.trace.say(core.now_us, &self.name(), || error.to_string());
                if !self.excused && !core.checks.rotten[self.index] {
                    core.checks.violated(format!("member {}: a snapshot that was received whole: {error}", self.index));
                }
            }
        }
    }
}

fn index(message: &raftpb::Message) -> u64 {
    message.snapshot.as_ref().and_then(|snapshot| snapshot.metadata.as_ref()).map_or(0, |metadata| metadata.index)
}
