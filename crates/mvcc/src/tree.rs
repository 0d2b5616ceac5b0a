//! The key index: an ordered copy-on-write B+tree from keys to what is known of their revisions.
//!
//! A clone of the tree is a snapshot: it costs one reference count, and readers on other threads use it while the one
//! writer goes on. The writer changes nodes in place where no snapshot shares them and copies the path from the root to
//! the changed leaf where one does, so a batch of writes pays for each touched node once, however many batches readers
//! still hold.
//!
//! Inner nodes carry the count of live keys and the sum of their record lengths below each child, so both are known for
//! any range in O(log n).
//!
//! It never reads a clock, never allocates per key (but for keys with more than one revision), and knows nothing of
//! what the keys mean. Tombstones are entries like others until a compaction removes them.

mod bulk;
mod check;
mod edit;
mod entry;
mod keys;
mod leaves;
mod node;
mod range;
#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use self::entry::KeyEntry;
pub use self::leaves::{Entries, Leaves};
use self::node::{Child, Inner, Leaf, Node};
pub use self::range::Range;

/// Where a range of keys ends.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum KeyEnd<'a> {
    /// Before this key.
    Before(&'a [u8]),
    /// Behind the last key.
    Open,
}

/// Sums over the live keys of a range.
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub struct Totals {
    /// Number of live keys.
    pub keys: u64,
    /// Sum of the lengths of their newest records' payloads.
    pub bytes: u64,
}

/// The key index. `clone` is an O(1) snapshot.
#[derive(Clone, Debug)]
pub struct Tree {
    root: Arc<Node>,
    totals: Totals,
    len: usize,
}

impl Tree {
    /// A tree without entries.
    pub fn new() -> Self {
        Tree { root: Arc::new(Node::Leaf(Leaf::new())), totals: Totals::default(), len: 0 }
    }

    /// Builds a tree with nearly full nodes.
    ///
    /// # Panics
    /// If the keys do not strictly ascend.
    pub fn from_sorted<K: AsRef<[u8]>>(entries: impl IntoIterator<Item = (K, KeyEntry)>) -> Self {
        let mut builder = bulk::Builder::new();
        let mut len = 0;
        for (key, entry) in entries {
            builder.push(key.as_ref(), entry);
            len += 1;
        }
        let Child { node, totals } = builder.finish();
        Tree { root: node, totals, len }
    }

    /// Number of entries, tombstones included.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no entry at all, not even a tombstone.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The entry of `key`; a deleted key may still have one.
    pub fn get(&self, key: &[u8]) -> Option<&KeyEntry> {
        let mut node = &*self.root;
        loop {
            match node {
                Node::Leaf(leaf) => return leaf.keys.find(key).map(|at| &leaf.entries[at]),
                Node::Inner(inner) => node = &inner.children[inner.child_for(key)].node,
            }
        }
    }

    /// Puts `entry` in the place of the former entry of `key`, which is returned.
    pub fn insert(&mut self, key: &[u8], entry: KeyEntry) -> Option<KeyEntry> {
        let mut former = None;
        self.upsert(key, |present| {
            former = present;
            entry
        });
        former
    }

    /// Replaces the entry of `key`, or makes one, in one descent: `make` gets the present entry and answers the new one.
    pub fn upsert(&mut self, key: &[u8], make: impl FnOnce(Option<KeyEntry>) -> KeyEntry) {
        let done = edit::upsert(&mut self.root, key, true, make);
        self.totals = self.totals - done.before + done.after;
        self.len += usize::from(done.added);
        if let Some(split) = done.split {
            let totals = self.totals - split.right.totals;
            let left = Child { node: Arc::clone(&self.root), totals };
            self.root = Arc::new(Node::Inner(Inner::root(left, split)));
        }
    }

    /// Calls `change` with the entry of `key`. None, and nothing copied, if there is no entry.
    pub fn update<R>(&mut self, key: &[u8], change: impl FnOnce(&mut KeyEntry) -> R) -> Option<R> {
        self.get(key)?;
        let (before, after, result) = edit::update(&mut self.root, key, change);
        self.totals = self.totals - before + after;
        Some(result)
    }

    /// Takes the entry of `key` out, history and all. (A delete by a client is an upsert of a tombstone instead.)
    pub fn remove(&mut self, key: &[u8]) -> Option<KeyEntry> {
        self.get(key)?;
        let removed = edit::remove(&mut self.root, key);
        self.totals = self.totals - removed.totals();
        self.len -= 1;
        // A root has two children or more before, so one at least is left.
        while let Node::Inner(inner) = &*self.root
            && let [only] = inner.children.as_slice()
        {
            self.root = Arc::clone(&only.node);
        }
        Some(removed)
    }

    /// The entries from `start` on up to `end`, tombstones included, in order; `.rev()` for the reverse. Finding both
    /// ends is O(log n). An `end` at or before `start` makes an empty range.
    pub fn range<'a>(&'a self, start: &[u8], end: KeyEnd<'_>) -> Range<'a> {
        Range::new(&self.root, start, end)
    }

    /// All entries in order.
    pub fn iter(&self) -> Range<'_> {
        self.range(b"", KeyEnd::Open)
    }

    /// All entries in order, leaf by leaf; what was read is let go of, so that a writer need not copy it any more.
    pub fn into_leaves(self) -> Leaves {
        Leaves::new(self.root)
    }

    /// Live keys in a range and the sum of their records. O(log n).
    pub fn totals(&self, start: &[u8], end: KeyEnd<'_>) -> Totals {
        let above = match end {
            KeyEnd::Before(end) if end <= start => return Totals::default(),
            KeyEnd::Before(end) => self.totals_before(end),
            KeyEnd::Open => self.totals,
        };
        above - self.totals_before(start)
    }

    fn totals_before(&self, key: &[u8]) -> Totals {
        if key.is_empty() {
            return Totals::default();
        }
        let mut sum = Totals::default();
        let mut node = &*self.root;
        loop {
            match node {
                Node::Leaf(leaf) => {
                    let at = leaf.keys.search(key).unwrap_or_else(|at| at);
                    return sum + leaf.entries[..at].iter().map(KeyEntry::totals).sum();
                }
                Node::Inner(inner) => {
                    let at = inner.child_for(key);
                    sum = sum + inner.children[..at].iter().map(|child| child.totals).sum();
                    node = &inner.children[at].node;
                }
            }
        }
    }
}

impl Default for Tree {
    fn default() -> Self {
        Tree::new()
    }
}

impl<'a> IntoIterator for &'a Tree {
    type Item = (&'a [u8], &'a KeyEntry);
    type IntoIter = Range<'a>;

    fn into_iter(self) -> Range<'a> {
        self.iter()
    }
}

impl std::ops::Add for Totals {
    type Output = Totals;

    fn add(self, other: Totals) -> Totals {
        Totals { keys: self.keys + other.keys, bytes: self.bytes + other.bytes }
    }
}

impl std::ops::Sub for Totals {
    type Output = Totals;

    /// # Panics
    /// If `other` is not a part of this sum.
    fn sub(self, other: Totals) -> Totals {
        let keys = self.keys.checked_sub(other.keys).expect("a part is not above its sum");
        let bytes = self.bytes.checked_sub(other.bytes).expect("a part is not above its sum");
        Totals { keys, bytes }
    }
}

impl std::iter::Sum for Totals {
    fn sum<I: Iterator<Item = Totals>>(parts: I) -> Totals {
        parts.fold(Totals::default(), std::ops::Add::add)
    }
}
