//! Faults of the cluster that its operators make: leadership moved, and a member replaced by a new one with an empty
//! directory, through calls that any client may make.

use std::time::Duration;

use cetera_bench::rng::Rng;
use cetera_proto::etcdserverpb as pb;
use cetera_proto::services::MethodId;
use prost::Message;
use tokio::time::{sleep, timeout};

use super::{Stage, millis};
use crate::conn::{Answer, Conn};
use crate::member::Member;

/// Longest wait for an answer.
const CALL_PATIENCE: Duration = Duration::from_secs(2);
/// Pause between two steps of a replacement.
const STEP_PAUSE: Duration = Duration::from_millis(150);
/// A replacement that takes longer waits for other faults to end. etcd lets nobody in while one of the others has not
/// been connected for five seconds.
const REPLACE_PATIENCE: Duration = Duration::from_secs(20);
/// Without faults it is done within this.
const LAST_PATIENCE: Duration = Duration::from_secs(60);
/// A removed member that hears of it ends by itself within this, or is killed.
const LEAVE_PATIENCE: Duration = Duration::from_secs(3);

/// A member that is being replaced.
#[derive(Copy, Clone, Debug)]
pub(super) struct Replacement {
    member: usize,
    /// The id it had.
    old: u64,
    /// The new one has its directory.
    begun: bool,
    /// It joins as a learner first.
    learner: bool,
    /// It is killed once while it joins.
    kill: bool,
}

impl Stage {
    /// Asks the leader to hand over.
    pub(super) async fn move_leader(&self, rng: &mut Rng) -> Result<bool, String> {
        let Some(leader) = self.scout.leader() else { return Ok(false) };
        let to = rng.within(0, self.members.len() as u64) as usize;
        let Some(target_id) = self.scout.id(to).filter(|_| to != leader) else { return Ok(false) };
        let request = pb::MoveLeaderRequest { target_id };
        let answer: Answer<pb::MoveLeaderResponse> = ask(&self.members[leader], MethodId::MoveLeader, &request).await;
        Ok(matches!(answer, Answer::Done(_)))
    }

    /// Replaces a member: it is removed, then its successor with an empty directory is added and started.
    pub(super) async fn replace(&self, member: usize, rng: &mut Rng) -> Result<bool, String> {
        if self.replacement.borrow().is_none() {
            let Some(old) = self.scout.id(member) else { return Ok(false) };
            let (learner, kill) = (rng.chance(50), rng.chance(30));
            let replacement = Replacement { member, old, begun: false, learner, kill };
            let Some(_handling) = self.members[member].handle() else { return Ok(false) };
            self.members[member].out.set(true);
            self.members[member].joins.set(true);
            *self.replacement.borrow_mut() = Some(replacement);
            // Some are dead when they are removed, others must notice.
            if rng.chance(60) {
                self.killed(&self.members[member]);
            }
        }
        // What is not done by then is gone on with, by another fault of this kind or in the end.
        Ok(matches!(timeout(REPLACE_PATIENCE, self.go_on(rng)).await, Ok(Ok(()))))
    }

    /// Ends a replacement that other faults held up.
    ///
    /// # Errors
    /// It cannot be ended.
    pub async fn finish_replacement(&self, rng: &mut Rng) -> Result<(), String> {
        let Some(Replacement { member, .. }) = *self.replacement.borrow() else { return Ok(()) };
        let name = &self.members[member].launch.place.name;
        match timeout(LAST_PATIENCE, self.go_on(rng)).await {
            Ok(ended) => ended,
            Err(_) => Err(format!(
                "{name} could not be replaced within {LAST_PATIENCE:?} after the last fault: {}",
                self.last_answer.borrow()
            )),
        }
    }

    /// Goes on with the replacement until it is done, by what the cluster says of its members. It may be dropped anywhere
    /// and begun again.
    async fn go_on(&self, rng: &mut Rng) -> Result<(), String> {
        loop {
            sleep(STEP_PAUSE).await;
            let Some(replacement) = *self.replacement.borrow() else { return Ok(()) };
            let member = &self.members[replacement.member];
            // Another fault has the process in hand.
            let Some(_handling) = member.handle() else { continue };
            let list = pb::MemberListRequest { linearizable: true };
            let list: Option<pb::MemberListResponse> =
                self.ask_another(replacement.member, MethodId::MemberList, &list, rng).await;
            let Some(list) = list else { continue };
            let peer_url = format!("http://{}", member.launch.place.advertised);
            if list.members.iter().any(|listed| listed.id == replacement.old) {
                let request = pb::MemberRemoveRequest { id: replacement.old };
                let _: Option<pb::MemberRemoveResponse> =
                    self.ask_another(replacement.member, MethodId::MemberRemove, &request, rng).await;
                continue;
            }
            let Some(new) = list.members.iter().find(|listed| listed.peer_urls.contains(&peer_url)) else {
                self.leaves(member).await;
                let request = pb::MemberAddRequest { peer_urls: vec![peer_url], is_learner: replacement.learner };
                let _: Option<pb::MemberAddResponse> =
                    self.ask_another(replacement.member, MethodId::MemberAdd, &request, rng).await;
                continue;
            };
            if !replacement.begun {
                self.leaves(member).await;
                self.begin(member, replacement, rng).await?;
                continue;
            }
            if let Some(ended) = member.ended() {
                self.ended(member, &ended);
            }
            if !member.is_running() {
                member.start()?;
                continue;
            }
            if new.is_learner {
                let request = pb::MemberPromoteRequest { id: new.id };
                let _: Option<pb::MemberPromoteResponse> =
                    self.ask_another(replacement.member, MethodId::MemberPromote, &request, rng).await;
                continue;
            }
            if member.serves(CALL_PATIENCE).await.is_ok() {
                member.joins.set(false);
                member.out.set(false);
                *self.replacement.borrow_mut() = None;
                return Ok(());
            }
        }
    }

    /// The removed one is to end by itself, if it hears of it.
    async fn leaves(&self, member: &Member) {
        let begun = tokio::time::Instant::now();
        while member.is_running() && begun.elapsed() < LEAVE_PATIENCE {
            if let Some(ended) = member.ended() {
                self.ended(member, &ended);
            }
            sleep(Duration::from_millis(20)).await;
        }
        if member.is_running() {
            self.note("were killed, for they had not heard that they were removed".to_owned());
            self.killed(member);
        }
    }

    /// The new one, on an empty directory.
    async fn begin(&self, member: &Member, replacement: Replacement, rng: &mut Rng) -> Result<(), String> {
        member.replace()?;
        *self.replacement.borrow_mut() = Some(Replacement { begun: true, kill: false, ..replacement });
        // Nothing that was sent to the old one reaches the new.
        self.proxies[replacement.member].reset();
        member.start()?;
        if replacement.kill {
            sleep(millis(rng, 0, 500)).await;
            self.killed(member);
            member.start()?;
        }
        Ok(())
    }

    /// Asks any member but one; nothing if it does not do it.
    async fn ask_another<Q: Message, S: Message + Default>(
        &self,
        not: usize,
        method: MethodId,
        request: &Q,
        rng: &mut Rng,
    ) -> Option<S> {
        let mut others: Vec<usize> = (0..self.members.len()).filter(|member| *member != not).collect();
        rng.shuffle(&mut others);
        match ask(&self.members[others[0]], method, request).await {
            Answer::Done(answer) => Some(answer),
            Answer::Refused(text) | Answer::Unknown { text, .. } => {
                *self.last_answer.borrow_mut() = format!("{method:?}: {text}");
                None
            }
        }
    }
}

async fn ask<Q: Message, S: Message + Default>(member: &Member, method: MethodId, request: &Q) -> Answer<S> {
    match Conn::open(&member.launch.address(), CALL_PATIENCE).await {
        Some(conn) => conn.call(method, request, CALL_PATIENCE).await,
        None => Answer::Unknown { text: "no connection".to_owned(), broken: true },
    }
}
