//! Messages of any bytes from other members, between ticks, proposals and syncs that come late. The member may stop, in
//! words, if what it is told cannot be true; it does not panic, and what it applied it keeps.

use std::sync::Arc;

use bytes::Bytes;
use cetera_node::Fatal;
use cetera_node::event::Event;
use cetera_proto::ceterapb::{PeerMessage, peer_message::Body};
use cetera_proto::etcdserverpb::{InternalRaftRequest, PutRequest};
use cetera_proto::raftpb::{ConfState, Entry, Message, MessageType, Snapshot, SnapshotMetadata};
use cetera_storage::vfs::MemoryVfs;
use prost::Message as _;

use crate::input::Input;
use crate::member::{MEMBER, Member, start};

/// See the module.
pub(crate) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let mut member = Member::open(Arc::new(MemoryVfs::new()), start(3), false).expect("an empty disk");
    if input.flag() {
        elect(&mut member);
    }
    let mut id = 100;
    let mut held = Vec::new();
    while !input.is_empty() {
        let before = (member.published.applied_index, member.published.view.revision());
        match script(&mut input, &mut member, &mut id, &mut held) {
            Ok(()) => {}
            Err(Fatal(text)) => return assert!(!text.is_empty()),
        }
        let after = (member.published.applied_index, member.published.view.revision());
        assert!(after.0 >= before.0 && after.1 >= before.1, "{before:?} then {after:?}");
        assert!(after.0 <= member.published.committed_index);
    }
}

/// Makes the member leader, as two others that grant what they are asked would.
fn elect(member: &mut Member) {
    for _ in 0..100 {
        if member.published.leader == MEMBER {
            return;
        }
        member.now_ms += 100;
        member.events.push(Event::Tick { now_ms: member.now_ms });
        while member.step().expect("nothing is wrong yet") {}
        let asked = std::mem::take(&mut member.messages);
        member.events.extend(asked.iter().filter_map(granted));
        while member.step().expect("nothing is wrong yet") {}
    }
    panic!("nobody leads");
}

fn granted(request: &PeerMessage) -> Option<Event> {
    let Some(Body::Raft(request)) = &request.body else { return None };
    let answer = match request.r#type() {
        MessageType::MsgPreVote => MessageType::MsgPreVoteResp,
        MessageType::MsgVote => MessageType::MsgVoteResp,
        _ => return None,
    };
    let mut message = Message { to: request.from, from: request.to, term: request.term, ..Default::default() };
    message.set_type(answer);
    Some(Event::Peer(vec![message.into()]))
}

fn script(input: &mut Input<'_>, member: &mut Member, id: &mut u64, held: &mut Vec<Event>) -> Result<(), Fatal> {
    match input.below(8) {
        0 => {
            let Ok(message) = Message::decode(input.bytes()) else { return Ok(()) };
            member.events.push(Event::Peer(vec![message.into()]));
        }
        1..=4 => {
            let message = likely(input, member);
            member.events.push(Event::Peer(vec![message.into()]));
        }
        5 => {
            member.now_ms += 100 * u64::from(1 + input.u8() % 16);
            member.events.push(Event::Tick { now_ms: member.now_ms });
        }
        6 => {
            *id += 1;
            let put = PutRequest { key: vec![input.u8()].into(), value: "v".into(), ..Default::default() };
            member.propose(*id, InternalRaftRequest { put: Some(put.into()), ..Default::default() });
        }
        // The disk answers what it was told last time.
        _ => member.events.append(held),
    }
    member.step()?;
    // A step leaves what the disk would say; sometimes it is late.
    if input.flag() {
        held.append(&mut member.events);
    }
    Ok(())
}

/// A message that has a chance: numbers near those that count here.
fn likely(input: &mut Input<'_>, member: &Member) -> Message {
    let published = &member.published;
    let near = |input: &mut Input<'_>, base: u64| base.wrapping_add_signed(i64::from(input.u8() as i8));
    let last = published.committed_index;
    let first = near(input, last);
    let mut message = Message {
        r#type: i32::from(input.u8() % 24),
        to: MEMBER,
        from: MEMBER + u64::from(input.u8() % 4),
        term: near(input, published.term),
        index: first,
        log_term: near(input, published.term),
        commit: near(input, last),
        reject: input.flag(),
        ..Default::default()
    };
    message.reject_hint = if message.reject { near(input, last) } else { 0 };
    for at in 0..u64::from(input.u8() % 4) {
        let odd = input.u8();
        message.entries.push(Entry {
            r#type: if odd & 15 == 15 { i32::from(odd >> 4) } else { 0 },
            term: near(input, message.term),
            index: if odd == 1 { near(input, first) } else { first.wrapping_add(1 + at) },
            data: Bytes::copy_from_slice(input.bytes()),
        });
    }
    if input.u8() & 15 == 15 {
        let conf_state = ConfState { voters: vec![MEMBER, MEMBER + u64::from(input.u8() % 4)], ..Default::default() };
        let metadata = SnapshotMetadata {
            conf_state: Some(conf_state),
            index: near(input, last),
            term: near(input, published.term),
        };
        message.snapshot = Some(Snapshot { data: Bytes::copy_from_slice(input.bytes()), metadata: Some(metadata) });
    }
    if input.flag() {
        message.context = Bytes::copy_from_slice(input.bytes());
    }
    message
}
