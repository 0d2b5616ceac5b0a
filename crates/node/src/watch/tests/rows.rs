//! The rows of the contract's section on watches.

use super::*;

fn world() -> (World, StreamKey) {
    let mut world = World::new(HubOptions::default());
    let stream = world.hub.open();
    (world, stream)
}

fn said(world: &mut World, stream: StreamKey) -> Vec<String> {
    lines(&world.take(stream))
}

#[test]
fn w1_ids_are_counted_and_those_in_use_skipped() {
    let (mut world, stream) = world();
    for watch_id in [0, 2, 0, 0, -1, 2] {
        world.create(stream, Create { watch_id, ..on("a") });
    }
    assert_eq!(
        said(&mut world, stream),
        [
            "0@1 created",
            "2@1 created",
            "1@1 created",
            "3@1 created",
            "-1@1 created",
            "-1@1 created canceled mvcc: duplicate watch ID provided on the WatchStream",
        ]
    );
    world.hub.cancel(stream, 2, &mut world.received);
    world.create(stream, Create { watch_id: 2, ..on("a") });
    world.create(stream, on("a"));
    assert_eq!(said(&mut world, stream), ["2@1 canceled", "2@1 created", "4@1 created"]);
}

#[test]
fn w2_created_comes_first_with_the_stores_revision() {
    let (mut world, stream) = world();
    world.put("a", "1");
    world.create(stream, Create { start_revision: 1, ..on("a") });
    world.settle();
    let responses = world.take(stream);
    assert_eq!(lines(&responses), ["0@2 created", "0@2 a=1:2"]);
    let header = responses[0].header.as_ref().unwrap();
    assert_eq!((header.cluster_id, header.member_id, header.raft_term), (11, 12, 3));
}

#[test]
fn w2_a_picture_ahead_of_the_hub_is_the_present() {
    let (mut world, stream) = world();
    world.write(|txn| _ = txn.put(b"a", b"1", 0));
    world.publish();
    world.create(stream, on("a"));
    world.create(stream, Create { start_revision: 2, ..on("a") });
    world.tell();
    world.put("a", "2");
    assert_eq!(said(&mut world, stream), ["0@2 created", "1@2 created", "1@2 a=1:2", "0@3 a=2:3", "1@3 a=2:3"]);
}

#[test]
fn w3_keys_and_ranges() {
    let (mut world, stream) = world();
    let empty = "-1@1 created canceled mvcc: watcher range is empty";
    world.create(stream, over("b", "a"));
    world.create(stream, over("b", "b"));
    world.create(stream, over("", "\0"));
    world.create(stream, over("b", "\0"));
    world.create(stream, over("b", "c"));
    world.create(stream, on(""));
    assert_eq!(said(&mut world, stream), [empty, empty, "0@1 created", "1@1 created", "2@1 created", "3@1 created"]);
    for key in ["\0", "a", "b", "bz", "c"] {
        world.put(key, "");
    }
    let mut seen: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
    for response in world.take(stream) {
        let revisions = response.events.iter().map(|event| event.kv.as_ref().unwrap().mod_revision);
        seen.entry(response.watch_id).or_default().extend(revisions);
    }
    let expected = [(0, vec![2, 3, 4, 5, 6]), (1, vec![4, 5, 6]), (2, vec![4, 5]), (3, vec![2])];
    assert_eq!(seen, expected.into_iter().collect());
}

#[test]
fn w4_a_negative_start_is_refused_as_compacted() {
    let (mut world, stream) = world();
    world.create(stream, Create { start_revision: -1, ..on("a") });
    let expected = "-1@1 created canceled etcdserver: mvcc: required revision has been compacted";
    assert_eq!(said(&mut world, stream), [expected]);
}

#[test]
fn w5_starts_now_in_the_past_and_in_the_future() {
    let (mut world, stream) = world();
    world.put("a", "1");
    world.put("a", "2");
    world.create(stream, on("a"));
    world.create(stream, Create { start_revision: 2, ..on("a") });
    world.create(stream, Create { start_revision: 5, ..on("a") });
    world.settle();
    assert_eq!(said(&mut world, stream), ["0@3 created", "1@3 created", "2@3 created", "1@3 a=1:2 a=2:3"]);
    world.put("a", "3");
    assert_eq!(said(&mut world, stream), ["0@4 a=3:4", "1@4 a=3:4"]);
    world.put("a", "4");
    let mut last = said(&mut world, stream);
    last.sort();
    assert_eq!(last, ["0@5 a=4:5", "1@5 a=4:5", "2@5 a=4:5"]);
}

#[test]
fn w5_history_beyond_the_ring_is_read_from_the_log() {
    let mut world = World::new(HubOptions { ring_batches: 2, slice_bytes: 64, ..HubOptions::default() });
    let stream = world.hub.open();
    for i in 0..50 {
        world.put("a", &i.to_string());
    }
    world.create(stream, Create { start_revision: 2, ..on("a") });
    world.settle();
    world.put("a", "last");
    let revisions: Vec<i64> = world
        .take(stream)
        .iter()
        .flat_map(|r| &r.events)
        .map(|event| event.kv.as_ref().unwrap().mod_revision)
        .collect();
    assert_eq!(revisions, (2..=52).collect::<Vec<_>>());
}

#[test]
fn w6_a_compacted_start_is_created_then_canceled_with_header_revision_0() {
    let (mut world, stream) = world();
    for i in 0..5 {
        world.put("a", &i.to_string());
    }
    world.compact(4);
    world.create(stream, Create { start_revision: 3, ..on("a") });
    world.create(stream, Create { start_revision: 4, ..on("a") });
    world.settle();
    let responses = world.take(stream);
    assert_eq!(lines(&responses), ["0@6 created", "0@0 canceled compact=4", "1@6 created", "1@6 a=2:4 a=3:5 a=4:6"]);
    let header = responses[1].header.as_ref().unwrap();
    assert_eq!((header.cluster_id, header.member_id, header.raft_term), (11, 12, 3));
    // The id stays taken until the client cancels it.
    world.create(stream, Create { watch_id: 0, ..on("a") });
    world.hub.cancel(stream, 0, &mut world.received);
    world.hub.cancel(stream, 0, &mut world.received);
    assert_eq!(said(&mut world, stream), ["2@6 created", "0@6 canceled"]);
    assert_eq!(world.hub.stats().slow, 0);
}

#[test]
fn w6_a_slow_stream_is_canceled_when_neither_ring_nor_history_has_its_place() {
    let mut world = World::new(HubOptions { ring_batches: 2, ..HubOptions::default() });
    let stream = world.hub.open();
    world.create(stream, on("a"));
    world.create(stream, on("b"));
    world.hub.full(stream);
    for i in 0..5 {
        world.put("a", &i.to_string());
    }
    world.compact(5);
    world.hub.drained(stream);
    world.settle();
    world.put("b", "x");
    let said = said(&mut world, stream);
    assert_eq!(said, ["0@1 created", "1@1 created", "0@0 canceled compact=5", "1@7 b=x:7"]);
}

#[test]
fn w7_a_refusal_carries_its_reason() {
    let (mut world, stream) = world();
    world.hub.refuse(stream, "rpc error: no", &mut world.received);
    assert_eq!(said(&mut world, stream), ["-1@1 created canceled rpc error: no"]);
}

#[test]
fn w8_filters() {
    let (mut world, stream) = world();
    world.create(stream, Create { no_put: true, ..over("a", "z") });
    world.create(stream, Create { no_delete: true, ..over("a", "z") });
    world.create(stream, Create { no_put: true, no_delete: true, ..over("a", "z") });
    world.take(stream);
    world.put("a", "1");
    world.delete("a", "");
    assert_eq!(said(&mut world, stream), ["1@2 a=1:2", "0@3 -a:3"]);
    world.write(|txn| {
        txn.put(b"a", b"2", 0);
        txn.put(b"b", b"2", 0);
    });
    world.write(|txn| {
        txn.delete_range(b"a", b"", &mut |_, _| {});
        txn.put(b"c", b"3", 0);
    });
    world.tell();
    assert_eq!(said(&mut world, stream), ["0@5 -a:5", "1@5 a=2:4 b=2:4 c=3:5"]);
}

#[test]
fn w9_previous_pairs() {
    let (mut world, stream) = world();
    world.create(stream, Create { prev_kv: true, ..over("a", "z") });
    world.put("a", "1");
    world.put("a", "2");
    world.delete("a", "");
    world.put("a", "3");
    assert_eq!(said(&mut world, stream)[1..], ["0@2 a=1:2", "0@3 a=2:3(1:2)", "0@4 -a:4(2:3)", "0@5 a=3:5"]);
    world.put("a", "4");
    world.put("a", "5");
    world.compact(6);
    world.take(stream);
    world.create(stream, Create { prev_kv: true, start_revision: 6, ..on("a") });
    world.settle();
    // What was before the watermark is gone.
    assert_eq!(said(&mut world, stream), ["1@7 created", "1@7 a=4:6 a=5:7(4:6)"]);
}

#[test]
fn w10_large_responses_come_in_parts() {
    let mut world = World::new(HubOptions { fragment_bytes: 1_000, ..HubOptions::default() });
    let stream = world.hub.open();
    world.create(stream, Create { fragment: true, ..over("a", "z") });
    world.create(stream, over("a", "z"));
    world.take(stream);
    let value = "x".repeat(300);
    world.write(|txn| {
        for key in ["a", "b", "c", "d", "e", "f", "g"] {
            txn.put(key.as_bytes(), value.as_bytes(), 0);
        }
    });
    world.tell();
    let responses = world.take(stream);
    let shape = |id| -> Vec<_> {
        responses
            .iter()
            .filter(|r| r.watch_id == id)
            .map(|r| (r.events.len(), r.fragment, r.encoded_len() < 1_000))
            .collect()
    };
    assert_eq!(shape(0), [(3, true, true), (3, true, true), (1, false, true)]);
    assert_eq!(shape(1), [(7, false, false)]);
    // One event alone is never split, and marks nothing.
    world.put("a", &"y".repeat(5_000));
    let responses = world.take(stream);
    assert_eq!(responses.iter().map(|r| (r.events.len(), r.fragment)).collect::<Vec<_>>(), [(1, false), (1, false)]);
}

#[test]
fn w10_parts_fill_up_to_the_limit_and_not_beyond() {
    // Header and id, then events of 100 bytes each with tag and length: the limit itself is too much.
    let event = |i: u8| {
        let mut event = vec![(11 << 3) | 2, 98];
        event.extend_from_slice(&[i; 98]);
        event
    };
    let events: Bytes = (0..10).flat_map(event).collect::<Vec<u8>>().into();
    let head = super::super::encode::Head::new(&ORIGIN, 5).id(1);
    let marked = head.bytes().len() + 2;
    for (limit, expected) in [
        (marked + 301, vec![300, 300, 300, 100]),
        (marked + 300, vec![200, 200, 200, 200, 200]),
        (1, vec![100; 10]),
        (marked + 1_000, vec![1_000]),
        (marked - 2 + 1_001, vec![1_000]),
        (marked - 2 + 1_000, vec![900, 100]),
    ] {
        let mut head = super::super::encode::Head::new(&ORIGIN, 5).id(1);
        let mut parts = Vec::new();
        super::super::encode::fragments(&mut head, &events, limit, |head, events| {
            parts.push((events.len(), head.bytes().ends_with(&[7 << 3, 1])));
        });
        assert_eq!(parts.iter().map(|part| part.0).collect::<Vec<_>>(), expected, "limit {limit}");
        let marks: Vec<bool> = parts.iter().map(|part| part.1).collect();
        let last = marks.len() - 1;
        assert!(marks[..last].iter().all(|mark| *mark) && !marks[last], "limit {limit}");
    }
}

#[test]
fn w12_a_revision_is_never_split_over_responses() {
    let mut world = World::new(HubOptions { response_bytes: 1, slice_bytes: 1, ..HubOptions::default() });
    let stream = world.hub.open();
    world.create(stream, over("a", "z"));
    for _ in 0..2 {
        world.write(|txn| {
            txn.put(b"b", b"1", 0);
            txn.put(b"a", b"1", 0);
        });
    }
    world.tell();
    assert_eq!(said(&mut world, stream), ["0@1 created", "0@2 b=1:2 a=1:2", "0@3 b=1:3 a=1:3"]);
    world.create(stream, Create { start_revision: 2, ..over("a", "z") });
    world.settle();
    assert_eq!(said(&mut world, stream), ["1@3 created", "1@3 b=1:2 a=1:2", "1@3 b=1:3 a=1:3"]);
}

#[test]
fn w13_a_delete_has_key_and_revision_only() {
    let (mut world, stream) = world();
    world.create(stream, on("a"));
    world.put("a", "1");
    world.delete("a", "");
    let responses = world.take(stream);
    let kv = responses[2].events[0].kv.clone().unwrap();
    assert_eq!(kv, cetera_proto::mvccpb::KeyValue { key: "a".into(), mod_revision: 3, ..Default::default() });
}

#[test]
fn w14_cancel() {
    let (mut world, stream) = world();
    world.create(stream, on("a"));
    world.create(stream, Create { start_revision: 9, ..on("a") });
    world.hub.cancel(stream, 5, &mut world.received);
    world.hub.cancel(stream, 0, &mut world.received);
    world.put("a", "1");
    world.hub.cancel(stream, 1, &mut world.received);
    assert_eq!(said(&mut world, stream), ["0@1 created", "1@1 created", "0@1 canceled", "1@2 canceled"]);
}

#[test]
fn w15_progress_of_a_stream() {
    let (mut world, stream) = world();
    world.hub.progress(stream, &mut world.received);
    world.put("a", "1");
    world.create(stream, on("a"));
    world.create(stream, Create { start_revision: 4, ..on("b") });
    world.hub.progress(stream, &mut world.received);
    // A start in the future: no answer until the store is there.
    assert_eq!(said(&mut world, stream), ["0@2 created", "1@2 created"]);
    world.put("x", "1");
    world.put("x", "2");
    world.hub.progress(stream, &mut world.received);
    assert_eq!(said(&mut world, stream), ["-1@4"]);
    world.create(stream, Create { start_revision: 2, ..on("a") });
    world.hub.progress(stream, &mut world.received);
    assert_eq!(said(&mut world, stream), ["2@4 created"]);
    world.settle();
    world.hub.progress(stream, &mut world.received);
    assert_eq!(said(&mut world, stream), ["2@4 a=1:2", "-1@4"]);
}

#[test]
fn w15_progress_waits_for_events_under_way() {
    let (mut world, stream) = world();
    world.create(stream, on("a"));
    world.write(|txn| _ = txn.put(b"a", b"1", 0));
    world.publish();
    world.hub.progress(stream, &mut world.received);
    assert_eq!(said(&mut world, stream), ["0@1 created"]);
    world.tell();
    assert_eq!(said(&mut world, stream), ["0@2 a=1:2", "-1@2"]);
    // Answered once.
    world.put("b", "1");
    assert_eq!(said(&mut world, stream), Vec::<String>::new());
}

#[test]
fn w16_progress_notifications() {
    let mut world = World::new(HubOptions { notify_ms: 1_000, seed: 5, ..HubOptions::default() });
    let stream = world.hub.open();
    world.create(stream, Create { progress_notify: true, ..on("a") });
    world.create(stream, on("a"));
    world.create(stream, Create { progress_notify: true, start_revision: 4, ..on("b") });
    world.take(stream);
    world.hub.tick(999, &mut world.received);
    assert_eq!(said(&mut world, stream), Vec::<String>::new());
    // At most a tenth later.
    world.hub.tick(1_100, &mut world.received);
    assert_eq!(said(&mut world, stream), ["0@1"]);
    // An event in the interval stands for it.
    world.put("a", "1");
    world.hub.tick(2_300, &mut world.received);
    assert_eq!(said(&mut world, stream), ["0@2 a=1:2", "1@2 a=1:2"]);
    world.put("x", "1");
    world.put("x", "1");
    world.hub.tick(3_500, &mut world.received);
    assert_eq!(said(&mut world, stream), ["0@4", "2@4"]);
    world.hub.cancel(stream, 0, &mut world.received);
    world.hub.cancel(stream, 2, &mut world.received);
    world.take(stream);
    world.hub.tick(9_000, &mut world.received);
    assert_eq!(said(&mut world, stream), Vec::<String>::new());
}

#[test]
fn w19_a_slow_stream_slows_itself_only_and_loses_nothing() {
    let mut world = World::new(HubOptions { ring_batches: 3, ..HubOptions::default() });
    let (slow, quick) = (world.hub.open(), world.hub.open());
    world.create(slow, on("a"));
    world.create(quick, on("a"));
    world.take(slow);
    world.take(quick);
    world.hub.full(slow);
    for i in 0..10 {
        world.put("a", &i.to_string());
        assert_eq!(world.take(quick).len(), 1);
    }
    assert!(world.take(slow).is_empty());
    assert!(!world.hub.pending(), "a full stream is nothing to turn for");
    assert_eq!(world.hub.stats().slow, 1);
    world.hub.drained(slow);
    world.settle();
    let events: Vec<i64> =
        world.take(slow).iter().flat_map(|r| &r.events).map(|event| event.kv.as_ref().unwrap().mod_revision).collect();
    assert_eq!(events, (2..=11).collect::<Vec<_>>());
    assert_eq!(world.hub.stats().slow, 0);
}

#[test]
fn w19_a_turn_sends_a_bounded_amount_to_one_stream() {
    let mut world = World::new(HubOptions { stream_turn_bytes: 1_000, ..HubOptions::default() });
    let stream = world.hub.open();
    for _ in 0..100 {
        world.create(stream, on("a"));
    }
    world.take(stream);
    world.put("a", &"x".repeat(100));
    let mut sent = world.take(stream);
    assert!((5..20).contains(&sent.len()), "{}", sent.len());
    while world.hub.pending() {
        world.publish();
        world.hub.turn(&mut world.received);
        let more = world.take(stream);
        assert!(more.len() < 20, "{}", more.len());
        sent.extend(more);
    }
    let mut ids: Vec<i64> = sent.iter().map(|response| response.watch_id).collect();
    ids.sort_unstable();
    assert_eq!(ids, (0..100).collect::<Vec<_>>());
}

#[test]
fn w21_missing_changes_are_read_from_history() {
    let (mut world, stream) = world();
    world.create(stream, on("a"));
    world.put("a", "1");
    world.put("a", "2");
    world.write(|txn| _ = txn.put(b"a", b"3", 0));
    // A snapshot brought this one; nobody told the hub.
    world.waiting.clear();
    world.put("a", "4");
    world.settle();
    world.put("a", "5");
    assert_eq!(said(&mut world, stream), ["0@1 created", "0@2 a=1:2", "0@3 a=2:3", "0@5 a=3:4 a=4:5", "0@6 a=5:6"]);
}

#[test]
fn a_hub_without_streams_need_not_be_told() {
    let (mut world, gone) = world();
    world.create(gone, on("a"));
    world.put("a", "1");
    world.take(gone);
    world.hub.close(gone);
    assert!(!world.hub.wants_changes());
    for value in ["2", "3"] {
        world.write(|txn| _ = txn.put(b"a", value.as_bytes(), 0));
    }
    world.waiting.clear();
    world.publish();
    let stream = world.hub.open();
    assert!(world.hub.wants_changes());
    world.create(stream, on("a"));
    world.create(stream, Create { start_revision: 2, ..on("a") });
    world.create(stream, Create { start_revision: 6, ..on("a") });
    world.settle();
    let created = ["0@4 created", "1@4 created", "2@4 created", "1@4 a=1:2 a=2:3 a=3:4"];
    assert_eq!(said(&mut world, stream), created);
    world.put("a", "4");
    world.put("a", "5");
    assert_eq!(said(&mut world, stream), ["0@5 a=4:5", "1@5 a=4:5", "0@6 a=5:6", "2@6 a=5:6", "1@6 a=5:6"]);
}

#[test]
fn a_hub_that_begins_anew_is_not_misled_by_what_was_under_way() {
    let (mut world, gone) = world();
    world.put("a", "1");
    // Of a state that was ahead, then replaced; the last stream ended before any of it arrived.
    let ahead = EventBatch { events: vec![], revision: 9, applied_index: world.applied_index + 1 };
    let replaced = EventBatch { events: vec![], revision: 1, applied_index: world.applied_index + 2 };
    world.applied_index += 2;
    world.hub.close(gone);
    world.write(|txn| _ = txn.put(b"a", b"2", 0));
    world.waiting.clear();
    world.publish();
    let stream = world.hub.open();
    world.create(stream, Create { start_revision: 2, ..on("a") });
    world.settle();
    for batch in [ahead, replaced] {
        world.deliver(&Arc::new(batch));
    }
    world.put("a", "3");
    world.settle();
    assert_eq!(said(&mut world, stream), ["0@3 created", "0@3 a=1:2 a=2:3", "0@4 a=3:4"]);
}

#[test]
fn a_state_replaced_at_the_index_the_hub_began_from_is_heard_of() {
    let (mut world, gone) = world();
    world.put("a", "1");
    world.put("a", "2");
    world.hub.close(gone);
    world.publish();
    world.hub.open();
    assert_eq!(world.hub.head(), 4);
    world.deliver(&Arc::new(EventBatch { events: vec![], revision: 2, applied_index: world.applied_index }));
    assert_eq!(world.hub.head(), 3);
}

#[test]
fn what_waited_while_its_state_was_replaced_is_not_told() {
    let (mut world, stream) = world();
    world.put("a", "1");
    world.create(stream, on("a"));
    let replacement = world.store.view().expect("a good disk");
    world.write(|txn| _ = txn.put(b"a", b"2", 0));
    let ahead = world.batch();
    world.applied_index += 1;
    world.hub.begin_turn(&replacement, world.applied_index, ORIGIN);
    world.deliver(&ahead);
    let told = EventBatch { events: vec![], revision: replacement.revision(), applied_index: world.applied_index };
    world.deliver(&Arc::new(told));
    assert_eq!(said(&mut world, stream), ["0@2 created"]);
    assert_eq!(world.hub.head(), 3);
}

#[test]
#[should_panic(expected = "the picture of a change is published before the change")]
fn a_change_before_its_picture_is_refused() {
    let (mut world, _stream) = world();
    world.write(|txn| _ = txn.put(b"a", b"1", 0));
    let early = world.batch();
    world.deliver(&early);
}

#[test]
fn a_closed_stream_leaves_nothing() {
    let (mut world, stream) = world();
    let other = world.hub.open();
    world.put("a", "1");
    for create in [on("a"), over("a", "z"), Create { start_revision: 2, progress_notify: true, ..on("a") }] {
        world.create(stream, create.clone());
        world.create(other, create);
    }
    world.hub.full(stream);
    world.put("a", "2");
    world.hub.close(stream);
    world.take(stream);
    world.settle();
    world.put("a", "3");
    world.hub.tick(10_000_000, &mut world.received);
    assert!(world.take(stream).is_empty());
    let stats = world.hub.stats();
    assert_eq!((stats.streams, stats.watchers, stats.slow), (1, 3, 0));
}

#[test]
fn a_log_that_cannot_be_read_ends_the_streams_that_need_it() {
    let mut world = World::new(HubOptions { ring_batches: 1, ..HubOptions::default() });
    let (reader, live) = (world.hub.open(), world.hub.open());
    for i in 0..10 {
        world.put("a", &"x".repeat(100 + i));
    }
    world.create(live, on("a"));
    let file = world.vfs.list(Path::new("log")).expect("the log's directory").remove(0);
    world.vfs.flip(&Path::new("log").join(file), 300, 0xff);
    world.create(reader, Create { start_revision: 2, ..on("a") });
    world.settle();
    assert_eq!(world.received.broken, [reader]);
    world.put("a", "live");
    assert_eq!(said(&mut world, live), ["0@11 created", "0@12 a=live:12"]);
}
