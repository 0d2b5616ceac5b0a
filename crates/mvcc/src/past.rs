//! The older revisions of one key, newest first, as a persistent list: pushing shares the whole tail, so a snapshot of
//! the index costs nothing here and the writer never waits for its readers.
//!
//! Every node also points further back ("jump"), by the skew-binary scheme: a push needs a constant number of steps and
//! the newest revision at or before some main revision is found in O(log n).
//!
//! Invariants: revisions strictly fall from a node to its `prev`; a node's jump target lies on its own `prev` chain.

use std::sync::Arc;

use cetera_storage::revision::Revision;
use cetera_storage::revlog::Location;

/// What one revision made of one key.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub struct KeyRevision {
    /// The revision itself.
    pub modified: Revision,
    /// Main revision of the put that (re)created the key, 0 on a tombstone.
    pub created: i64,
    /// Puts since the key was (re)created, this one counted; 0 marks a tombstone.
    pub version: i64,
    /// Where the record lies in the revision log.
    pub location: Location,
}

impl KeyRevision {
    /// Whether this revision deleted the key.
    pub fn is_tombstone(&self) -> bool {
        self.version == 0
    }
}

/// One older revision of a key and, behind it, all revisions older than that.
#[derive(Debug)]
pub struct Past {
    main: i64,
    created: i64,
    version: i64,
    sub: u32,
    location: Location,
    /// Number of revisions behind this one.
    depth: u32,
    prev: Option<Arc<Past>>,
    /// None stands for `prev`: half of the nodes jump no further, and an absent pointer needs no reference count.
    jump: Option<Arc<Past>>,
}

impl Past {
    /// Puts `newest` in front of `older`.
    ///
    /// # Panics
    /// If `newest` is not newer than all of `older`, or has a sub revision outside of u32.
    pub fn push(older: Option<Arc<Past>>, newest: KeyRevision) -> Arc<Past> {
        let mut depth = 0;
        let mut jump = None;
        if let Some(prev) = &older {
            let revision = prev.revision();
            assert!(newest.modified > revision, "{:?} pushed onto {revision:?}", newest.modified);
            depth = prev.depth.checked_add(1).expect("a key has fewer than 2^32 revisions");
            let near = prev.jump_target();
            let far = near.jump_target();
            if prev.depth - near.depth == near.depth - far.depth {
                jump = Some(Arc::clone(far)).filter(|far| !Arc::ptr_eq(far, prev));
            }
        }
        Arc::new(Past {
            main: newest.modified.main,
            created: newest.created,
            version: newest.version,
            sub: narrow_sub(newest.modified.sub),
            location: newest.location,
            depth,
            prev: older,
            jump,
        })
    }

    /// The newest revision in this list.
    pub fn newest(&self) -> KeyRevision {
        KeyRevision { modified: self.revision(), created: self.created, version: self.version, location: self.location }
    }

    /// The list without its newest revision.
    pub fn older(&self) -> Option<&Arc<Past>> {
        self.prev.as_ref()
    }

    /// Number of revisions in the list.
    pub fn count(&self) -> usize {
        self.depth as usize + 1
    }

    /// All revisions, newest first.
    pub fn iter(&self) -> impl Iterator<Item = KeyRevision> + '_ {
        std::iter::successors(Some(self), |node| node.prev.as_deref()).map(Past::newest)
    }

    /// The newest node whose main revision is at most `main`. O(log n).
    pub fn at_or_before(&self, main: i64) -> Option<&Past> {
        let mut node = self;
        while node.main > main {
            node = match &node.jump {
                Some(jump) if jump.main > main => jump,
                _ => node.prev.as_deref()?,
            };
        }
        Some(node)
    }

    /// Calls `change` with each revision, newest first, and takes the location it answers. Nodes older than the oldest
    /// changed one stay shared with former copies of the list. Answers how many changed. O(n).
    pub fn relocate(self: &mut Arc<Self>, change: &mut dyn FnMut(Revision, Location) -> Option<Location>) -> usize {
        let mut newer = Vec::new();
        let mut changed = 0;
        let mut rebuild = 0; // how many of `newer` must be pushed anew
        let mut tail = None;
        let mut next = Some(&*self);
        while let Some(node) = next {
            let mut revision = node.newest();
            if let Some(to) = change(revision.modified, revision.location) {
                revision.location = to;
                changed += 1;
                rebuild = newer.len() + 1;
                tail = node.prev.clone();
            }
            newer.push(revision);
            next = node.prev.as_ref();
        }
        newer.truncate(rebuild);
        if let Some(list) = rebuilt(tail, &newer) {
            *self = list;
        }
        changed
    }

    /// Moves the record of one revision to `to`; false if the revision is not in the list. O(log n) to find it, then
    /// O(revisions newer than it): to move many records of one key, use [`Past::relocate`].
    pub fn relocate_one(self: &mut Arc<Self>, revision: Revision, to: Location) -> bool {
        let mut found = self.at_or_before(revision.main);
        while let Some(node) = found.filter(|node| node.revision() > revision) {
            found = node.prev.as_deref();
        }
        let Some(target) = found.filter(|node| node.revision() == revision) else {
            return false;
        };
        let moved = KeyRevision { location: to, ..target.newest() };
        let mut newer: Vec<_> = self.iter().take_while(|newer| newer.modified > revision).collect();
        newer.push(moved);
        *self = rebuilt(target.prev.clone(), &newer).expect("the moved revision was pushed");
        true
    }

    /// Keeps the newest `keep` revisions in a list that shares nothing with this one; the others are handed to
    /// `dropped`, newest first. O(n).
    pub(crate) fn truncate(&self, keep: usize, dropped: &mut dyn FnMut(KeyRevision)) -> Option<Arc<Past>> {
        let mut revisions = self.iter();
        let kept: Vec<_> = revisions.by_ref().take(keep).collect();
        revisions.for_each(dropped);
        rebuilt(None, &kept)
    }

    /// The jump chain is one of the list's own, and the depths are right.
    pub fn check_invariants(&self) {
        let mut node = self;
        loop {
            if let Some(jump) = &node.jump {
                let mut behind = node;
                while behind.depth > jump.depth {
                    behind = behind.prev.as_deref().expect("a node with depth has a predecessor");
                }
                assert!(std::ptr::eq(behind, &**jump), "jump of {:?} leaves its chain", node.revision());
            }
            let Some(prev) = node.prev.as_deref() else { break };
            assert_eq!(node.depth, prev.depth + 1);
            assert!(node.revision() > prev.revision());
            node = prev;
        }
        assert_eq!(node.depth, 0);
    }

    fn revision(&self) -> Revision {
        Revision::new(self.main, i64::from(self.sub))
    }

    /// The oldest node jumps to itself.
    fn jump_target(self: &Arc<Self>) -> &Arc<Past> {
        self.jump.as_ref().or(self.prev.as_ref()).unwrap_or(self)
    }
}

impl Drop for Past {
    /// Follows the chain in a loop: a recursive drop of a long history would overflow the stack.
    ///
    /// A jump target is held by its successor on the chain too, so letting go of the jump first never frees a node; the
    /// chain itself is then taken apart as long as nobody else holds it.
    fn drop(&mut self) {
        self.jump = None;
        let mut next = self.prev.take();
        while let Some(mut node) = next.and_then(Arc::into_inner) {
            node.jump = None;
            next = node.prev.take();
        }
    }
}

/// Pushes `newer`, which is newest first, onto `tail`.
fn rebuilt(tail: Option<Arc<Past>>, newer: &[KeyRevision]) -> Option<Arc<Past>> {
    newer.iter().rev().fold(tail, |list, revision| Some(Past::push(list, *revision)))
}

/// Sub revisions count the operations of one transaction and are kept in 32 bits.
pub(crate) fn narrow_sub(sub: i64) -> u32 {
    u32::try_from(sub).unwrap_or_else(|_| panic!("sub revision {sub} does not fit 32 bits"))
}

#[cfg(test)]
mod tests;
