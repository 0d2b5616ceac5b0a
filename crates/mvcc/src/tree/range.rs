//! Ordered iteration over a stretch of keys, from either end.

use super::KeyEnd;
use super::entry::KeyEntry;
use super::node::{Inner, Leaf, Node};

/// The entries of a range, tombstones included. Holds only references into the tree.
#[derive(Debug)]
pub struct Range<'a> {
    /// First entry not yet yielded from the front.
    front: Position<'a>,
    /// One past the last entry not yet yielded from the back.
    back: Position<'a>,
}

/// A gap between two entries: before entry `at` of `leaf`. The same gap has two names at the border of two leaves.
#[derive(Clone, Debug)]
struct Position<'a> {
    /// The inner nodes from the root down, each with the child taken.
    path: Vec<(&'a Inner, usize)>,
    leaf: &'a Leaf,
    at: usize,
}

impl<'a> Range<'a> {
    pub(super) fn new(root: &'a Node, start: &[u8], end: KeyEnd<'_>) -> Self {
        let front = Position::find(root, KeyEnd::Before(start));
        let back = match end {
            KeyEnd::Before(end) if end <= start => front.clone(),
            end => Position::find(root, end),
        };
        Range { front, back }
    }

    fn same_leaf(&self) -> bool {
        std::ptr::eq(self.front.leaf, self.back.leaf)
    }
}

impl<'a> Iterator for Range<'a> {
    type Item = (&'a [u8], &'a KeyEntry);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let leaf = self.front.leaf;
            let at = self.front.at;
            let stop = if self.same_leaf() { self.back.at } else { leaf.entries.len() };
            if at < stop {
                self.front.at += 1;
                return Some((leaf.keys.get(at), &leaf.entries[at]));
            }
            if self.same_leaf() || !self.front.next_leaf() {
                return None;
            }
        }
    }
}

impl DoubleEndedIterator for Range<'_> {
    #[inline]
    fn next_back(&mut self) -> Option<Self::Item> {
        loop {
            let leaf = self.back.leaf;
            let stop = if self.same_leaf() { self.front.at } else { 0 };
            if stop < self.back.at {
                self.back.at -= 1;
                let at = self.back.at;
                return Some((leaf.keys.get(at), &leaf.entries[at]));
            }
            if self.same_leaf() || !self.back.previous_leaf() {
                return None;
            }
        }
    }
}

impl<'a> Position<'a> {
    fn find(root: &'a Node, before: KeyEnd<'_>) -> Self {
        let mut path = Vec::new();
        let mut node = root;
        loop {
            match node {
                Node::Leaf(leaf) => {
                    let at = match before {
                        KeyEnd::Before(key) => leaf.keys.search(key).unwrap_or_else(|at| at),
                        KeyEnd::Open => leaf.entries.len(),
                    };
                    return Position { path, leaf, at };
                }
                Node::Inner(inner) => {
                    let at = match before {
                        KeyEnd::Before(key) => inner.child_for(key),
                        KeyEnd::Open => inner.children.len() - 1,
                    };
                    path.push((inner, at));
                    node = &inner.children[at].node;
                }
            }
        }
    }

    /// To the start of the leaf behind; false if there is none.
    #[cold]
    fn next_leaf(&mut self) -> bool {
        let Some(level) = self.path.iter().rposition(|(inner, at)| at + 1 < inner.children.len()) else {
            return false;
        };
        self.path.truncate(level + 1);
        self.path[level].1 += 1;
        self.descend(|_| 0);
        self.at = 0;
        true
    }

    /// To the end of the leaf before; false if there is none.
    #[cold]
    fn previous_leaf(&mut self) -> bool {
        let Some(level) = self.path.iter().rposition(|(_, at)| *at > 0) else {
            return false;
        };
        self.path.truncate(level + 1);
        self.path[level].1 -= 1;
        self.descend(|inner| inner.children.len() - 1);
        self.at = self.leaf.entries.len();
        true
    }

    /// From the end of `path` down to a leaf.
    fn descend(&mut self, choose: impl Fn(&Inner) -> usize) {
        let (inner, at) = *self.path.last().expect("the path was cut at a level with a sibling");
        let mut node = &*inner.children[at].node;
        loop {
            match node {
                Node::Leaf(leaf) => {
                    self.leaf = leaf;
                    return;
                }
                Node::Inner(inner) => {
                    let at = choose(inner);
                    self.path.push((inner, at));
                    node = &inner.children[at].node;
                }
            }
        }
    }
}
