//! How followers learn what is committed: with the next entries, or a moment later without.

use cetera_raft::CommitNews;

use super::Node;
use crate::event::{Effects, Fatal};
use crate::limits;

impl Node {
    /// Tells followers what is committed, if somebody there waits for it or nothing carried it to them in time.
    pub(super) fn tell_commit(&mut self, effects: &mut Effects) -> Result<(), Fatal> {
        let due_ms = match self.group.commit_news() {
            CommitNews::Told => None,
            CommitNews::Awaited => Some(self.now_ms),
            CommitNews::MayWait => Some(self.tell_ms.unwrap_or(self.now_ms + limits::COMMIT_RIDES_MS)),
        };
        self.tell_ms = due_ms.filter(|due| *due > self.now_ms);
        if due_ms.is_some() && self.tell_ms.is_none() {
            self.group.tell_commit();
            self.advance(effects)?;
        }
        effects.wake_ms = [effects.wake_ms, self.tell_ms].into_iter().flatten().min();
        Ok(())
    }
}
