//! Calls of any bytes to every service, over a real node on a disk in memory. No call panics; each answer is a message
//! of the call's type or an error that etcd has; afterwards a put is still a put.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::{Arc, Once};

use bytes::Bytes;
use cetera_node::event::{Event, Ticket};
use cetera_node::watch::HubOptions;
use cetera_node::{Fatal, Published};
use cetera_proto::etcdserverpb::{self as pb, PutRequest, RangeRequest, RangeResponse};
use cetera_proto::services::{Kind, METHODS, Method, MethodId};
use cetera_proto::{health, v3electionpb, v3lockpb};
use cetera_server::front::memory::MemoryFront;
use cetera_server::log;
use cetera_server::node_thread::Work;
use cetera_server::rpc::status::Error;
use cetera_server::rpc::watch::WatchService;
use cetera_server::rpc::{NodeAccess, RequestIds, RpcServices, Settings};
use cetera_server::seam::{CallId, CallMetadata, Mail};
use cetera_storage::vfs::MemoryVfs;
use prost::Message;

use crate::input::Input;
use crate::member::{MEMBER, Member, start};

/// Rounds after which calls that keep each other busy hang.
const TURNS_MAX: usize = 10_000;

/// A member as services see it.
#[derive(Clone)]
pub(crate) struct Access(Rc<RefCell<Inner>>);

struct Inner {
    member: Member,
    wants_changes: bool,
    work: Vec<(Ticket, Work)>,
}

impl NodeAccess for Access {
    fn send(&self, event: Event) {
        self.0.borrow_mut().member.events.push(event);
    }

    fn published(&self) -> Arc<Published> {
        Arc::clone(&self.0.borrow().member.published)
    }

    fn want_changes(&self, _: u16, wanted: bool) {
        self.0.borrow_mut().wants_changes = wanted;
    }

    fn disk_low(&self) -> bool {
        false
    }

    fn run_job(&self, ticket: Ticket, work: Work) {
        self.0.borrow_mut().work.push((ticket, work));
    }

    fn promote_at_leader(&self, ticket: Ticket, _: u64, _: std::time::Duration) {
        self.run_job(ticket, Box::new(|_| Err(Error::NotLeader.into())));
    }

    fn connected_since_ms(&self, _: u64) -> Option<u64> {
        None
    }

    fn now_ms(&self) -> u64 {
        self.0.borrow().member.now_ms
    }

    fn unix_ms(&self) -> u64 {
        self.now_ms()
    }
}

impl Access {
    /// A sole member that leads.
    pub(crate) fn new() -> Access {
        // What is logged of hostile bytes is written too, but not to a terminal.
        static LOG: Once = Once::new();
        LOG.call_once(|| {
            log::configure(log::Level::Debug, log::Format::Json, &["/dev/null".to_string()]).expect("a null device");
        });
        let start = cetera_node::recovery::Start { checkpoint_log_bytes: None, ..start(1) };
        let mut member = Member::open(Arc::new(MemoryVfs::new()), start, false).expect("an empty disk");
        member.lead().expect("a good disk");
        member.replies.clear();
        member.batches.clear();
        Access(Rc::new(RefCell::new(Inner { member, wants_changes: false, work: Vec::new() })))
    }

    /// Lets the node do all it can; what it has to say.
    pub(crate) fn settle(&self) -> Result<Vec<Mail>, Fatal> {
        let Inner { member, wants_changes, work } = &mut *self.0.borrow_mut();
        member.settle()?;
        let mut mail: Vec<Mail> = member.batches.drain(..).filter(|_| *wants_changes).map(Mail::Events).collect();
        mail.extend(member.replies.drain(..).map(|(ticket, reply)| Mail::Reply(ticket, reply)));
        mail.extend(work.drain(..).map(|(ticket, work)| Mail::Work(ticket, work(&member.published.view))));
        Ok(mail)
    }

    /// Time passes.
    pub(crate) fn pass(&self, ms: u64) {
        self.0.borrow_mut().member.now_ms += ms;
    }

    /// The services of one front over it.
    pub(crate) fn services(&self) -> RpcServices<Access> {
        let settings = Arc::new(Settings {
            max_request_bytes: 4_096,
            max_txn_ops: 16,
            quota_bytes: Some(64 << 10),
            election_ms: 1_000,
            strict_reconfig_check: true,
            ids: Arc::new(RequestIds::new(MEMBER << 48 | 1 << 47 | 5)),
        });
        let options = HubOptions { ring_bytes: 2_000, ring_batches: 4, slice_bytes: 300, ..HubOptions::default() };
        RpcServices::new(0, self.clone(), settings, WatchService::new(options, &self.published()))
    }
}

struct Harness {
    access: Access,
    front: MemoryFront<RpcServices<Access>>,
    now_ms: u64,
}

impl Harness {
    fn turn(&mut self) {
        let mut mail = Vec::new();
        for _ in 0..TURNS_MAX {
            self.front.turn(&mut mail);
            self.front.settle();
            mail = self.access.settle().expect("no request stops the node");
            if mail.is_empty() {
                return;
            }
        }
        panic!("the calls find no rest");
    }

    fn call(&mut self, method: MethodId, request: &impl Message) -> CallId {
        let call = self.front.call(method.method().path, request);
        self.turn();
        call
    }
}

/// See the module.
pub(crate) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let access = Access::new();
    let front = MemoryFront::new(access.services());
    let mut harness = Harness { access, front, now_ms: 0 };
    let mut calls: Vec<(CallId, &'static Method, bool)> = Vec::new();
    while !input.is_empty() {
        let old = if calls.is_empty() { None } else { Some(input.clone().below(calls.len())) };
        match (input.below(8), old) {
            (0..=3, _) | (_, None) => {
                let method = input.choose(METHODS);
                let call = harness.front.open(method.path, metadata(&mut input));
                harness.front.send_bytes(call, Bytes::copy_from_slice(input.bytes()));
                let bidi = method.kind == Kind::Bidi;
                if !bidi {
                    harness.front.half_close(call);
                }
                calls.push((call, method, bidi));
            }
            (4, Some(_)) => {
                let at = input.below(calls.len());
                let (call, _, open) = calls[at];
                let body = Bytes::copy_from_slice(input.bytes());
                if open && !is_cancelled(&harness, call) {
                    harness.front.send_bytes(call, body);
                }
            }
            (5, Some(_)) => {
                let at = input.below(calls.len());
                if calls[at].2 {
                    calls[at].2 = false;
                    harness.front.half_close(calls[at].0);
                }
            }
            (6, Some(_)) => {
                let at = input.below(calls.len());
                let (call, method, _) = calls[at];
                if !is_cancelled(&harness, call) {
                    harness.front.cancel(call);
                    check(&harness, call, method, true);
                }
                calls.swap_remove(at);
            }
            _ => {
                harness.turn();
                let ms = 20 * u64::from(input.u8());
                harness.access.pass(ms);
                harness.now_ms += ms;
                harness.front.tick(harness.now_ms);
            }
        }
    }
    harness.turn();
    for (call, method, _) in calls {
        check(&harness, call, method, false);
    }
    still_serves(&mut harness);
}

/// Whether a call has ended: a front passes on nothing more of it.
fn is_cancelled(harness: &Harness, call: CallId) -> bool {
    harness.front.answer(call).status.is_some()
}

fn metadata(input: &mut Input<'_>) -> CallMetadata {
    let which = input.u8();
    let mut value = |bit: u8| (which & bit != 0).then(|| Bytes::copy_from_slice(input.bytes()));
    CallMetadata { has_leader: value(1), client_api_version: value(2), token: value(4), is_own: false }
}

/// The codes of gRPC.
const CODES: std::ops::RangeInclusive<u32> = 1..=16;

fn check(harness: &Harness, call: CallId, method: &Method, cancelled: bool) {
    let answer = harness.front.answer(call);
    for message in &answer.messages {
        decodes(method.id, message).unwrap_or_else(|error| panic!("an answer of {method} does not decode: {error}"));
    }
    match &answer.status {
        Some(status) if status.code == 0 => {
            assert!(method.kind != Kind::Unary || answer.messages.len() == 1, "{method}: one answer");
        }
        Some(status) => {
            assert!(CODES.contains(&status.code), "{method}: {status:?}");
            assert!(method.kind != Kind::Unary || answer.messages.is_empty(), "{method}: an answer and an error");
        }
        None => assert!(cancelled || method.kind != Kind::Unary, "{method} was never answered"),
    }
}

fn still_serves(harness: &mut Harness) {
    let put = PutRequest { key: "after all".into(), value: "v".into(), ..Default::default() };
    let call = harness.call(MethodId::Put, &put);
    let status = harness.front.answer(call).status.clone().expect("a put is answered");
    // An alarm, a quota or a downgrade may refuse it, but in words.
    assert!(status.code == 0 || !status.message.is_empty());
    let range = RangeRequest { key: "after all".into(), serializable: true, ..Default::default() };
    let call = harness.call(MethodId::Range, &range);
    let answer = harness.front.answer(call);
    assert_eq!(answer.status.as_ref().map(|status| status.code), Some(0));
    let found = RangeResponse::decode(answer.messages[0].clone()).expect("a response");
    assert!(status.code != 0 || found.kvs[0].value == "v");
    harness.access.0.borrow().member.node.state().check_invariants();
}

fn decodes(method: MethodId, bytes: &Bytes) -> Result<(), prost::DecodeError> {
    macro_rules! by_type {
        ($($($id:ident)|+ => $response:ty,)*) => {
            match method {
                $($(MethodId::$id)|+ => <$response>::decode(bytes.clone()).map(drop),)*
            }
        };
    }
    by_type! {
        Range => RangeResponse,
        RangeStream => pb::RangeStreamResponse,
        Put => pb::PutResponse,
        DeleteRange => pb::DeleteRangeResponse,
        Txn => pb::TxnResponse,
        Compact => pb::CompactionResponse,
        Watch => pb::WatchResponse,
        LeaseGrant => pb::LeaseGrantResponse,
        LeaseRevoke => pb::LeaseRevokeResponse,
        LeaseKeepAlive => pb::LeaseKeepAliveResponse,
        LeaseTimeToLive => pb::LeaseTimeToLiveResponse,
        LeaseLeases => pb::LeaseLeasesResponse,
        MemberAdd => pb::MemberAddResponse,
        MemberRemove => pb::MemberRemoveResponse,
        MemberUpdate => pb::MemberUpdateResponse,
        MemberList => pb::MemberListResponse,
        MemberPromote => pb::MemberPromoteResponse,
        Alarm => pb::AlarmResponse,
        Status => pb::StatusResponse,
        Defragment => pb::DefragmentResponse,
        Hash => pb::HashResponse,
        HashKv => pb::HashKvResponse,
        Snapshot => pb::SnapshotResponse,
        MoveLeader => pb::MoveLeaderResponse,
        Downgrade => pb::DowngradeResponse,
        AuthEnable => pb::AuthEnableResponse,
        AuthDisable => pb::AuthDisableResponse,
        AuthStatus => pb::AuthStatusResponse,
        Authenticate => pb::AuthenticateResponse,
        UserAdd => pb::AuthUserAddResponse,
        UserGet => pb::AuthUserGetResponse,
        UserList => pb::AuthUserListResponse,
        UserDelete => pb::AuthUserDeleteResponse,
        UserChangePassword => pb::AuthUserChangePasswordResponse,
        UserGrantRole => pb::AuthUserGrantRoleResponse,
        UserRevokeRole => pb::AuthUserRevokeRoleResponse,
        RoleAdd => pb::AuthRoleAddResponse,
        RoleGet => pb::AuthRoleGetResponse,
        RoleList => pb::AuthRoleListResponse,
        RoleDelete => pb::AuthRoleDeleteResponse,
        RoleGrantPermission => pb::AuthRoleGrantPermissionResponse,
        RoleRevokePermission => pb::AuthRoleRevokePermissionResponse,
        Lock => v3lockpb::LockResponse,
        Unlock => v3lockpb::UnlockResponse,
        Campaign => v3electionpb::CampaignResponse,
        Proclaim => v3electionpb::ProclaimResponse,
        Leader | Observe => v3electionpb::LeaderResponse,
        Resign => v3electionpb::ResignResponse,
        HealthCheck | HealthWatch => health::HealthCheckResponse,
        HealthList => health::HealthListResponse,
    }
}
