//! The two kinds of nodes, and what happens inside one of them.

use std::sync::Arc;

use super::Totals;
use super::entry::KeyEntry;
use super::keys::{Keys, common};

/// Entries in a full leaf. A leaf is copied at its first change after a snapshot, so larger leaves cost writes what they
/// save in memory and scans. Twenty entries are just below 1 KiB, up to which common allocators keep blocks at hand.
pub(super) const LEAF_MAX: usize = 20;
/// Children of a full inner node. Copying an inner node touches the reference count of each child.
pub(super) const INNER_MAX: usize = 16;
const SEPARATORS_MAX: usize = INNER_MAX - 1;
/// A leaf's entries grow by so many at once.
const ENTRY_SLACK: usize = 3;

#[derive(Clone, Debug)]
pub(super) enum Node {
    Leaf(Leaf),
    Inner(Inner),
}

/// Keys and their entries, side by side.
#[derive(Debug)]
pub(super) struct Leaf {
    pub(super) keys: Keys<LEAF_MAX>,
    pub(super) entries: Vec<KeyEntry>,
}

/// Children, parted by separators: `keys[i]` is above all keys of child `i` and at or below all of child `i + 1`.
#[derive(Debug)]
pub(super) struct Inner {
    pub(super) keys: Keys<SEPARATORS_MAX>,
    pub(super) children: Vec<Child>,
}

#[derive(Clone, Debug)]
pub(super) struct Child {
    pub(super) node: Arc<Node>,
    /// Sums over all entries below `node`.
    pub(super) totals: Totals,
}

/// A node cut off to the right, and the separator before it.
pub(super) struct Split {
    pub(super) separator: Vec<u8>,
    pub(super) right: Child,
}

impl Child {
    pub(super) fn new(node: Node) -> Self {
        let totals = node.totals();
        Child { node: Arc::new(node), totals }
    }
}

impl Node {
    pub(super) fn totals(&self) -> Totals {
        match self {
            Node::Leaf(leaf) => leaf.entries.iter().map(KeyEntry::totals).sum(),
            Node::Inner(inner) => inner.children.iter().map(|child| child.totals).sum(),
        }
    }
}

impl Leaf {
    pub(super) fn new() -> Self {
        Leaf { keys: Keys::new(), entries: Vec::new() }
    }

    pub(super) fn with_capacity(entries: usize) -> Self {
        Leaf { keys: Keys::new(), entries: Vec::with_capacity(entries) }
    }

    pub(super) fn is_full(&self) -> bool {
        self.entries.len() == LEAF_MAX
    }

    pub(super) fn insert(&mut self, at: usize, key: &[u8], entry: KeyEntry) {
        self.keys.insert(at, key);
        if self.entries.len() == self.entries.capacity() {
            let room = LEAF_MAX - self.entries.len();
            self.entries.reserve_exact((1 + ENTRY_SLACK).min(room));
        }
        self.entries.insert(at, entry);
    }

    pub(super) fn remove(&mut self, at: usize) -> KeyEntry {
        self.keys.remove(at);
        let entry = self.entries.remove(at);
        if self.entries.capacity() > 2 * self.entries.len() + 2 * ENTRY_SLACK {
            self.entries.shrink_to(self.entries.len() + ENTRY_SLACK);
        }
        entry
    }

    /// Splits this full leaf around an insert at `at`. `last` says that it is the rightmost of the tree.
    pub(super) fn split(&mut self, at: usize, last: bool) -> Leaf {
        let from = match at == LEAF_MAX {
            // Keys that come in order leave full leaves behind.
            true if last => LEAF_MAX,
            true => LEAF_MAX - LEAF_MAX / 8,
            false => LEAF_MAX / 2,
        };
        let mut entries = Vec::with_capacity((LEAF_MAX - from + 1 + ENTRY_SLACK).min(LEAF_MAX));
        entries.extend(self.entries.drain(from..));
        self.entries.shrink_to(from + ENTRY_SLACK);
        Leaf { keys: self.keys.split_off(from), entries }
    }

    pub(super) fn append(&mut self, mut right: Leaf) {
        self.keys.extend_from(&right.keys, 0..right.keys.len());
        self.entries.reserve_exact(right.entries.len());
        self.entries.append(&mut right.entries);
    }
}

impl Clone for Leaf {
    fn clone(&self) -> Self {
        // As with the children of an inner node, below.
        let pasts = self.entries.iter().filter_map(KeyEntry::past);
        std::hint::black_box(pasts.map(Arc::strong_count).sum::<usize>());
        let room = (self.entries.len() + ENTRY_SLACK).min(LEAF_MAX);
        let mut entries = Vec::with_capacity(room);
        entries.extend_from_slice(&self.entries);
        Leaf { keys: self.keys.clone(), entries }
    }
}

impl Inner {
    pub(super) fn new() -> Self {
        Inner { keys: Keys::new(), children: Vec::new() }
    }

    pub(super) fn with_capacity(children: usize) -> Self {
        Inner { keys: Keys::new(), children: Vec::with_capacity(children) }
    }

    /// A new root above two nodes.
    pub(super) fn root(left: Child, split: Split) -> Self {
        let mut inner = Inner::new();
        inner.children.push(left);
        inner.insert(0, split);
        inner
    }

    /// The child that holds `key` if any does.
    #[inline]
    pub(super) fn child_for(&self, key: &[u8]) -> usize {
        match self.keys.search(key) {
            Ok(at) => at + 1,
            Err(at) => at,
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.children.len() == INNER_MAX
    }

    /// Takes the right half of child `at` in behind it.
    pub(super) fn insert(&mut self, at: usize, split: Split) {
        self.keys.insert(at, &split.separator);
        if self.children.len() == self.children.capacity() {
            let room = INNER_MAX - self.children.len();
            self.children.reserve_exact(2.min(room));
        }
        self.children.insert(at + 1, split.right);
    }

    /// Takes child `at` out.
    pub(super) fn remove(&mut self, at: usize) -> Child {
        if self.keys.len() > 0 {
            self.keys.remove(at.saturating_sub(1));
        }
        let child = self.children.remove(at);
        if self.children.capacity() > 2 * self.children.len() + 2 {
            self.children.shrink_to(self.children.len() + 1);
        }
        child
    }

    /// Takes child `at` in behind `separator`, which is greater than all keys here.
    pub(super) fn push(&mut self, separator: &[u8], child: Child) {
        if !self.children.is_empty() {
            self.keys.push(separator);
        }
        self.children.push(child);
    }

    /// Splits this full node around an insert behind child `at`.
    pub(super) fn split(&mut self, at: usize, last: bool) -> (Vec<u8>, Inner) {
        // As with leaves; an inner node keeps at least two children.
        let from = if last && at + 1 == INNER_MAX { INNER_MAX - 2 } else { INNER_MAX / 2 };
        let mut right = Inner::new();
        right.keys = self.keys.split_off(from);
        let separator = self.keys.last().to_vec();
        self.keys.remove(from - 1);
        right.children.reserve_exact(INNER_MAX - from + 1);
        right.children.extend(self.children.drain(from..));
        self.children.shrink_to(from + 1);
        (separator, right)
    }

    /// Appends the children of `right`, before which `separator` stood.
    pub(super) fn append(&mut self, separator: &[u8], mut right: Inner) {
        self.keys.push(separator);
        self.keys.extend_from(&right.keys, 0..right.keys.len());
        self.children.reserve_exact(right.children.len());
        self.children.append(&mut right.children);
    }
}

impl Clone for Inner {
    fn clone(&self) -> Self {
        // The counts of the children lie in as many far places. Reading them all first lets the cache misses overlap,
        // which the increments that follow would take one after the other.
        std::hint::black_box(self.children.iter().map(|child| Arc::strong_count(&child.node)).sum::<usize>());
        let room = (self.children.len() + 1).min(INNER_MAX);
        let mut children = Vec::with_capacity(room);
        children.extend_from_slice(&self.children);
        Inner { keys: self.keys.clone(), children }
    }
}

/// The shortest key above `left` and at or below `right`.
pub(super) fn separator(left: &[u8], right: &[u8]) -> Vec<u8> {
    debug_assert!(left < right);
    right[..common(left, right) + 1].to_vec()
}
