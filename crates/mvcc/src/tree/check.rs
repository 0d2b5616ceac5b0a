//! What must hold of every tree.

use super::node::{INNER_MAX, LEAF_MAX, Node};
use super::{KeyEntry, Tree};

impl Tree {
    /// Panics unless keys are in order and between their separators, sums and counts are those of the entries, all
    /// leaves lie equally deep, no node but an empty root is empty, and every key's history is sound. O(n).
    pub fn check_invariants(&self) {
        let mut entries = 0;
        check(&self.root, None, None, &mut entries);
        assert_eq!(self.len, entries, "entry count");
        assert_eq!(self.totals, self.root.totals(), "totals of the root");
        if let Node::Inner(inner) = &*self.root {
            assert!(inner.children.len() > 1, "a root with one child should be its child");
        }
    }
}

/// Answers the height of `node`, whose keys are all in `[low, high)`.
fn check(node: &Node, low: Option<&[u8]>, high: Option<&[u8]>, entries: &mut usize) -> usize {
    match node {
        Node::Leaf(leaf) => {
            leaf.keys.check_invariants();
            let len = leaf.keys.len();
            assert_eq!(leaf.entries.len(), len);
            assert!(leaf.entries.len() <= LEAF_MAX && leaf.entries.capacity() <= LEAF_MAX);
            if len > 0 {
                assert!(low.is_none_or(|low| low <= leaf.keys.first()), "key below its separator");
                assert!(high.is_none_or(|high| leaf.keys.last() < high), "key above its separator");
            }
            leaf.entries.iter().for_each(KeyEntry::check_invariants);
            *entries += len;
            0
        }
        Node::Inner(inner) => {
            inner.keys.check_invariants();
            let count = inner.children.len();
            assert!(count > 0 && count <= INNER_MAX && inner.keys.len() == count - 1);
            let mut height = None;
            for (at, child) in inner.children.iter().enumerate() {
                let low = if at == 0 { low } else { Some(inner.keys.get(at - 1)) };
                let high = if at + 1 == count { high } else { Some(inner.keys.get(at)) };
                let before = *entries;
                let below = check(&child.node, low, high, entries);
                assert!(*entries > before, "an empty node below the root");
                assert_eq!(*height.get_or_insert(below), below, "leaves at different depths");
                assert_eq!(child.totals, child.node.totals(), "totals of child {at}");
            }
            height.expect("an inner node has children") + 1
        }
    }
}
