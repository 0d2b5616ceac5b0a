//! One promise, one test: a legal history passes, and with one thing wrong it is found by the checker whose promise it is.

use bytes::Bytes;
use cetera_proto::etcdserverpb as pb;
use cetera_proto::mvccpb::{Event, KeyValue, event::EventType};

use crate::history::{Call, History, News, Outcome, Request, Response, Told, Watcher};
use crate::{Limits, check};

const SECOND: u64 = 1_000_000;

/// Calls one after the other, a millisecond each, of client 0 unless said otherwise.
#[derive(Default)]
struct Story {
    history: History,
    now: u64,
}

impl Story {
    fn new() -> Self {
        Self { history: History { first_revision: 1, ..History::default() }, now: SECOND }
    }

    fn call(&mut self, request: Request, outcome: Outcome) -> usize {
        let (start_us, end_us) = (self.now, self.now + 1_000);
        self.now += 2_000;
        self.history.calls.push(Call { client: 0, member: 0, start_us, end_us, request, outcome });
        self.history.calls.len() - 1
    }

    fn put(&mut self, key: &str, value: &str, lease: i64, revision: i64) -> usize {
        let request = Request::Put(put_request(key, value, lease));
        let response = Response::Put(pb::PutResponse { header: header(revision), prev_kv: None });
        self.call(request, Outcome::Done(response))
    }

    fn delete(&mut self, key: &str, revision: i64) -> usize {
        let request = Request::DeleteRange(pb::DeleteRangeRequest { key: bytes(key), ..Default::default() });
        let response = pb::DeleteRangeResponse { header: header(revision), deleted: 1, prev_kvs: Vec::new() };
        self.call(request, Outcome::Done(Response::DeleteRange(response)))
    }

    fn get(&mut self, key: &str, found: Option<KeyValue>, revision: i64) -> usize {
        let request = Request::Range(pb::RangeRequest { key: bytes(key), ..Default::default() });
        let kvs: Vec<KeyValue> = found.into_iter().collect();
        let response = pb::RangeResponse { header: header(revision), count: kvs.len() as i64, kvs, more: false };
        self.call(request, Outcome::Done(Response::Range(response)))
    }

    fn compact(&mut self, at: i64, revision: i64) -> usize {
        let request = Request::Compact(pb::CompactionRequest { revision: at, physical: false });
        self.call(request, Outcome::Done(Response::Compact(pb::CompactionResponse { header: header(revision) })))
    }

    fn grant(&mut self, id: i64, ttl: i64, revision: i64) -> usize {
        let request = Request::LeaseGrant(pb::LeaseGrantRequest { id, ttl });
        let response = pb::LeaseGrantResponse { header: header(revision), id, ttl, error: String::new() };
        self.call(request, Outcome::Done(Response::LeaseGrant(response)))
    }

    fn keep_alive(&mut self, id: i64, ttl: i64, revision: i64) -> usize {
        let request = Request::LeaseKeepAlive(pb::LeaseKeepAliveRequest { id });
        let response = pb::LeaseKeepAliveResponse { header: header(revision), id, ttl };
        self.call(request, Outcome::Done(Response::LeaseKeepAlive(response)))
    }

    fn revoke(&mut self, id: i64, revision: i64) -> usize {
        let request = Request::LeaseRevoke(pb::LeaseRevokeRequest { id });
        self.call(request, Outcome::Done(Response::LeaseRevoke(pb::LeaseRevokeResponse { header: header(revision) })))
    }

    /// A watcher of everything, told the given things two milliseconds apart, the first being its creation.
    fn watch(&mut self, start_revision: i64, told: Vec<(i64, News)>) -> &mut Watcher {
        let mut watcher = Watcher { start_us: self.now, owed_through: Some(i64::MAX), ..Watcher::default() };
        watcher.request =
            pb::WatchCreateRequest { key: bytes("\0"), range_end: bytes("\0"), start_revision, ..Default::default() };
        for (revision, news) in told {
            self.now += 2_000;
            watcher.told.push(Told { at_us: self.now, revision, news });
        }
        self.now += 2_000;
        watcher.end_us = self.now;
        self.history.watchers.push(watcher);
        let last = self.history.watchers.len() - 1;
        &mut self.history.watchers[last]
    }

    fn passes(&self) {
        if let Err(violations) = check(&self.history, &Limits::default()) {
            panic!("{}", violations.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"));
        }
    }

    /// The first violation is this checker's and says this.
    #[track_caller]
    fn breaks(&self, checker: &str, says: &str) {
        let Err(violations) = check(&self.history, &Limits::default()) else { panic!("{checker} finds nothing") };
        let found = violations.iter().any(|violation| violation.checker == checker && violation.text.contains(says));
        assert!(
            found,
            "{checker}: {says}, but:\n{}",
            violations.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
        );
    }
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn header(revision: i64) -> Option<pb::ResponseHeader> {
    Some(pb::ResponseHeader { revision, ..Default::default() })
}

fn put_request(key: &str, value: &str, lease: i64) -> pb::PutRequest {
    pb::PutRequest { key: bytes(key), value: bytes(value), lease, ..Default::default() }
}

fn kv(key: &str, value: &str, create: i64, modified: i64, version: i64) -> KeyValue {
    KeyValue {
        key: bytes(key),
        value: bytes(value),
        create_revision: create,
        mod_revision: modified,
        version,
        lease: 0,
    }
}

fn told(kv: KeyValue) -> Event {
    Event { r#type: EventType::Put as i32, kv: Some(kv), prev_kv: None }
}

fn gone(key: &str, revision: i64) -> Event {
    let kv = KeyValue { key: bytes(key), mod_revision: revision, ..KeyValue::default() };
    Event { r#type: EventType::Delete as i32, kv: Some(kv), prev_kv: None }
}

fn events(events: Vec<Event>) -> News {
    News::Events { events, fragment: false }
}

/// a=1 at 2, a=2 at 3, b=3 at 4, a deleted at 5.
fn four_changes() -> (Story, [Event; 4]) {
    let mut story = Story::new();
    story.put("a", "1", 0, 2);
    story.put("a", "2", 0, 3);
    story.put("b", "3", 0, 4);
    story.delete("a", 5);
    let all = [told(kv("a", "1", 2, 2, 1)), told(kv("a", "2", 2, 3, 2)), told(kv("b", "3", 4, 4, 1)), gone("a", 5)];
    (story, all)
}

/// A watcher from revision 1 that is told these things after its creation.
fn watched(news: Vec<(i64, News)>) -> Story {
    let (mut story, _) = four_changes();
    story.watch(1, [vec![(5, News::Created)], news].concat());
    story
}

#[test]
fn an_acknowledged_write_is_there_and_answers_are_whole() {
    let (mut story, _) = four_changes();
    story.get("b", Some(kv("b", "3", 4, 4, 1)), 5);
    story.passes();
    for (wrong, says) in [
        (None, "count is 0, should be 1"),
        (Some(kv("b", "9", 4, 4, 1)), "should hold b=3"),
        (Some(kv("b", "3", 3, 4, 1)), "create 3"),
        (Some(kv("b", "3", 4, 4, 2)), "version 2"),
    ] {
        let (mut story, _) = four_changes();
        story.get("b", wrong, 5);
        story.breaks("linearizable", says);
    }
}

#[test]
fn a_linearizable_read_is_not_from_the_past() {
    let (mut story, _) = four_changes();
    let read = story.get("b", Some(kv("b", "3", 4, 4, 1)), 4);
    story.breaks("linearizable", "stale");
    story.breaks("client", "goes back from 5 to 4");
    // It may be, if it began before the last write was answered.
    story.history.calls[read].start_us = story.history.calls[read - 1].start_us;
    story.history.calls[read].client = 1;
    story.passes();
    // And a serializable one always.
    let (mut story, _) = four_changes();
    let read = story.get("b", Some(kv("b", "3", 4, 4, 1)), 4);
    if let Request::Range(range) = &mut story.history.calls[read].request {
        range.serializable = true;
    }
    story.passes();
}

#[test]
fn a_revision_has_one_writer_and_nobody_saw_it_before() {
    let (mut story, _) = four_changes();
    story.put("c", "5", 0, 5);
    story.breaks("linearizable", "2 writes at revision 5");
    let (mut story, _) = four_changes();
    let late = story.put("c", "5", 0, 6);
    story.get("c", Some(kv("c", "5", 6, 6, 1)), 6);
    story.passes();
    story.history.calls[late].start_us = story.now;
    story.history.calls[late].end_us = story.now + 1;
    story.breaks("linearizable", "before its write began");
}

#[test]
fn a_write_of_unknown_outcome_is_there_once_or_never() {
    let unknown = || Outcome::Unknown("timed out".to_owned());
    let (mut story, _) = four_changes();
    story.call(Request::Put(put_request("c", "5", 0)), unknown());
    story.get("c", None, 5);
    story.passes();
    story.get("c", Some(kv("c", "5", 6, 6, 1)), 6);
    story.passes();
    story.get("c", Some(kv("c", "5", 6, 7, 2)), 7);
    story.breaks("linearizable", "revision 7 was told");
    // Refused, it must not be there at all.
    let (mut story, _) = four_changes();
    let refused = Outcome::Refused("etcdserver: too many requests".to_owned());
    story.call(Request::Put(put_request("c", "5", 0)), refused);
    story.passes();
    story.watch(6, vec![(5, News::Created), (6, events(vec![told(kv("c", "5", 6, 6, 1))]))]);
    story.breaks("linearizable", "the value is that of call 4");
}

#[test]
fn a_refusal_needs_a_reason() {
    for (request, why) in [
        (Request::Put(put_request("a", "9", 0)), "etcdserver: requested lease not found"),
        (Request::Put(put_request("a", "9", 0)), "etcdserver: key not found"),
        (
            Request::Range(pb::RangeRequest { key: bytes("a"), revision: 5, ..Default::default() }),
            "etcdserver: mvcc: required revision is a future revision",
        ),
    ] {
        let (mut story, _) = four_changes();
        story.call(request, Outcome::Refused(why.to_owned()));
        story.breaks("linearizable", "nothing calls for this refusal");
    }
    let (mut story, _) = four_changes();
    let ahead = pb::RangeRequest { key: bytes("a"), revision: 6, ..Default::default() };
    let why = "etcdserver: mvcc: required revision is a future revision";
    story.call(Request::Range(ahead), Outcome::Refused(why.to_owned()));
    story.passes();
}

#[test]
fn compactions_rise_and_what_is_compacted_is_refused() {
    let past = |story: &mut Story, revision, outcome| {
        let read = pb::RangeRequest { key: bytes("a"), revision, ..Default::default() };
        story.call(Request::Range(read), outcome)
    };
    let found = Outcome::Done(Response::Range(pb::RangeResponse {
        header: header(5),
        kvs: vec![kv("a", "2", 2, 3, 2)],
        count: 1,
        more: false,
    }));
    let compacted = Outcome::Refused("etcdserver: mvcc: required revision has been compacted".to_owned());
    let (mut story, _) = four_changes();
    past(&mut story, 3, found.clone());
    story.compact(3, 5);
    past(&mut story, 3, found.clone());
    past(&mut story, 2, compacted.clone());
    story.compact(4, 5);
    past(&mut story, 3, compacted.clone());
    story.passes();
    past(&mut story, 3, found);
    story.breaks("compaction", "read what was compacted");
    let (mut story, _) = four_changes();
    past(&mut story, 3, compacted);
    story.breaks("compaction", "no compaction calls for this refusal");
    let (mut story, _) = four_changes();
    story.compact(4, 5);
    story.compact(4, 5);
    story.breaks("compaction", "compacted what was compacted");
}

#[test]
fn a_watcher_is_told_everything_in_order_and_once() {
    let (_, [a, b, c, d]) = four_changes();
    watched(vec![(5, events(vec![a.clone(), b.clone(), c.clone(), d.clone()]))]).passes();
    watched(vec![(2, events(vec![a.clone()])), (5, events(vec![b.clone(), c.clone(), d.clone()]))]).passes();
    let wrong = [
        (vec![a.clone(), c.clone(), d.clone()], "should have been told PUT a=2"),
        (vec![a.clone(), b.clone(), c.clone()], "not told of revision 5"),
        (vec![a.clone(), c.clone(), b.clone(), d.clone()], "out of order"),
        (vec![a.clone(), b.clone(), b.clone(), c.clone(), d.clone()], "should have been told PUT b=3"),
        (vec![a.clone(), b.clone(), c.clone(), d.clone(), d.clone()], "does not exist, or again"),
        (vec![told(kv("a", "1", 2, 2, 2)), b.clone(), c.clone(), d.clone()], "should have been told PUT a=1"),
    ];
    for (all, says) in wrong {
        watched(vec![(5, events(all))]).breaks("watch", says);
    }
    let again = vec![(5, events(vec![a, b, c.clone()])), (5, events(vec![c, d]))];
    watched(again).breaks("watch", "before what was told");
}

#[test]
fn a_watcher_owes_nothing_that_came_after_its_end() {
    for (through, breaks) in [(4, false), (5, true), (i64::MAX, true)] {
        let (mut story, [a, b, c, _]) = four_changes();
        let told = vec![(1, News::Created), (4, events(vec![a, b, c]))];
        story.watch(2, told).owed_through = Some(through);
        match breaks {
            true => story.breaks("watch", "not told of revision 5"),
            false => story.passes(),
        }
    }
}

#[test]
fn a_header_is_not_behind_its_changes() {
    let (_, [a, b, c, d]) = four_changes();
    watched(vec![(4, events(vec![a, b, c, d]))]).breaks("watch", "header.revision 4 is behind");
}

#[test]
fn a_revision_is_told_whole() {
    let mut story = Story::new();
    let put =
        |key: &str| pb::RequestOp { request: Some(pb::request_op::Request::RequestPut(put_request(key, key, 0))) };
    let done = || pb::ResponseOp {
        response: Some(pb::response_op::Response::ResponsePut(pb::PutResponse { header: header(2), prev_kv: None })),
    };
    let request = pb::TxnRequest { success: vec![put("a"), put("b")], ..Default::default() };
    let response = pb::TxnResponse { header: header(2), succeeded: true, responses: vec![done(), done()] };
    story.call(Request::Txn(request), Outcome::Done(Response::Txn(response)));
    let (a, b) = (told(kv("a", "a", 2, 2, 1)), told(kv("b", "b", 2, 2, 1)));
    let parts = vec![(2, News::Created), (2, events(vec![a])), (2, events(vec![b]))];
    story.watch(1, parts);
    story.breaks("watch", "revision 2 is not whole");
    // Unless it says that they are fragments of one response.
    if let News::Events { fragment, .. } = &mut story.history.watchers[0].told[1].news {
        *fragment = true;
    }
    story.passes();
}

#[test]
fn a_watcher_begins_where_it_was_asked_to() {
    let (mut story, [_, b, c, d]) = four_changes();
    story.watch(3, vec![(5, News::Created), (5, events(vec![b.clone(), c.clone(), d.clone()]))]);
    story.passes();
    let (mut story, _) = four_changes();
    story.watch(4, vec![(5, News::Created), (5, events(vec![b, c.clone(), d.clone()]))]);
    story.breaks("watch", "before the start revision");
    let (mut story, _) = four_changes();
    story.watch(0, vec![(3, News::Created), (5, events(vec![c, d.clone()]))]);
    story.passes();
    let (mut story, _) = four_changes();
    story.watch(0, vec![(3, News::Created), (5, events(vec![d]))]);
    story.breaks("watch", "should have been told PUT b=3");
    let (mut story, _) = four_changes();
    story.watch(7, vec![(5, News::Created)]);
    story.passes();
}

#[test]
fn filters_and_ranges_are_kept() {
    let (_, [a, b, c, d]) = four_changes();
    for (filter, expected, other) in [(0, vec![d.clone()], a.clone()), (1, vec![a.clone(), b.clone(), c.clone()], d)] {
        let mut story = watched(vec![(5, events(expected.clone()))]);
        story.history.watchers[0].request.filters = vec![filter];
        story.passes();
        let mut more = [expected, vec![other]].concat();
        more.sort_by_key(|event| event.kv.as_ref().map(|kv| kv.mod_revision));
        let mut story = watched(vec![(5, events(more))]);
        story.history.watchers[0].request.filters = vec![filter];
        story.breaks("watch", "told");
    }
    let mut story = watched(vec![(5, events(vec![a, b, c]))]);
    story.history.watchers[0].request = pb::WatchCreateRequest { key: bytes("a"), ..Default::default() };
    story.breaks("watch", "does not exist, or again: PUT b=3");
}

#[test]
fn progress_is_true() {
    let (_, [a, b, c, d]) = four_changes();
    let (first, rest) = (vec![a.clone(), b.clone()], vec![c.clone(), d.clone()]);
    let story =
        |progress| watched(vec![(3, events(first.clone())), (progress, News::Progress), (5, events(rest.clone()))]);
    story(3).passes();
    story(4).breaks("watch", "progress at revision 4, but it was not told of revision 4");
    let all = vec![(5, events(vec![a, b, c, d.clone()])), (5, News::Progress)];
    watched(all.clone()).passes();
    watched([all, vec![(5, events(vec![d]))]].concat()).breaks("watch", "before what was told");
    watched(vec![(9, News::Progress)]).breaks("linearizable", "revision 9 was told");
}

#[test]
fn prev_kv_is_the_value_before() {
    let (_, [a, mut b, c, mut d]) = four_changes();
    b.prev_kv = Some(kv("a", "1", 2, 2, 1));
    d.prev_kv = Some(kv("a", "2", 2, 3, 2));
    let story = |all: [&Event; 4]| {
        let mut story = watched(vec![(5, events(all.into_iter().cloned().collect()))]);
        story.history.watchers[0].request.prev_kv = true;
        story
    };
    story([&a, &b, &c, &d]).passes();
    let wrong = Event { prev_kv: Some(kv("a", "1", 2, 2, 1)), ..d.clone() };
    story([&a, &b, &c, &wrong]).breaks("watch", "prev_kv is wrong");
    let missing = Event { prev_kv: None, ..d.clone() };
    story([&a, &b, &c, &missing]).breaks("watch", "prev_kv is missing");
    let made_up = Event { prev_kv: Some(kv("b", "0", 1, 1, 1)), ..c.clone() };
    story([&a, &b, &made_up, &d]).breaks("watch", "prev_kv is wrong");
    let mut unasked = story([&a, &b, &c, &d]);
    unasked.history.watchers[0].request.prev_kv = false;
    unasked.breaks("watch", "prev_kv is wrong");
    // Compacted by the time it is sent, it may be missing.
    let (mut compacted, _) = four_changes();
    compacted.compact(5, 5);
    let told = vec![(5, News::Created), (5, events(vec![missing]))];
    compacted.watch(5, told).request.prev_kv = true;
    compacted.passes();
}

#[test]
fn a_compacted_start_ends_the_watcher_with_the_watermark() {
    let canceled = |compact_revision| News::Canceled { compact_revision, reason: String::new() };
    let (mut story, _) = four_changes();
    story.compact(4, 5);
    story.watch(3, vec![(5, News::Created), (0, canceled(4))]);
    story.passes();
    let (mut story, _) = four_changes();
    story.compact(4, 5);
    story.watch(3, vec![(5, News::Created), (0, canceled(5))]);
    story.breaks("watch", "nobody asked for");
    let (mut story, _) = four_changes();
    story.compact(4, 5);
    story.watch(4, vec![(5, News::Created), (0, canceled(4))]);
    story.breaks("watch", "needs nothing before 4");
    let (mut story, _) = four_changes();
    story.compact(4, 5);
    story.put("a", "9", 0, 6);
    story.watch(3, vec![(6, News::Created)]);
    story.breaks("watch", "never cancelled");
    let (_, [a, ..]) = four_changes();
    watched(vec![(0, canceled(0)), (2, events(vec![a]))]).breaks("watch", "after it was cancelled");
}

/// A lease of ten seconds with a key at revision 2.
fn leased() -> Story {
    let mut story = Story::new();
    story.grant(7, 10, 1);
    story.put("k", "1", 7, 2);
    story
}

fn leased_kv() -> KeyValue {
    KeyValue { lease: 7, ..kv("k", "1", 2, 2, 1) }
}

#[test]
fn a_lease_ends_after_its_time_and_takes_its_keys() {
    let mut story = leased();
    story.now = 11 * SECOND + 2_000;
    story.get("k", None, 3);
    story.passes();
    // Granted at 1 s, it may end at 11 s; the clock's slack is 2 ms.
    let mut story = leased();
    story.now = 10 * SECOND;
    story.get("k", None, 3);
    story.breaks("lease", "ended before its time");
    // The promise counts from the beginning of the call.
    let mut story = leased();
    story.history.calls[0].start_us -= SECOND / 2;
    story.now = 10 * SECOND + SECOND / 2;
    story.get("k", None, 3);
    story.passes();
}

#[test]
fn a_renewal_gives_the_whole_time_again() {
    let mut story = leased();
    story.now = 9 * SECOND;
    story.keep_alive(7, 10, 2);
    story.now = 18 * SECOND;
    let early = story.history.calls.len();
    story.get("k", Some(leased_kv()), 2);
    story.passes();
    story.history.calls.truncate(early);
    story.now = 18 * SECOND;
    story.get("k", None, 3);
    story.breaks("lease", "ended before its time");
    // One that was not answered promises nothing.
    story.history.calls[2].outcome = Outcome::Unknown("timed out".to_owned());
    story.passes();
}

#[test]
fn a_fast_clock_is_borne_as_far_as_is_said() {
    let mut story = leased();
    story.now = 10 * SECOND + SECOND / 2;
    story.get("k", None, 3);
    let limits = |clock_drift_ppm| Limits { clock_drift_ppm, ..Limits::default() };
    assert!(check(&story.history, &limits(100_000)).is_ok());
    assert!(check(&story.history, &limits(1_000)).is_err());
}

#[test]
fn a_lease_is_gone_when_its_time_and_the_grace_are_over() {
    let mut story = leased();
    story.now = 20 * SECOND;
    story.get("k", Some(leased_kv()), 2);
    story.passes();
    story.now = 25 * SECOND;
    story.get("k", Some(leased_kv()), 2);
    story.breaks("lease", "still hangs on it");
    // Faults put it off.
    let limits = Limits { faults_end_us: 10 * SECOND, ..Limits::default() };
    assert!(check(&story.history, &limits).is_ok());
}

#[test]
fn a_revocation_takes_all_keys_at_one_revision() {
    let mut story = leased();
    story.put("l", "2", 7, 3);
    story.revoke(7, 4);
    story.get("l", None, 4);
    story.passes();
    let mut wrong = leased();
    wrong.put("l", "2", 7, 3);
    wrong.revoke(7, 3);
    wrong.get("l", Some(KeyValue { lease: 7, ..kv("l", "2", 3, 3, 1) }), 3);
    wrong.breaks("lease", "is left");
    let one_by_one = [gone("k", 4), gone("l", 5)];
    story.history.calls.pop();
    story.watch(4, vec![(4, News::Created), (5, events(one_by_one.to_vec()))]);
    story.breaks("linearizable", "no call explains revision");
}

#[test]
fn a_lease_that_is_gone_stays_gone() {
    let mut story = leased();
    story.revoke(7, 3);
    story.keep_alive(7, 0, 3);
    story.passes();
    story.put("m", "3", 7, 4);
    story.breaks("lease", "does not fit");
    let mut story = leased();
    story.revoke(7, 3);
    story.keep_alive(7, 10, 3);
    story.breaks("lease", "does not fit");
    let mut story = leased();
    story.keep_alive(7, 0, 2);
    story.breaks("lease", "fit");
    // It may be granted again.
    let mut story = leased();
    story.revoke(7, 3);
    story.grant(7, 5, 3);
    story.put("m", "3", 7, 4);
    story.passes();
    story.grant(7, 5, 4);
    story.breaks("lease", "fit");
}

#[test]
fn a_refusal_for_want_of_a_lease_needs_the_want() {
    let refused = || Outcome::Refused("etcdserver: requested lease not found".to_owned());
    let mut story = leased();
    story.revoke(7, 3);
    story.call(Request::Put(put_request("m", "3", 7)), refused());
    story.passes();
    let mut story = leased();
    story.call(Request::Put(put_request("m", "3", 7)), refused());
    story.breaks("lease", "fit");
}

/// A lock that client 7 takes first and client 8 after it.
fn locked() -> Story {
    let mut story = Story::new();
    story.put("/lock/x/7", "", 0, 2);
    story.put("/lock/x/8", "", 0, 3);
    story.put("/resource/x", "2/1", 0, 4);
    story.delete("/lock/x/7", 5);
    story.put("/resource/x", "3/2", 0, 6);
    story
}

#[test]
fn a_lock_has_one_holder() {
    locked().passes();
    let mut story = locked();
    story.put("/resource/x", "2/3", 0, 7);
    story.breaks("lock", "was written at revision 6 by the holder since 3, and at 7 by the one since 2");
    let mut story = locked();
    story.put("/lock/x/9", "", 0, 7);
    story.put("/resource/x", "7/3", 0, 8);
    story.breaks("lock", "but the owner was /lock/x/8");
    let mut story = locked();
    story.put("/cron/jobs/j", "4/1", 0, 7);
    story.put("/cron/jobs/j", "3/2", 0, 8);
    story.breaks("lock", "/cron/jobs/j was written");
}

#[test]
fn a_revocation_did_not_take_what_was_gone_before_it_began() {
    let mut story = leased();
    let delete = Request::DeleteRange(pb::DeleteRangeRequest { key: bytes("k"), ..Default::default() });
    story.call(delete, Outcome::Unknown("timed out".to_owned()));
    story.get("k", None, 3);
    story.revoke(7, 3);
    story.passes();
}
