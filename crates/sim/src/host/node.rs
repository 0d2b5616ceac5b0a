//! The node thread: takes everything that waits as one batch, steps the node, carries out the effects in their order.

use cetera_node::event::{Effects, Event, Refusal, Reply, Ticket};
use cetera_server::node_thread::OWN_FRONT;
use cetera_server::seam::Mail;

use super::Host;
use super::log::{BATCH_OVERHEAD_BYTES, RECORD_OVERHEAD_BYTES};
use crate::core::{Core, Thread};
use crate::operator::{self, OPERATOR_SLOTS};
use crate::trace::Kind;

/// How often the free space of the disk is looked at, in milliseconds.
const DISK_LOOK_MS: u64 = 1_000;
/// Shortest and longest time between an event and the step that takes it, mostly near the shortest.
const WAKE_US: (u64, u64) = (2, 200);

/// Where the node thread stands.
#[derive(Debug, Default)]
pub(super) struct Turn {
    events: Vec<Event>,
    scheduled: bool,
    /// Waits for the log, which is being synced.
    pub(super) waits_for_log: bool,
    more: bool,
    /// When the node asked to be woken.
    wake_ms: Option<u64>,
    looked_ms: Option<u64>,
}

impl Turn {
    pub(super) fn is_idle(&self) -> bool {
        self.events.is_empty() && !self.more
    }
}

impl Host {
    /// Something for the node.
    pub(crate) fn push_event(&mut self, event: Event, core: &mut Core) {
        let Some(life) = &mut self.life else { return };
        life.turn.events.push(event);
        self.wake_node(core);
    }

    pub(super) fn wake_node(&mut self, core: &mut Core) {
        let Some(life) = &mut self.life else { return };
        if !life.turn.scheduled && !life.turn.waits_for_log {
            life.turn.scheduled = true;
            let after_us = core.dice.skewed(WAKE_US.0, WAKE_US.1);
            self.schedule(after_us, Thread::Node, core);
        }
    }

    pub(super) fn node_tick(&mut self, core: &mut Core) {
        let after_us = self.clock.world_us_until(core.options.tick_ms * 1_000);
        self.schedule(after_us, Thread::Tick, core);
        self.publish_step(core);
        self.wake_node(core);
    }

    pub(super) fn node_turn(&mut self, core: &mut Core) {
        let now_ms = self.now_ms(core);
        let Some(life) = &mut self.life else { return };
        life.turn.scheduled = false;
        let Some(room) = life.log.room_for(proposed_bytes(&life.turn.events)) else {
            life.turn.waits_for_log = true;
            return;
        };
        if life.turn.looked_ms.is_none_or(|looked| now_ms >= looked + DISK_LOOK_MS) {
            life.turn.looked_ms = Some(now_ms);
            let reserve = core.options.log_segment_bytes + 2 * core.options.wal_segment_bytes;
            let low = life.vfs.free_bytes(&life.checkpoints).is_ok_and(|free| free < reserve);
            life.access.set_disk_low(low);
        }
        let mut events = std::mem::take(&mut life.turn.events);
        let mut refused = Vec::new();
        if !room {
            for event in &mut events {
                if let Event::Propose(proposals) = event {
                    let no_space = || Reply::Refused(Refusal::NoSpace);
                    refused.extend(proposals.drain(..).map(|proposal| (proposal.ticket, no_space())));
                }
            }
        }
        let batch = events.len() as u64;
        events.insert(0, Event::Tick { now_ms });
        let effects = life.node.step(&mut events);
        life.turn.events = events;
        if self.disk.has_stopped() {
            // The power went during the step: nothing of it leaves.
            return;
        }
        match effects {
            Ok(effects) => {
                core.trace.note(core.now_us, Kind::Step, self.index as u64, batch, effects.replies.len() as u64);
                self.reply(refused, core);
                self.carry_out(effects, core);
            }
            Err(fatal) => self.fatal(&fatal.0, core),
        }
    }

    fn carry_out(&mut self, effects: Effects, core: &mut Core) {
        let index = self.index;
        let life = self.life.as_mut().expect("the caller stepped it");
        if let Some(through) = effects.release_wal {
            life.log.release(through);
        }
        if let Some(through) = effects.wal.iter().filter_map(|write| write.batch.restart).max() {
            core.trace.say(core.now_us, &format!("m{index}"), || format!("takes over a snapshot at {through}"));
            core.checks.mirror(index).snapshot(through);
            core.snapshots += 1;
        }
        life.log.enqueue(effects.wal);
        core.checks.stepped(index, &life.node);
        if let Some(published) = &effects.publish {
            core.checks.look(index, &life.node, published);
            core.trace.note(core.now_us, Kind::Picture, index as u64, published.applied_index, published.term);
            let before = cetera_server::rpc::NodeAccess::published(&life.access);
            if (before.leader, before.term) != (published.leader, published.term) {
                core.trace.say(core.now_us, &format!("m{index}"), || {
                    let leader = core.ids.iter().position(|id| *id != 0 && *id == published.leader);
                    format!("term {}, leader {}", published.term, leader.map_or("none".to_owned(), |m| format!("m{m}")))
                });
            }
            life.access.publish(published.clone());
        }
        if let Some(batch) = &effects.events {
            let wanting = (0..core.options.fronts as u16).filter(|front| life.access.wants_changes(*front));
            for front in wanting.collect::<Vec<_>>() {
                if let Some(life) = &mut self.life {
                    life.fronts[usize::from(front)].mail.push(Mail::Events(batch.clone()));
                }
                self.wake_front(front, core);
            }
        }
        self.reply(effects.replies, core);
        for message in effects.messages {
            if let Some(message) = crate::core::raft(&message) {
                core.checks.sends(index, message);
            }
            core.send_peer(index, message);
        }
        self.send_snapshots(effects.snapshots, core);
        let life = self.life.as_mut().expect("nothing above ends it");
        life.jobs.enqueue(effects.jobs);
        life.turn.more = effects.more;
        if life.turn.wake_ms != effects.wake_ms {
            life.turn.wake_ms = effects.wake_ms;
            if let Some(wake_ms) = effects.wake_ms {
                let own_us = (wake_ms * 1_000).saturating_sub(self.clock.now_us(core.now_us));
                let after_us = self.clock.world_us_until(own_us);
                self.schedule(after_us, Thread::Wake, core);
            }
        }
        self.log_kick(core);
        self.jobs_kick(core);
        if self.life.as_ref().is_some_and(|life| life.turn.more || !life.turn.events.is_empty()) {
            self.wake_node(core);
        }
    }

    /// Answers leave for whoever asked.
    fn reply(&mut self, replies: Vec<(Ticket, Reply)>, core: &mut Core) {
        for (ticket, reply) in replies {
            if ticket.front == OWN_FRONT && ticket.slot > OPERATOR_SLOTS {
                core.told_operator.push((ticket.slot, operator::outcome(&reply)));
            } else if ticket.front == OWN_FRONT {
                self.published_reply(ticket.slot, &reply, core);
            } else if let Some(life) = &mut self.life {
                let front = usize::from(ticket.front);
                life.fronts[front].mail.push(Mail::Reply(ticket, reply));
                self.wake_front(ticket.front, core);
            }
        }
    }
}

fn proposed_bytes(events: &[Event]) -> u64 {
    let proposals = events.iter().filter_map(|event| match event {
        Event::Propose(proposals) => Some(proposals),
        _ => None,
    });
    let bytes: usize = proposals.flatten().map(|proposal| proposal.request.len() + RECORD_OVERHEAD_BYTES).sum();
    if bytes == 0 { 0 } else { (bytes + BATCH_OVERHEAD_BYTES) as u64 }
}
