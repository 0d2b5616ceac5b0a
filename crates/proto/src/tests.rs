//! Wire bytes, worked out by hand from tags and types, against ours.

use crate::etcdserverpb::{
    self, FeatureLevelSetRequest, InternalRaftRequest, LeaseGrantRequest, PutRequest, RangeRequest, RequestHeader,
};
use crate::membershippb::{ClusterMemberAttrSetRequest, ClusterVersionSetRequest};
use crate::mvccpb::{Event, KeyValue, event::EventType};
use crate::raftpb::{self, ConfChange, ConfChangeType, ConfState, Entry, EntryType, HardState, MessageType};
use bytes::Bytes;
use prost::Message;
use std::fmt::Debug;

/// The tag numbers of the top-level fields of `bytes`, in order of appearance.
fn field_numbers(bytes: &[u8]) -> Vec<u64> {
    let mut rest = bytes;
    let mut numbers = Vec::new();
    while !rest.is_empty() {
        let key = prost::decode_length_delimiter(rest).unwrap() as u64;
        rest = &rest[prost::length_delimiter_len(key as usize)..];
        numbers.push(key >> 3);
        let value = prost::decode_length_delimiter(rest).unwrap();
        rest = &rest[prost::length_delimiter_len(value)..];
        if key & 7 == 2 {
            rest = &rest[value..];
        }
    }
    numbers
}

fn round_trip<M: Message + Default + PartialEq + Debug>(message: &M, wire: &[u8]) {
    assert_eq!(message.encode_to_vec(), wire, "{message:?}");
    assert_eq!(&M::decode(wire).unwrap(), message);
}

#[test]
fn key_value_is_what_go_writes() {
    let full = KeyValue {
        key: "foo".into(),
        create_revision: 2,
        mod_revision: 300,
        version: 5,
        value: "bar".into(),
        lease: -1,
    };
    let mut wire = b"\x0a\x03foo\x10\x02\x18\xac\x02\x20\x05\x2a\x03bar\x30".to_vec();
    wire.extend([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]);
    round_trip(&full, &wire);
    // Zero fields are left out; a tombstone's record is the key alone.
    round_trip(&KeyValue { key: "foo".into(), ..Default::default() }, b"\x0a\x03foo");
}

#[test]
fn put_event_omits_its_type() {
    let kv = KeyValue { key: "k".into(), mod_revision: 7, ..Default::default() };
    let put = Event { r#type: EventType::Put as i32, kv: Some(kv.clone()), prev_kv: None };
    round_trip(&put, b"\x12\x05\x0a\x01k\x18\x07");
    let delete = Event { r#type: EventType::Delete as i32, kv: Some(kv.clone()), prev_kv: Some(kv) };
    round_trip(&delete, b"\x08\x01\x12\x05\x0a\x01k\x18\x07\x1a\x05\x0a\x01k\x18\x07");
}

#[test]
fn an_empty_but_present_message_is_sent() {
    let request = InternalRaftRequest { range: Some(Box::new(RangeRequest::default())), ..Default::default() };
    round_trip(&request, b"\x1a\x00");
}

#[test]
fn log_request_field_numbers_are_d7() {
    let request = InternalRaftRequest {
        id: 1,
        header: Some(RequestHeader { id: 9, username: "root".into(), auth_revision: 3 }),
        put: Some(Box::new(PutRequest { key: "k".into(), ..Default::default() })),
        ..Default::default()
    };
    // Field 100 comes last: tags are written in ascending order.
    round_trip(&request, b"\x08\x01\x22\x03\x0a\x01k\xa2\x06\x0a\x08\x09\x12\x04root\x18\x03");

    let all = InternalRaftRequest {
        id: 1,
        header: Some(Default::default()),
        range: Some(Default::default()),
        put: Some(Default::default()),
        delete_range: Some(Default::default()),
        txn: Some(Default::default()),
        compaction: Some(Default::default()),
        lease_grant: Some(Box::new(LeaseGrantRequest { ttl: 1, id: 2 })),
        lease_revoke: Some(Default::default()),
        alarm: Some(Default::default()),
        lease_checkpoint: Some(Default::default()),
        auth_enable: Some(Default::default()),
        auth_disable: Some(Default::default()),
        authenticate: Some(Default::default()),
        auth_status: Some(Default::default()),
        auth_user_add: Some(Default::default()),
        auth_user_delete: Some(Default::default()),
        auth_user_get: Some(Default::default()),
        auth_user_change_password: Some(Default::default()),
        auth_user_grant_role: Some(Default::default()),
        auth_user_revoke_role: Some(Default::default()),
        auth_user_list: Some(Default::default()),
        auth_role_list: Some(Default::default()),
        auth_role_add: Some(Default::default()),
        auth_role_delete: Some(Default::default()),
        auth_role_get: Some(Default::default()),
        auth_role_grant_permission: Some(Default::default()),
        auth_role_revoke_permission: Some(Default::default()),
        cluster_version_set: Some(Box::new(ClusterVersionSetRequest { ver: "3.7.0".into() })),
        cluster_member_attr_set: Some(Box::new(ClusterMemberAttrSetRequest::default())),
        downgrade_info_set: Some(Default::default()),
        downgrade_version_test: Some(Default::default()),
        feature_level_set: Some(FeatureLevelSetRequest { level: 1 }),
    };
    let wire = all.encode_to_vec();
    assert_eq!(
        field_numbers(&wire),
        [
            1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 100, 1000, 1011, 1012, 1013, 1100, 1101, 1102, 1103, 1104, 1105, 1106,
            1107, 1200, 1201, 1202, 1203, 1204, 1300, 1301, 1302, 9900, 20001
        ]
    );
    assert_eq!(InternalRaftRequest::decode(&wire[..]).unwrap(), all);
}

#[test]
fn log_request_is_small() {
    assert!(size_of::<InternalRaftRequest>() <= 320, "{}", size_of::<InternalRaftRequest>());
}

#[test]
fn explicit_zeros_of_go_are_read() {
    // Go writes Type, Term, Index even when zero.
    let entry = Entry::decode(&b"\x08\x00\x10\x03\x18\x00\x22\x02ab"[..]).unwrap();
    assert_eq!(entry, Entry { r#type: EntryType::EntryNormal as i32, term: 3, index: 0, data: "ab".into() });
    round_trip(&HardState { term: 2, vote: 3, commit: 300 }, b"\x08\x02\x10\x03\x18\xac\x02");
}

#[test]
fn conf_state_is_unpacked_and_both_forms_are_read() {
    let state = ConfState { voters: vec![1, 2], learners: vec![3], ..Default::default() };
    round_trip(&state, b"\x08\x01\x08\x02\x10\x03");
    assert_eq!(ConfState::decode(&b"\x0a\x02\x01\x02\x12\x01\x03\x28\x00"[..]).unwrap(), state);
}

#[test]
fn conf_change_numbers_are_etcds() {
    assert_eq!(ConfChangeType::ConfChangeUpdateNode as i32, 2);
    assert_eq!(ConfChangeType::ConfChangeAddLearnerNode as i32, 3);
    let change =
        ConfChange { id: 7, r#type: ConfChangeType::ConfChangeAddLearnerNode as i32, node_id: 5, context: "{}".into() };
    round_trip(&change, b"\x08\x07\x10\x03\x18\x05\x22\x02{}");
    assert_eq!(MessageType::MsgForgetLeader as i32, 23);
}

#[test]
fn peer_message_field_numbers() {
    let message = raftpb::Message {
        r#type: MessageType::MsgApp as i32,
        to: 1,
        from: 2,
        term: 3,
        log_term: 4,
        index: 5,
        entries: vec![Entry::default()],
        commit: 8,
        snapshot: Some(Default::default()),
        reject: true,
        reject_hint: 11,
        context: "c".into(),
        vote: 13,
        responses: vec![raftpb::Message::default()],
    };
    let wire = message.encode_to_vec();
    assert_eq!(field_numbers(&wire), (1..=14).collect::<Vec<u64>>());
    assert_eq!(raftpb::Message::decode(&wire[..]).unwrap(), message);
}

#[test]
fn fields_newer_than_3_5() {
    let hash = etcdserverpb::HashKvResponse { hash: 1, compact_revision: 2, hash_revision: 3, header: None };
    round_trip(&hash, b"\x10\x01\x18\x02\x20\x03");
    let status = etcdserverpb::StatusResponse {
        storage_version: "3.7.0".into(),
        db_size_quota: 1,
        downgrade_info: Some(etcdserverpb::DowngradeInfo { enabled: true, target_version: "3.6".into() }),
        ..Default::default()
    };
    round_trip(&status, b"\x5a\x053.7.0\x60\x01\x6a\x07\x08\x01\x12\x033.6");
    let chunk = etcdserverpb::RangeStreamResponse {
        range_response: Some(etcdserverpb::RangeResponse { count: 1, ..Default::default() }),
    };
    round_trip(&chunk, b"\x0a\x02\x20\x01");
}

#[test]
fn bytes_fields_share_the_buffer() {
    let wire = Bytes::from_static(b"\x0a\x03foo\x2a\x03bar");
    let kv = KeyValue::decode(wire.clone()).unwrap();
    assert_eq!(kv.value.as_ptr(), wire[7..].as_ptr());
}

#[test]
fn watch_events_are_field_11_and_range_end_of_compare_64() {
    let response = etcdserverpb::WatchResponse { events: vec![Event::default()], ..Default::default() };
    round_trip(&response, b"\x5a\x00");
    let compare = etcdserverpb::Compare { range_end: "z".into(), ..Default::default() };
    round_trip(&compare, b"\x82\x04\x01z");
}
