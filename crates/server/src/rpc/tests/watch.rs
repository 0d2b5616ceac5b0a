//! Watch streams through the services, against a real node.

use cetera_proto::etcdserverpb::watch_request::RequestUnion;

use super::*;

const WATCH: &str = "/etcdserverpb.Watch/Watch";

fn create(key: &'static str) -> WatchRequest {
    request(RequestUnion::CreateRequest(WatchCreateRequest { key: key.into(), ..Default::default() }))
}

fn request(union: RequestUnion) -> WatchRequest {
    WatchRequest { request_union: Some(union) }
}

impl Harness {
    fn watch(&mut self, key: &'static str) -> CallId {
        self.call(WATCH, &create(key))
    }

    /// What a stream has been sent since the last time: watch id, header's revision, revisions of the events.
    fn told(&mut self, call: CallId) -> Vec<(i64, i64, Vec<i64>)> {
        let told = self.front.take_messages(call).into_iter().map(|message| {
            let response = WatchResponse::decode(message).expect("a response");
            let header = response.header.expect("a header");
            assert_eq!((header.cluster_id, header.member_id), (CLUSTER, MEMBER));
            let events = response.events.iter().map(|event| event.kv.as_ref().expect("a pair").mod_revision);
            (response.watch_id, header.revision, events.collect())
        });
        told.collect()
    }
}

#[test]
fn changes_reach_all_watchers_of_all_streams() {
    let mut harness = Harness::new();
    let (one, two) = (harness.watch("a"), harness.watch("a"));
    harness.front.send(one, &create("a"));
    harness.front.send(one, &create("b"));
    harness.turn();
    assert_eq!(harness.told(one), [(0, 1, vec![]), (1, 1, vec![]), (2, 1, vec![])]);
    assert_eq!(harness.told(two), [(0, 1, vec![])]);
    harness.put("a", "1");
    harness.put("b", "1");
    assert_eq!(harness.told(one), [(0, 2, vec![2]), (1, 2, vec![2]), (2, 3, vec![3])]);
    assert_eq!(harness.told(two), [(0, 2, vec![2])]);
    harness.front.send(one, &request(RequestUnion::CancelRequest(WatchCancelRequest { watch_id: 0 })));
    harness.front.send(one, &request(RequestUnion::ProgressRequest(WatchProgressRequest {})));
    harness.turn();
    harness.put("a", "2");
    assert_eq!(harness.told(one), [(0, 3, vec![]), (-1, 3, vec![]), (1, 4, vec![4])]);
}

#[test]
fn a_front_is_told_of_changes_while_it_has_streams() {
    let mut harness = Harness::new();
    let wants = |harness: &Harness| harness.node.0.borrow().wants_changes;
    harness.put("a", "1");
    assert!(!wants(&harness));
    let one = harness.watch("a");
    let two = harness.front.open(WATCH, CallMetadata::default());
    harness.put("a", "2");
    assert_eq!(harness.told(one), [(0, 2, vec![]), (0, 3, vec![3])]);
    harness.front.cancel(one);
    harness.turn();
    assert!(wants(&harness), "a stream without watchers may ask for progress");
    harness.front.cancel(two);
    harness.turn();
    assert!(!wants(&harness));
    harness.put("a", "3");
    let call = harness.watch("a");
    let past = WatchCreateRequest { key: "a".into(), start_revision: 3, ..Default::default() };
    harness.front.send(call, &request(RequestUnion::CreateRequest(past)));
    harness.turn();
    assert_eq!(harness.told(call), [(0, 4, vec![]), (1, 4, vec![]), (1, 4, vec![3, 4])]);
    harness.put("a", "4");
    assert_eq!(harness.told(call), [(0, 5, vec![5]), (1, 5, vec![5])]);
}

#[test]
fn a_change_right_before_the_first_stream_is_not_lost() {
    let mut harness = Harness::new();
    let before = harness.node.published();
    harness.put("a", "1");
    {
        // The node has written, and found nobody to tell, while the front took its calls.
        let inner = &mut *harness.node.0.borrow_mut();
        inner.published_then = Some(std::mem::replace(&mut inner.published, before));
    }
    let past = WatchCreateRequest { key: "a".into(), start_revision: 2, ..Default::default() };
    let call = harness.call(WATCH, &request(RequestUnion::CreateRequest(past)));
    harness.put("a", "2");
    assert_eq!(harness.told(call), [(0, 2, vec![]), (0, 2, vec![2]), (0, 3, vec![3])]);
}

#[test]
fn history_is_told_in_the_turn_of_the_request() {
    let mut harness = Harness::new();
    harness.put("a", "1");
    harness.put("a", "2");
    let past = WatchCreateRequest { key: "a".into(), start_revision: 2, ..Default::default() };
    let call = harness.front.call(WATCH, &request(RequestUnion::CreateRequest(past)));
    harness.front.turn(&mut Vec::new());
    assert_eq!(harness.told(call), [(0, 3, vec![]), (0, 3, vec![2, 3])]);
}

#[test]
fn w17_a_request_of_no_kind_is_ignored_and_one_that_is_no_message_ends_the_stream() {
    let mut harness = Harness::new();
    let call = harness.watch("a");
    harness.front.send(call, &WatchRequest { request_union: None });
    harness.put("a", "1");
    assert_eq!(harness.told(call), [(0, 1, vec![]), (0, 2, vec![2])]);
    assert_eq!(harness.front.answer(call).status, None);
    harness.front.send(call, &create("b"));
    // A WatchRequest's field 1 that is cut off.
    harness.front.send(call, &Unfinished);
    harness.turn();
    assert_eq!(harness.told(call), [(1, 2, vec![])]);
    let status = harness.front.answer(call).status.clone().expect("the stream ended");
    assert_eq!((status.code, status.message.starts_with("grpc: failed to unmarshal")), (13, true));
    // Nobody is told of what comes now.
    harness.put("a", "2");
    assert_eq!(harness.front.services().watch.stats().watchers, 0);
}

#[test]
fn w18_a_stream_outlives_its_requests_but_not_its_client() {
    let mut harness = Harness::new();
    let call = harness.watch("a");
    harness.front.half_close(call);
    harness.put("a", "1");
    assert_eq!(harness.told(call), [(0, 1, vec![]), (0, 2, vec![2])]);
    harness.front.cancel(call);
    harness.put("a", "2");
    assert!(harness.told(call).is_empty());
    assert_eq!(harness.front.answer(call).status, None);
    assert_eq!(harness.front.services().watch.stats().streams, 0);
}

#[test]
fn w18_a_stream_that_needs_a_leader_ends_without_one() {
    let mut harness = Harness::new();
    let metadata = CallMetadata { has_leader: Some("true".into()), ..Default::default() };
    let call = harness.front.open(WATCH, metadata);
    harness.front.send(call, &create("a"));
    harness.turn();
    let mut leaderless = (*harness.node.published()).clone();
    leaderless.leader = 0;
    harness.node.0.borrow_mut().published = Arc::new(leaderless);
    for poll in 0..3 {
        assert_eq!(harness.front.answer(call).status, None, "poll {poll}");
        harness.front.tick(10_000 + 1_000 * poll);
    }
    assert_eq!(harness.front.answer(call).status, Some(Error::NoLeader.into()));
    assert_eq!(harness.front.services().watch.stats().streams, 0);
}

#[test]
fn w19_a_full_stream_waits_and_misses_nothing() {
    let mut harness = Harness::new();
    let (slow, quick) = (harness.watch("a"), harness.watch("a"));
    harness.told(slow);
    harness.told(quick);
    harness.front.services().full(slow);
    for revision in 2..12 {
        harness.put("a", vec![1; 100]);
        assert_eq!(harness.told(quick), [(0, revision, vec![revision])]);
    }
    assert!(harness.told(slow).is_empty());
    harness.front.drained(slow);
    harness.turn();
    harness.front.settle();
    let told = harness.told(slow);
    assert_eq!(told.iter().flat_map(|(_, _, events)| events.clone()).collect::<Vec<_>>(), (2..12).collect::<Vec<_>>());
    harness.put("a", "last");
    assert_eq!(harness.told(slow), [(0, 12, vec![12])]);
}

/// Bytes that are no message.
#[derive(Clone, Debug, Default)]
struct Unfinished;

impl Message for Unfinished {
    fn encode_raw(&self, buf: &mut impl bytes::BufMut) {
        buf.put_slice(&[0x0a, 5]);
    }

    fn merge_field(
        &mut self,
        _: u32,
        _: prost::encoding::WireType,
        _: &mut impl bytes::Buf,
        _: prost::encoding::DecodeContext,
    ) -> Result<(), prost::DecodeError> {
        unreachable!("it is only ever sent")
    }

    fn encoded_len(&self) -> usize {
        2
    }

    fn clear(&mut self) {}
}
