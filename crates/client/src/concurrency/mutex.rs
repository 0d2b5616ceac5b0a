//! A lock: the session whose key under the name was created first holds it.

use super::wait::wait_for_turn;
use super::{RecipeError, Session};
use crate::{Cmp, Compare, Delete, Get, Put, Txn};
use bytes::Bytes;
use cetera_proto::etcdserverpb::response_op::Response;
use cetera_proto::etcdserverpb::{ResponseHeader, TxnResponse};
use cetera_proto::mvccpb::KeyValue;

/// A lock named by a prefix.
pub struct Mutex<'s> {
    session: &'s Session,
    prefix: Bytes,
    /// This session's place in the queue, while it has one.
    mine: Option<Place>,
    header: Option<ResponseHeader>,
}

struct Place {
    key: Bytes,
    created: i64,
}

impl<'s> Mutex<'s> {
    /// The lock of this name, not yet asked for.
    pub fn new(session: &'s Session, name: impl AsRef<[u8]>) -> Mutex<'s> {
        Mutex { session, prefix: [name.as_ref(), b"/"].concat().into(), mine: None, header: None }
    }

    /// Takes the lock, or waits for it. If the future is dropped the place in the queue stays: call
    /// [`Mutex::unlock`].
    pub async fn lock(&mut self) -> Result<(), RecipeError> {
        let (key, created) = match self.queue_up().await? {
            Queued::Holding => return Ok(()),
            Queued::Waiting { key, created } => (key, created),
        };
        let client = self.session.client();
        let waited = async {
            wait_for_turn(client, &self.prefix, created - 1).await?;
            Ok(client.get(Get::new(key)).await?)
        };
        match waited.await {
            // The key went with its lease while we waited.
            Ok(found) if found.kvs.is_empty() => Err(RecipeError::SessionExpired),
            Ok(found) => {
                self.header = found.header;
                Ok(())
            }
            Err(e) => {
                // The failure to wait is the news, not that of leaving the queue.
                let _ = self.unlock().await;
                Err(e)
            }
        }
    }

    /// Takes the lock if nobody holds it.
    pub async fn try_lock(&mut self) -> Result<(), RecipeError> {
        match self.queue_up().await? {
            Queued::Holding => Ok(()),
            Queued::Waiting { .. } => {
                self.unlock().await?;
                Err(RecipeError::Locked)
            }
        }
    }

    /// Gives the lock, or the place in the queue, back.
    pub async fn unlock(&mut self) -> Result<(), RecipeError> {
        let place = self.mine.as_ref().ok_or(RecipeError::LockReleased)?;
        self.session.client().delete(Delete::new(place.key.clone())).await?;
        self.mine = None;
        Ok(())
    }

    /// The key that stands for this session in the queue: empty if there is none.
    pub fn key(&self) -> Bytes {
        self.mine.as_ref().map(|p| p.key.clone()).unwrap_or_default()
    }

    /// A condition that holds while this session holds the lock.
    pub fn is_owner(&self) -> Option<Compare> {
        let place = self.mine.as_ref()?;
        Some(Compare::create_revision(place.key.clone(), Cmp::Equal, place.created))
    }

    /// The header of the answer that gave the lock.
    pub fn header(&self) -> Option<&ResponseHeader> {
        self.header.as_ref()
    }

    /// Puts this session's key, unless it is there already, and looks who is first.
    async fn queue_up(&mut self) -> Result<Queued, RecipeError> {
        let lease = self.session.lease();
        let key: Bytes = [&self.prefix[..], format!("{lease:x}").as_bytes()].concat().into();
        let first = Get::new(self.prefix.clone()).first_created();
        let txn = Txn::new()
            .when([Compare::create_revision(key.clone(), Cmp::Equal, 0)])
            .and_then([Put::new(key.clone(), "").lease(lease).into(), first.clone().into()])
            .or_else([Get::new(key.clone()).into(), first.into()]);
        // The key may be written even if the answer is lost.
        self.mine = Some(Place { key: key.clone(), created: 0 });
        let response = self.session.client().txn(txn).await?;
        let revision = response.header.as_ref().map_or(0, |h| h.revision);
        let created = match response.succeeded {
            true => revision,
            false => first_kv(&response, 0).map_or(revision, |kv| kv.create_revision),
        };
        self.mine = Some(Place { key: key.clone(), created });
        if first_kv(&response, 1).is_none_or(|holder| holder.create_revision == created) {
            self.header = response.header;
            return Ok(Queued::Holding);
        }
        Ok(Queued::Waiting { key, created })
    }
}

enum Queued {
    Holding,
    Waiting { key: Bytes, created: i64 },
}

/// The first key in the answer of the read at `index`.
fn first_kv(response: &TxnResponse, index: usize) -> Option<&KeyValue> {
    match response.responses.get(index)?.response.as_ref()? {
        Response::ResponseRange(range) => range.kvs.first(),
        _ => None,
    }
}
