//! Who leads, as the members say.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use cetera_proto::etcdserverpb as pb;
use cetera_proto::services::MethodId;
use tokio::time::sleep;

use crate::conn::{Answer, Conn};

/// Pause between two looks at a member.
const LOOK_EVERY: Duration = Duration::from_millis(150);
/// Longest wait for its answer.
const PATIENCE: Duration = Duration::from_millis(500);

/// What members said last. It may be wrong by now, as with anybody who asks.
#[derive(Debug, Default)]
pub struct Scout {
    last: RefCell<BTreeMap<usize, Said>>,
    /// Leaders seen, with their terms.
    led: RefCell<BTreeSet<(u64, u64)>>,
}

#[derive(Copy, Clone, Debug)]
struct Said {
    id: u64,
    term: u64,
    leader: u64,
}

impl Scout {
    /// Looks at a member at `address` until the task is dropped.
    pub async fn look(self: Rc<Scout>, member: usize, address: String) {
        let mut conn = None;
        loop {
            sleep(LOOK_EVERY).await;
            if conn.is_none() {
                conn = Conn::open(&address, PATIENCE).await;
            }
            let Some(open) = &conn else { continue };
            match open.call::<_, pb::StatusResponse>(MethodId::Status, &pb::StatusRequest {}, PATIENCE).await {
                Answer::Done(status) => self.said(member, &status),
                _ => conn = None,
            }
        }
    }

    fn said(&self, member: usize, status: &pb::StatusResponse) {
        let id = status.header.as_ref().map_or(0, |header| header.member_id);
        let said = Said { id, term: status.raft_term, leader: status.leader };
        if said.leader != 0 {
            self.led.borrow_mut().insert((said.term, said.leader));
        }
        self.last.borrow_mut().insert(member, said);
    }

    /// Who leads.
    pub fn leader(&self) -> Option<usize> {
        let last = self.last.borrow();
        let newest = last.values().filter(|said| said.leader != 0).max_by_key(|said| said.term)?;
        last.iter().find(|(_, said)| said.id == newest.leader).map(|(member, _)| *member)
    }

    /// The member's id.
    pub fn id(&self, member: usize) -> Option<u64> {
        self.last.borrow().get(&member).map(|said| said.id)
    }

    /// Leaders seen so far; one of two terms is two.
    pub fn leaders(&self) -> u64 {
        self.led.borrow().len() as u64
    }
}
