//! What the index knows of one key: its newest revision in place, the older ones behind a pointer.

use std::sync::Arc;

use cetera_storage::revision::Revision;
use cetera_storage::revlog::Location;

use super::Totals;
use crate::past::{KeyRevision, Past, narrow_sub};

/// The newest revision of a key, its place in the revision log, and the older revisions not yet compacted.
#[derive(Clone, Debug)]
pub struct KeyEntry {
    main: i64,
    created: i64,
    version: i64,
    past: Option<Arc<Past>>,
    location: Location,
    sub: u32,
}

impl KeyEntry {
    /// An entry whose newest revision is `newest`, with `past` behind it.
    ///
    /// # Panics
    /// If `past` is not older than `newest`, or the sub revision does not fit 32 bits.
    pub fn new(newest: KeyRevision, past: Option<Arc<Past>>) -> Self {
        if let Some(past) = &past {
            let older = past.newest().modified;
            assert!(older < newest.modified, "past at {older:?}, newest at {:?}", newest.modified);
        }
        KeyEntry {
            main: newest.modified.main,
            created: newest.created,
            version: newest.version,
            past,
            location: newest.location,
            sub: narrow_sub(newest.modified.sub),
        }
    }

    /// A put of a key that has no entry.
    pub fn first_put(modified: Revision, location: Location) -> Self {
        Self::new(KeyRevision { modified, created: modified.main, version: 1, location }, None)
    }

    /// A put of this key: one more version of a live key, or a key created anew after its tombstone.
    pub fn put(self, modified: Revision, location: Location) -> Self {
        let (created, version) = if self.is_live() { (self.created, self.version + 1) } else { (modified.main, 1) };
        self.followed_by(KeyRevision { modified, created, version, location })
    }

    /// A delete of this key, which must be live; `location` is the tombstone's record.
    pub fn delete(self, modified: Revision, location: Location) -> Self {
        assert!(self.is_live(), "delete at {modified:?} of a key deleted at {:?}", self.modified());
        self.followed_by(KeyRevision { modified, created: 0, version: 0, location })
    }

    fn followed_by(self, newest: KeyRevision) -> Self {
        let current = self.newest();
        Self::new(newest, Some(Past::push(self.past, current)))
    }

    /// The newest revision.
    pub fn modified(&self) -> Revision {
        Revision::new(self.main, i64::from(self.sub))
    }

    /// Main revision at which the live key was created, 0 on a tombstone.
    pub fn created(&self) -> i64 {
        self.created
    }

    /// Puts since creation, 0 on a tombstone.
    pub fn version(&self) -> i64 {
        self.version
    }

    /// The newest revision's record.
    pub fn location(&self) -> Location {
        self.location
    }

    /// The older revisions.
    pub fn past(&self) -> Option<&Arc<Past>> {
        self.past.as_ref()
    }

    /// Whether the key exists at its newest revision.
    pub fn is_live(&self) -> bool {
        self.version > 0
    }

    /// The newest revision with all that is known of it.
    pub fn newest(&self) -> KeyRevision {
        KeyRevision { modified: self.modified(), created: self.created, version: self.version, location: self.location }
    }

    /// All revisions, newest first.
    pub fn revisions(&self) -> impl Iterator<Item = KeyRevision> + '_ {
        std::iter::once(self.newest()).chain(self.past.iter().flat_map(|past| past.iter()))
    }

    /// The key as it was once revision `main` was complete; None if it did not exist then (not yet created, deleted, or
    /// compacted away). O(log n) in the key's revisions.
    pub fn at(&self, main: i64) -> Option<KeyRevision> {
        self.revision_at(main).filter(|revision| !revision.is_tombstone())
    }

    /// The newest revision at or before `main`, tombstones included.
    pub fn revision_at(&self, main: i64) -> Option<KeyRevision> {
        if self.main <= main {
            return Some(self.newest());
        }
        self.past.as_deref()?.at_or_before(main).map(Past::newest)
    }

    /// Whether [`KeyEntry::trim`] at `watermark` would drop anything. Reads only, O(log n).
    pub fn needs_trim(&self, watermark: i64) -> bool {
        match self.cut(watermark) {
            Cut::None => false,
            Cut::Everything => true,
            Cut::Keep(kept) => kept < self.count(),
        }
    }

    /// Drops what a compaction at `watermark` drops (contract D-1, etcd's keyIndex.compact): every revision older than
    /// the newest one at or before the watermark, and that one too if it is a tombstone older than the watermark. A
    /// tombstone exactly at the watermark stays, and so does all that is newer.
    ///
    /// Each dropped revision is handed to `dropped`, newest first. False if nothing is left: the caller removes the key.
    /// (The entry then still holds its newest revision, reported as dropped.) O(kept + dropped) if anything is dropped.
    #[must_use]
    pub fn trim(&mut self, watermark: i64, dropped: &mut dyn FnMut(KeyRevision)) -> bool {
        match self.cut(watermark) {
            Cut::None => true,
            Cut::Everything => {
                dropped(self.newest());
                if let Some(past) = self.past.take() {
                    past.iter().for_each(dropped);
                }
                false
            }
            Cut::Keep(kept) => {
                if kept < self.count() {
                    let past = self.past.take().expect("more than one revision");
                    self.past = past.truncate(kept - 1, dropped);
                }
                true
            }
        }
    }

    /// The one revision at or before `compacted` that HashKV counts when `compacted` is the compaction watermark: none
    /// if a tombstone lies exactly there (etcd's keyIndex.keep), else the newest one if it is a put.
    pub fn hashed_below(&self, compacted: i64) -> Option<Revision> {
        let newest = self.revision_at(compacted)?;
        let deleted_at_watermark = self.not_newer_than(compacted, newest).any(|r| r.is_tombstone());
        (!newest.is_tombstone() && !deleted_at_watermark).then_some(newest.modified)
    }

    /// Moves the record of one revision to `to`; false if this key has no such revision. Cheap for the newest revision;
    /// see [`Past::relocate_one`] for older ones.
    pub fn relocate_one(&mut self, revision: Revision, to: Location) -> bool {
        if self.modified() == revision {
            self.location = to;
            return true;
        }
        self.past.as_mut().is_some_and(|past| past.relocate_one(revision, to))
    }

    /// Calls `change` with each revision, newest first, and takes the location it answers. Answers how many changed.
    pub fn relocate(&mut self, change: &mut dyn FnMut(Revision, Location) -> Option<Location>) -> usize {
        let mut changed = 0;
        if let Some(to) = change(self.modified(), self.location) {
            self.location = to;
            changed = 1;
        }
        changed + self.past.as_mut().map_or(0, |past| past.relocate(change))
    }

    /// What this entry adds to the sums of the tree.
    pub(super) fn totals(&self) -> Totals {
        if self.is_live() { Totals { keys: 1, bytes: u64::from(self.location.len) } } else { Totals::default() }
    }

    pub(super) fn check_invariants(&self) {
        assert_eq!(self.version == 0, self.created == 0, "a tombstone has neither version nor creation");
        if let Some(past) = &self.past {
            assert!(past.newest().modified < self.modified());
            past.check_invariants();
        }
    }

    /// What stands in a slot while its entry is being changed.
    pub(super) const fn vacant() -> Self {
        let location = Location { segment: 0, offset: 0, len: 0 };
        KeyEntry { main: 0, created: 0, version: 0, past: None, location, sub: 0 }
    }

    fn count(&self) -> usize {
        1 + self.past.as_ref().map_or(0, |past| past.count())
    }

    /// The revisions at main revision `main`, given the newest one at or before it.
    fn not_newer_than(&self, main: i64, newest: KeyRevision) -> impl Iterator<Item = KeyRevision> + '_ {
        let behind = if newest.modified == self.modified() {
            self.past.as_deref()
        } else {
            let node = self.past.as_deref().and_then(|past| past.at_or_before(main));
            node.and_then(|node| node.older()).map(|older| &**older)
        };
        let behind = behind.into_iter().flat_map(Past::iter);
        std::iter::once(newest).chain(behind).take_while(move |r| r.modified.main == main)
    }

    fn cut(&self, watermark: i64) -> Cut {
        let Some(newest) = self.revision_at(watermark) else {
            return Cut::None;
        };
        let newer = if newest.modified == self.modified() {
            0
        } else {
            let node = self.past.as_deref().and_then(|past| past.at_or_before(watermark));
            self.count() - node.expect("found above").count()
        };
        // One transaction may delete a key and put it again. etcd keeps the oldest tombstone exactly at the watermark and
        // all generations after it, so count up to the last tombstone met while still at the watermark.
        let at_watermark = self.not_newer_than(watermark, newest).enumerate();
        let tombstone = at_watermark.filter(|(_, r)| r.is_tombstone()).last();
        match tombstone {
            Some((behind, _)) => Cut::Keep(newer + behind + 1),
            None if !newest.is_tombstone() => Cut::Keep(newer + 1),
            None if newer == 0 => Cut::Everything,
            None => Cut::Keep(newer),
        }
    }
}

/// What a compaction leaves of an entry.
enum Cut {
    /// All revisions are newer than the watermark.
    None,
    /// No revision stays.
    Everything,
    /// The newest so many revisions stay, at least one.
    Keep(usize),
}
