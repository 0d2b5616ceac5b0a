//! A front thread: etcd's services, as the server has them, between the connections of clients and the node.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use cetera_node::Published;
use cetera_node::watch::HubOptions;
use cetera_proto::services::MethodId;
use cetera_server::rpc::watch::WatchService;
use cetera_server::rpc::{RpcServices, Settings};
use cetera_server::seam::{CallId, CallMetadata, Inbound, Mail, Outbound, Services};

use super::Host;
use super::life::Access;
use crate::client::Conn;
use crate::core::{Answer, Core, Packet, Thread};
use crate::plan::Options;
use crate::trace::{Kind, digest};

/// Time between ticks of the services, as in the server.
const TICK_US: u64 = 100_000;
/// Shortest and longest time between something for a front and the turn that takes it, mostly near the shortest.
const WAKE_US: (u64, u64) = (2, 300);

/// One front thread.
pub(super) struct Front {
    services: RpcServices<Access>,
    inbound: Vec<Inbound>,
    pub(super) mail: Vec<Mail>,
    scheduled: bool,
    next_call: u64,
    calls: BTreeMap<CallId, Served>,
    by_connection: BTreeMap<(Conn, u64), CallId>,
}

/// A call that is being served.
#[derive(Debug)]
struct Served {
    conn: Conn,
    call: u64,
    stream: bool,
    /// Bytes on their way to the client.
    unsent: usize,
    full: bool,
}

impl Front {
    pub(super) fn new(
        number: u16,
        access: Access,
        settings: Arc<Settings>,
        published: &Published,
        options: &Options,
        index: usize,
    ) -> Self {
        let seed = options.hub.seed ^ (index as u64) << 8 ^ u64::from(number);
        let watch = WatchService::new(HubOptions { seed, ..options.hub.clone() }, published);
        Self {
            services: RpcServices::new(number, access, settings, watch),
            inbound: Vec::new(),
            mail: Vec::new(),
            scheduled: false,
            next_call: 1,
            calls: BTreeMap::new(),
            by_connection: BTreeMap::new(),
        }
    }
}

impl Host {
    pub(super) fn wake_front(&mut self, front: u16, core: &mut Core) {
        let Some(life) = &mut self.life else { return };
        let this = &mut life.fronts[usize::from(front)];
        if !this.scheduled {
            this.scheduled = true;
            let after_us = core.dice.skewed(WAKE_US.0, WAKE_US.1);
            self.schedule(after_us, Thread::Front(front), core);
        }
    }

    /// Bytes of a client.
    pub(super) fn front_packet(&mut self, conn: Conn, call: u64, packet: Packet, core: &mut Core) {
        let Some(life) = &mut self.life else { return };
        let number = front_of(conn, life.fronts.len());
        let front = &mut life.fronts[usize::from(number)];
        match packet {
            Packet::Open { method, body, half_close } => {
                core.trace.note(core.now_us, Kind::Up, conn.0, call, digest(&body));
                let id = CallId(front.next_call);
                front.next_call += 1;
                let stream = method == MethodId::Watch;
                front.calls.insert(id, Served { conn, call, stream, unsent: 0, full: false });
                front.by_connection.insert((conn, call), id);
                let metadata = CallMetadata::default();
                front.inbound.push(Inbound::Open { call: id, method: method.method(), metadata });
                front.inbound.push(Inbound::Message { call: id, body });
                if half_close {
                    front.inbound.push(Inbound::HalfClose { call: id });
                }
            }
            Packet::Message { body } => {
                core.trace.note(core.now_us, Kind::Up, conn.0, call, digest(&body));
                let Some(id) = front.by_connection.get(&(conn, call)) else { return };
                front.inbound.push(Inbound::Message { call: *id, body });
            }
            Packet::Cancel => {
                let Some(id) = front.by_connection.remove(&(conn, call)) else { return };
                front.calls.remove(&id);
                front.inbound.push(Inbound::Cancel { call: id });
            }
        }
        self.wake_front(number, core);
    }

    /// A client has gone: its calls are given up.
    pub(super) fn front_hangup(&mut self, conn: Conn, core: &mut Core) {
        let Some(life) = &mut self.life else { return };
        let number = front_of(conn, life.fronts.len());
        let front = &mut life.fronts[usize::from(number)];
        let calls: Vec<(u64, CallId)> =
            front.by_connection.range((conn, 0)..=(conn, u64::MAX)).map(|((_, call), id)| (*call, *id)).collect();
        for (call, id) in calls {
            front.by_connection.remove(&(conn, call));
            front.calls.remove(&id);
            front.inbound.push(Inbound::Cancel { call: id });
        }
        self.wake_front(number, core);
    }

    /// Bytes have reached their client: the call may have room for more.
    pub(super) fn front_delivered(&mut self, conn: Conn, call: u64, bytes: usize, core: &mut Core) {
        let budget = core.options.stream_budget_bytes;
        let Some(life) = &mut self.life else { return };
        let number = front_of(conn, life.fronts.len());
        let front = &mut life.fronts[usize::from(number)];
        let Some(id) = front.by_connection.get(&(conn, call)) else { return };
        let served = front.calls.get_mut(id).expect("the two maps agree");
        // What an earlier life sent on the connection is not counted here.
        served.unsent = served.unsent.saturating_sub(bytes);
        if served.full && served.unsent < budget {
            served.full = false;
            front.inbound.push(Inbound::Drained { call: *id });
            self.wake_front(number, core);
        }
    }

    pub(super) fn front_tick(&mut self, number: u16, core: &mut Core) {
        let after_us = self.clock.world_us_until(TICK_US);
        self.schedule(after_us, Thread::FrontTick(number), core);
        let now_ms = self.now_ms(core);
        let Some(life) = &mut self.life else { return };
        let mut out = Vec::new();
        life.access.set_now_ms(now_ms);
        life.fronts[usize::from(number)].services.tick(now_ms, &mut out);
        self.front_output(number, out, core);
    }

    /// Everything that waits goes through the services once.
    pub(super) fn front_turn(&mut self, number: u16, core: &mut Core) {
        let now_ms = self.now_ms(core);
        let Some(life) = &mut self.life else { return };
        life.access.set_now_ms(now_ms);
        let front = &mut life.fronts[usize::from(number)];
        front.scheduled = false;
        let mut out = Vec::new();
        let calls_first = core.dice.chance(500);
        for calls in [calls_first, !calls_first] {
            if calls && !front.inbound.is_empty() {
                front.services.handle(&mut front.inbound, &mut out);
                front.inbound.clear();
            } else if !calls && !front.mail.is_empty() {
                front.services.deliver(&mut front.mail, &mut out);
                front.mail.clear();
            }
        }
        if front.services.pending() {
            front.services.turn(&mut out);
        }
        let pending = front.services.pending();
        self.front_output(number, out, core);
        if pending {
            self.wake_front(number, core);
        }
    }

    fn front_output(&mut self, number: u16, out: Vec<Outbound>, core: &mut Core) {
        for outbound in out {
            match outbound {
                Outbound::Message { call, slices } => {
                    self.front_send(number, call, slices.concat().into(), core);
                }
                Outbound::Messages { call, messages } => {
                    for message in messages.into_messages() {
                        self.front_send(number, call, message, core);
                    }
                }
                Outbound::Finish { call, status } => {
                    let Some(life) = &mut self.life else { return };
                    let front = &mut life.fronts[usize::from(number)];
                    let Some(served) = front.calls.remove(&call) else { continue };
                    front.by_connection.remove(&(served.conn, served.call));
                    core.send_down(served.conn, served.call, Answer::End(status));
                }
            }
        }
        let Some(life) = &mut self.life else { return };
        for event in life.access.take_events() {
            self.push_event(event, core);
        }
        if let Some(life) = &mut self.life {
            let work = life.access.take_work();
            life.jobs.enqueue_work(work);
        }
        self.jobs_kick(core);
    }

    fn front_send(&mut self, number: u16, id: CallId, body: Bytes, core: &mut Core) {
        let budget = core.options.stream_budget_bytes;
        let Some(life) = &mut self.life else { return };
        let front = &mut life.fronts[usize::from(number)];
        let Some(served) = front.calls.get_mut(&id) else { return };
        served.unsent += body.len();
        if served.stream && !served.full && served.unsent >= budget {
            served.full = true;
            front.services.full(id);
        }
        core.send_down(served.conn, served.call, Answer::Message(body));
    }
}

/// Connections are spread over the fronts.
fn front_of(conn: Conn, fronts: usize) -> u16 {
    (conn.0 % fronts as u64) as u16
}
