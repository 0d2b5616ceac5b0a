//! The runner against a server made up here: what passes, what is told as different, what stops a
//! script.

use bytes::Bytes;
use cetera_parity::transport::BoxFuture;
use cetera_parity::{Duplex, Launcher, Metadata, Mode, Status, Target, Transport, Verdict, run_scripts};
use cetera_proto::{etcdserverpb as pb, mvccpb};
use prost::Message;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use tokio::sync::mpsc;

/// Answers every put with the next revision; a watch gets `watch_responses`, whatever it asks.
struct Fake {
    revision: AtomicI64,
    cluster_id: u64,
    watch_responses: Vec<pb::WatchResponse>,
}

fn header(cluster_id: u64, revision: i64) -> Option<pb::ResponseHeader> {
    Some(pb::ResponseHeader { cluster_id, member_id: 2, revision, raft_term: 3 })
}

impl Transport for Fake {
    fn unary(&self, path: &str, _: Metadata, _: Bytes) -> BoxFuture<'_, Result<Bytes, Status>> {
        let answer = if path == "/etcdserverpb.KV/Put" {
            let revision = self.revision.fetch_add(1, Ordering::Relaxed) + 1;
            // From the third put on another cluster answers, if there is another.
            let cluster_id = if revision > 3 { self.cluster_id } else { 1 };
            let response = pb::PutResponse { header: header(cluster_id, revision), prev_kv: None };
            Ok(response.encode_to_vec().into())
        } else {
            Err(Status { code: "Unimplemented", message: path.to_owned() })
        };
        Box::pin(async { answer })
    }

    fn stream(&self, _: &str, _: Metadata) -> Duplex {
        let (send, mut requests) = mpsc::channel(8);
        let (responses, receive) = mpsc::channel(8);
        let prepared = self.watch_responses.clone();
        tokio::spawn(async move {
            for response in prepared {
                let _ = responses.send(Ok(response.encode_to_vec().into())).await;
            }
            while requests.recv().await.is_some() {}
        });
        Duplex { send: Some(send), receive }
    }
}

#[derive(Clone)]
struct FakeLauncher {
    cluster_id: u64,
    watch_responses: Vec<pb::WatchResponse>,
}

struct FakeTarget(Arc<Fake>);

impl Target for FakeTarget {
    fn transport(&self) -> Arc<dyn Transport> {
        self.0.clone()
    }

    fn restart(&mut self) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async { Err("it does not come back".to_owned()) })
    }
}

impl Launcher for FakeLauncher {
    fn launch(&self, _: Vec<String>) -> BoxFuture<'_, Result<Box<dyn Target>, String>> {
        let fake = Fake {
            revision: AtomicI64::new(1),
            cluster_id: self.cluster_id,
            watch_responses: self.watch_responses.clone(),
        };
        Box::pin(async move { Ok(Box::new(FakeTarget(Arc::new(fake))) as Box<dyn Target>) })
    }
}

fn event(revision: i64) -> mvccpb::Event {
    let kv = mvccpb::KeyValue { mod_revision: revision, ..Default::default() };
    mvccpb::Event { kv: Some(kv), ..Default::default() }
}

fn response(created: bool, revision: i64, events: &[i64]) -> pb::WatchResponse {
    let events = events.iter().map(|&r| event(r)).collect();
    pb::WatchResponse { header: header(1, revision), created, events, ..Default::default() }
}

/// Runs one script and returns its verdict and what is in the file afterwards.
fn run(launcher: FakeLauncher, text: &str, mode: Mode) -> (Verdict, String) {
    let dir = tempfile::tempdir().expect("a directory");
    let path: PathBuf = dir.path().join("script.txt");
    std::fs::write(&path, text).expect("written");
    let report = run_scripts(Arc::new(launcher), std::slice::from_ref(&path), mode).expect("a runtime");
    assert_eq!(report.passed() + report.failed(), 1);
    (report.scripts[0].verdict.clone(), std::fs::read_to_string(&path).expect("still there"))
}

fn plain() -> FakeLauncher {
    FakeLauncher { cluster_id: 1, watch_responses: Vec::new() }
}

fn watching(responses: &[pb::WatchResponse]) -> FakeLauncher {
    FakeLauncher { cluster_id: 1, watch_responses: responses.to_vec() }
}

fn broken(launcher: FakeLauncher, text: &str) -> String {
    match run(launcher, text, Mode::Check).0 {
        Verdict::Broken(error) => error,
        other => panic!("not broken: {other:?}"),
    }
}

#[test]
fn equal_outputs_pass_and_others_are_shown() {
    let (verdict, _) = run(plain(), "put a 1\nput b 1\n---\nput rev=2\nput rev=3\n", Mode::Check);
    assert_eq!(verdict, Verdict::Passed);
    let wrong = "put a 1\nput b 1\n---\nput rev=2\nput rev=4\n";
    let (verdict, text) = run(plain(), wrong, Mode::Check);
    let Verdict::Differs(diff) = verdict else { panic!("{verdict:?}") };
    assert!(diff.contains("- put rev=4\n+ put rev=3\n"), "{diff}");
    assert_eq!(text, wrong, "check writes nothing");
}

#[test]
fn an_error_is_an_output() {
    let text = "delete a\n---\nUnimplemented: /etcdserverpb.KV/DeleteRange\n";
    assert_eq!(run(plain(), text, Mode::Check).0, Verdict::Passed);
}

#[test]
fn record_writes_the_outputs() {
    let (verdict, text) = run(plain(), "# rows: KV-1\n\nput a 1\n---\nold\n", Mode::Record);
    assert!(matches!(verdict, Verdict::Differs(_)), "{verdict:?}");
    assert_eq!(text, "# rows: KV-1\n\nput a 1\n---\nput rev=2\n");
    assert_eq!(run(plain(), &text, Mode::Record).0, Verdict::Passed);
}

#[test]
fn a_script_that_cannot_go_on_is_broken_not_different() {
    assert!(broken(plain(), "putt a 1\n").contains("no command putt"));
    assert!(broken(plain(), "put a 1 prev\n").contains("not understood: prev"));
    assert!(broken(plain(), "restart\n").contains("does not come back"));
    assert!(broken(plain(), "put \"a\n").contains("line 1"));
}

#[test]
fn all_answers_come_from_one_cluster() {
    let launcher = FakeLauncher { cluster_id: 9, ..plain() };
    let error = broken(launcher, "put a 1\nput a 2\nput a 3\n");
    assert!(error.contains("line 3: a header of another member or cluster"), "{error}");
}

#[test]
fn watch_responses_are_printed_with_or_without_their_grouping() {
    let responses = [response(true, 1, &[]), response(false, 3, &[2, 3]), response(false, 4, &[4])];
    let text = "watch w1 a\nexpect w1 3 events\n---\nw1 id=0 rev=1 created\nw1 3 events\n  put \"\" mod=2\n  \
                put \"\" mod=3\n  put \"\" mod=4\n";
    assert_eq!(run(watching(&responses), text, Mode::Check).0, Verdict::Passed);
    let text = "watch w1 a\nexpect w1 response\n---\nw1 id=0 rev=1 created\nw1 id=0 rev=3\n  put \"\" mod=2\n  \
                put \"\" mod=3\n";
    assert_eq!(run(watching(&responses), text, Mode::Check).0, Verdict::Passed);
}

#[test]
fn a_revision_split_over_two_responses_is_noticed() {
    let whole = response(true, 1, &[]);
    let split = [whole.clone(), response(false, 2, &[2]), response(false, 2, &[2])];
    let error = broken(watching(&split), "watch w1 a\nexpect w1 2 events\n");
    assert!(error.contains("event of revision 2 after 2"), "{error}");
    let fragments = pb::WatchResponse { fragment: true, ..split[1].clone() };
    let in_parts = [whole.clone(), fragments, split[2].clone()];
    let text = "watch w1 a\nexpect w1 2 events\n---\nw1 id=0 rev=1 created\nw1 2 events\n  put \"\" mod=2\n  \
                put \"\" mod=2\n";
    assert_eq!(run(watching(&in_parts), text, Mode::Check).0, Verdict::Passed);
    let back = [whole.clone(), response(false, 3, &[3]), response(false, 3, &[2])];
    assert!(broken(watching(&back), "watch w1 a\nexpect w1 2 events\n").contains("after 3"));
    let early = [whole, response(false, 2, &[3])];
    assert!(broken(watching(&early), "watch w1 a\nexpect w1 1 event\n").contains("header 2"));
}

#[test]
fn events_before_the_create_reply_are_noticed() {
    let responses = [response(false, 2, &[2]), response(true, 1, &[])];
    let error = broken(watching(&responses), "watch w1 a\n");
    assert!(error.contains("events came before the create reply"), "{error}");
}
