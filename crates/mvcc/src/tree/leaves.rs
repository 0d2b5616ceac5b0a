//! A snapshot read once, in order, and let go of on the way.
//!
//! A writer copies every leaf that a snapshot shares before it changes it. Whoever reads a whole snapshot slowly, beside
//! a writer, would in the end have had all of the index copied. Here each leaf is given back as soon as it was read, and
//! the inner nodes above it before that, so what was read is changed in place again.

use std::sync::Arc;

use super::entry::KeyEntry;
use super::node::{Child, Node};

/// The leaves of a snapshot in order. Holds what was not read yet, and a few inner nodes' worth of pointers.
#[derive(Debug)]
pub struct Leaves {
    /// What is left below the inner nodes on the way to the next leaf, from the root down.
    left: Vec<std::vec::IntoIter<Child>>,
    /// Of a tree without inner nodes.
    root: Option<Arc<Node>>,
}

/// Neighbouring entries.
#[derive(Debug)]
pub struct Entries(Arc<Node>);

impl Leaves {
    pub(super) fn new(root: Arc<Node>) -> Self {
        Leaves { left: Vec::new(), root: Some(root) }
    }
}

impl Iterator for Leaves {
    type Item = Entries;

    fn next(&mut self) -> Option<Entries> {
        let mut node = self.root.take().or_else(|| self.next_child())?;
        loop {
            match &*node {
                Node::Leaf(_) => return Some(Entries(node)),
                Node::Inner(inner) => {
                    let children = inner.children.clone();
                    drop(node);
                    self.left.push(children.into_iter());
                }
            }
            node = self.next_child()?;
        }
    }
}

impl Leaves {
    fn next_child(&mut self) -> Option<Arc<Node>> {
        loop {
            match self.left.last_mut()?.next() {
                Some(child) => return Some(child.node),
                None => _ = self.left.pop(),
            }
        }
    }
}

impl Entries {
    /// The entries in order, tombstones included.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &KeyEntry)> {
        let Node::Leaf(leaf) = &*self.0 else { unreachable!("only leaves are handed out") };
        leaf.entries.iter().enumerate().map(|(at, entry)| (leaf.keys.get(at), entry))
    }
}
