//! Builds a tree from keys in order, bottom up, with leaves nearly full.

use super::entry::KeyEntry;
use super::node::{Child, INNER_MAX, Inner, LEAF_MAX, Leaf, Node, separator};

/// Entries put in a leaf: room for two more, so that the first inserts afterwards do not split every leaf.
const LEAF_FILL: usize = LEAF_MAX - 2;
const INNER_FILL: usize = INNER_MAX - 1;

/// Collects the leaves, each with the separator before it.
pub(super) struct Builder {
    done: Vec<(Vec<u8>, Child)>,
    leaf: Leaf,
    /// Before `leaf`.
    separator: Vec<u8>,
}

impl Builder {
    pub(super) fn new() -> Self {
        Builder { done: Vec::new(), leaf: Leaf::with_capacity(LEAF_FILL), separator: Vec::new() }
    }

    pub(super) fn push(&mut self, key: &[u8], entry: KeyEntry) {
        if self.leaf.keys.len() > 0 {
            let last = self.leaf.keys.last();
            assert!(last < key, "bulk load: {key:?} does not come after {last:?}");
            if self.leaf.entries.len() == LEAF_FILL {
                let next = separator(last, key);
                self.finish_leaf();
                self.separator = next;
            }
        }
        self.leaf.insert(self.leaf.entries.len(), key, entry);
    }

    /// The root.
    pub(super) fn finish(mut self) -> Child {
        self.finish_leaf();
        let mut level = self.done;
        while level.len() > 1 {
            let mut upper = Vec::with_capacity(level.len().div_ceil(INNER_FILL));
            let mut nodes = level.into_iter().peekable();
            while nodes.peek().is_some() {
                let mut inner = Inner::with_capacity(INNER_FILL.min(nodes.len()));
                let mut before = None;
                for (separator, child) in nodes.by_ref().take(INNER_FILL) {
                    inner.push(&separator, child);
                    before.get_or_insert(separator);
                }
                inner.keys.shrink();
                let separator = before.expect("an inner node gets at least one child");
                upper.push((separator, Child::new(Node::Inner(inner))));
            }
            level = upper;
        }
        level.pop().expect("there is always one leaf").1
    }

    fn finish_leaf(&mut self) {
        let mut leaf = std::mem::replace(&mut self.leaf, Leaf::with_capacity(LEAF_FILL));
        leaf.keys.shrink();
        leaf.entries.shrink_to_fit();
        self.done.push((std::mem::take(&mut self.separator), Child::new(Node::Leaf(leaf))));
    }
}
