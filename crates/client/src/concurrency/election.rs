//! An election: the session whose key under the name was created first leads, and the key's value is its proposal.

use super::wait::wait_for_turn;
use super::{RecipeError, Session};
use crate::{Client, Cmp, Compare, Delete, Get, Put, Txn, Watch, Watcher, watch_error};
use bytes::Bytes;
use cetera_proto::etcdserverpb::RangeResponse;
use cetera_proto::etcdserverpb::response_op::Response;
use cetera_proto::mvccpb::KeyValue;
use cetera_proto::mvccpb::event::EventType;

/// An election named by a prefix.
pub struct Election<'s> {
    session: &'s Session,
    prefix: Bytes,
    /// This session's candidacy, while it has one.
    mine: Option<Candidacy>,
}

struct Candidacy {
    key: Bytes,
    created: i64,
}

impl<'s> Election<'s> {
    /// The election of this name, without a candidacy.
    pub fn new(session: &'s Session, name: impl AsRef<[u8]>) -> Election<'s> {
        Election { session, prefix: [name.as_ref(), b"/"].concat().into(), mine: None }
    }

    /// Proposes `value` and waits until elected. If the future is dropped the candidacy stays: call
    /// [`Election::resign`].
    pub async fn campaign(&mut self, value: impl Into<Bytes>) -> Result<(), RecipeError> {
        let value = value.into();
        let lease = self.session.lease();
        let key: Bytes = [&self.prefix[..], format!("{lease:x}").as_bytes()].concat().into();
        let txn = Txn::new()
            .when([Compare::create_revision(key.clone(), Cmp::Equal, 0)])
            .and_then([Put::new(key.clone(), value.clone()).lease(lease).into()])
            .or_else([Get::new(key.clone()).into()]);
        let response = self.session.client().txn(txn).await?;
        let mut created = response.header.as_ref().map_or(0, |h| h.revision);
        let mut stale = false;
        if let Some(Response::ResponseRange(range)) = response.responses.into_iter().next().and_then(|r| r.response)
            && let Some(kv) = range.kvs.into_iter().next()
        {
            created = kv.create_revision;
            stale = kv.value != value;
        }
        self.mine = Some(Candidacy { key, created });
        if stale && let Err(e) = self.proclaim(value).await {
            // The failure to proclaim is the news.
            let _ = self.resign().await;
            return Err(e);
        }
        wait_for_turn(self.session.client(), &self.prefix, created - 1).await
    }

    /// As leader, changes the proposal without another election.
    pub async fn proclaim(&mut self, value: impl Into<Bytes>) -> Result<(), RecipeError> {
        let Candidacy { key, created } = self.mine.as_ref().ok_or(RecipeError::NotLeader)?;
        let txn = Txn::new().when([Compare::create_revision(key.clone(), Cmp::Equal, *created)]).and_then([Put::new(
            key.clone(),
            value,
        )
        .lease(self.session.lease())
        .into()]);
        if !self.session.client().txn(txn).await?.succeeded {
            self.mine = None;
            return Err(RecipeError::NotLeader);
        }
        Ok(())
    }

    /// Gives leadership, or the candidacy, up.
    pub async fn resign(&mut self) -> Result<(), RecipeError> {
        let Some(Candidacy { key, created }) = self.mine.take() else { return Ok(()) };
        let txn = Txn::new()
            .when([Compare::create_revision(key.clone(), Cmp::Equal, created)])
            .and_then([Delete::new(key).into()]);
        self.session.client().txn(txn).await?;
        Ok(())
    }

    /// The key of the candidacy: empty if there is none.
    pub fn key(&self) -> Bytes {
        self.mine.as_ref().map(|c| c.key.clone()).unwrap_or_default()
    }

    /// The current leader's key and proposal.
    pub async fn leader(&self) -> Result<RangeResponse, RecipeError> {
        let found = self.session.client().get(Get::new(self.prefix.clone()).first_created()).await?;
        if found.kvs.is_empty() { Err(RecipeError::NoLeader) } else { Ok(found) }
    }

    /// The proposals of the leaders to come, beginning with the current one.
    pub fn observe(&self) -> Observer {
        Observer { client: self.session.client().clone(), prefix: self.prefix.clone(), watching: None }
    }
}

/// The stream of [`Election::observe`].
pub struct Observer {
    client: Client,
    prefix: Bytes,
    /// The watch on the current leader's key.
    watching: Option<(Watcher, Vec<RangeResponse>)>,
}

impl Observer {
    /// The next proposal. Not every one is seen, but always the latest.
    pub async fn next(&mut self) -> Result<RangeResponse, RecipeError> {
        loop {
            let Some((watcher, queue)) = &mut self.watching else {
                let (leader, revision) = self.wait_for_leader().await?;
                let key = leader.kvs[0].key.clone();
                let watcher = self.client.watch(Watch::new(key).revision(revision + 1));
                self.watching = Some((watcher, Vec::new()));
                return Ok(leader);
            };
            if let Some(next) = queue.pop() {
                return Ok(next);
            }
            let Some(response) = watcher.next().await? else {
                return Err(RecipeError::WatchLost("elect: observer lost".to_string()));
            };
            if let Some(reason) = watch_error(&response) {
                return Err(RecipeError::WatchLost(reason));
            }
            let deleted = response.events.iter().position(|e| e.r#type == EventType::Delete as i32);
            let puts = &response.events[..deleted.unwrap_or(response.events.len())];
            let proposals = puts.iter().rev().filter_map(|e| e.kv.clone());
            queue.extend(proposals.map(|kv| RangeResponse {
                header: response.header,
                kvs: vec![kv],
                ..Default::default()
            }));
            if deleted.is_some() {
                let last = queue.first().cloned();
                self.watching = None;
                if let Some(last) = last {
                    return Ok(last);
                }
            }
        }
    }

    /// The first key under the prefix, and the revision at which it was seen.
    async fn wait_for_leader(&self) -> Result<(RangeResponse, i64), RecipeError> {
        let found = self.client.get(Get::new(self.prefix.clone()).first_created()).await?;
        let revision = found.header.as_ref().map_or(0, |h| h.revision);
        if !found.kvs.is_empty() {
            return Ok((RangeResponse { kvs: found.kvs, header: found.header, ..Default::default() }, revision));
        }
        let mut watcher = self.client.watch(Watch::new(self.prefix.clone()).prefix().revision(revision));
        while let Some(response) = watcher.next().await? {
            if let Some(reason) = watch_error(&response) {
                return Err(RecipeError::WatchLost(reason));
            }
            let put = response.events.iter().find(|e| e.r#type == EventType::Put as i32);
            if let Some(kv) = put.and_then(|e| e.kv.clone()) {
                let revision = kv.mod_revision;
                return Ok((one(response.header, kv, revision), revision));
            }
        }
        Err(RecipeError::WatchLost("elect: observer lost".to_string()))
    }
}

/// The batch may go on to later revisions; the answer stands at the proposal's own.
fn one(header: Option<cetera_proto::etcdserverpb::ResponseHeader>, kv: KeyValue, revision: i64) -> RangeResponse {
    let header = header.map(|h| cetera_proto::etcdserverpb::ResponseHeader { revision, ..h });
    RangeResponse { header, kvs: vec![kv], ..Default::default() }
}
