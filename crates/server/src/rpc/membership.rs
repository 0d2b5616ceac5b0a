//! Whether the membership may change (C-1 to C-6): the checks a member makes before it orders a change, in etcd's
//! order. Pure functions of what is known; what the log alone decides (an id that is taken, a URL in use, too many
//! learners) is refused when the change is applied, the same on all members.

use cetera_node::limits::LEARNER_READY_PERCENT;
use cetera_state::member::Member;

use super::status::Error;
use crate::config::Url;

/// A connection counts once it has stood this long, in milliseconds (etcd `HealthInterval`).
const HEALTHY_AFTER_MS: u64 = 5_000;

/// What one member knows of the group.
pub(crate) struct Known<'a> {
    /// This member.
    pub(crate) myself: u64,
    /// The members.
    pub(crate) members: &'a [Member],
    /// Since when a member is connected to this one without a break; `None` if it is not.
    pub(crate) connected_since_ms: &'a dyn Fn(u64) -> Option<u64>,
    /// Now, by the same clock.
    pub(crate) now_ms: u64,
    /// `--strict-reconfig-check`.
    pub(crate) strict: bool,
}

impl Known<'_> {
    /// C-2, C-3.
    pub(crate) fn may_add(&self, learner: bool) -> Result<(), Error> {
        if !self.strict {
            return Ok(());
        }
        let voters = self.voters().count();
        let started = self.started();
        // One that stands alone may be given a second, or a cluster that was restored could never grow.
        let second = started == 1 && voters == 1;
        if !learner && !second && started < quorum(voters + 1) {
            return Err(Error::MemberNotEnoughStarted);
        }
        if voters != 1 && self.connected() < quorum(voters + 1) {
            return Err(Error::Unhealthy);
        }
        Ok(())
    }

    /// C-4.
    pub(crate) fn may_remove(&self, id: u64) -> Result<(), Error> {
        if !self.strict || self.members.iter().any(|member| member.id == id && member.is_learner) {
            return Ok(());
        }
        let rest = self.voters().filter(|voter| voter.id != id);
        let count = |(n, started), voter: &Member| (n + 1, started + usize::from(voter.is_started()));
        let (left, started) = rest.fold((0, 0), count);
        if started < quorum(left) {
            return Err(Error::MemberNotEnoughStarted);
        }
        // Who is down does not take part now: without it the quorum that is at work stays what it is.
        if id != self.myself && (self.connected_since_ms)(id).is_none() {
            return Ok(());
        }
        let voters = self.voters().count();
        if self.connected() < 2 + voters.saturating_sub(1) / 2 {
            return Err(Error::Unhealthy);
        }
        Ok(())
    }

    /// C-6, on the leader. Whether the learner is ready is the node's to say, which knows it best; `matched`, how far
    /// each member's log is known to equal the leader's, tells here which of two reasons comes first.
    pub(crate) fn may_promote(&self, id: u64, matched: &[(u64, u64)]) -> Result<(), Error> {
        // The one to be promoted is counted, and as started.
        let (voters, started) = (self.voters().count() + 1, self.started() + 1);
        if !self.strict || started >= quorum(voters) {
            return Ok(());
        }
        let of = |wanted: u64| matched.iter().find(|(member, _)| *member == wanted).map(|(_, index)| *index);
        let its = of(id).ok_or(Error::MemberNotFound)?;
        let own = of(self.myself).unwrap_or(0);
        if u128::from(its) * 100 < u128::from(own) * u128::from(LEARNER_READY_PERCENT) {
            return Err(Error::LearnerNotReady);
        }
        Err(Error::MemberNotEnoughStarted)
    }

    /// Whether this member was connected to most of all members ever since `since_ms`.
    pub(crate) fn had_quorum_since(&self, since_ms: u64) -> bool {
        self.count_connected(self.members.iter(), since_ms) >= quorum(self.members.len())
    }

    fn voters(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| !member.is_learner)
    }

    fn started(&self) -> usize {
        self.voters().filter(|voter| voter.is_started()).count()
    }

    /// Voters in good health, this member among them.
    fn connected(&self) -> usize {
        self.count_connected(self.voters(), self.now_ms.saturating_sub(HEALTHY_AFTER_MS))
    }

    fn count_connected<'m>(&self, members: impl Iterator<Item = &'m Member>, since_ms: u64) -> usize {
        let connected = |id| (self.connected_since_ms)(id).is_some_and(|connected_ms| connected_ms <= since_ms);
        members.filter(|member| member.id == self.myself || connected(member.id)).count()
    }
}

fn quorum(members: usize) -> usize {
    members / 2 + 1
}

/// The peer URLs of a member that is to be added or changed, in the form in which they are kept: sorted, as Go's
/// `types.NewURLs` writes them.
pub(crate) fn peer_urls(given: &[String]) -> Result<Vec<String>, Error> {
    if given.is_empty() {
        return Err(Error::MemberBadUrls);
    }
    let mut urls = given.iter().map(|url| peer_url(url.trim())).collect::<Result<Vec<_>, _>>()?;
    urls.sort_unstable();
    Ok(urls)
}

fn peer_url(text: &str) -> Result<String, Error> {
    let strange = |c: char| c.is_ascii_control() || " \"<>\\^`{|}".contains(c);
    if text.contains(strange) {
        return Err(Error::MemberBadUrls);
    }
    Url::parse(text).map(|url| url.to_string()).map_err(|_| Error::MemberBadUrls)
}

#[cfg(test)]
mod tests;
