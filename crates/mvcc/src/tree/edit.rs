//! Changes: every function here makes its node its own first (a copy only if a snapshot shares it), then changes it in
//! place and tells its parent what became of the sums and the shape.

use std::sync::Arc;

use super::Totals;
use super::entry::KeyEntry;
use super::node::{Child, INNER_MAX, Inner, LEAF_MAX, Leaf, Node, Split, separator};

/// What an upsert below a node did.
pub(super) struct Upserted {
    pub(super) before: Totals,
    pub(super) after: Totals,
    pub(super) added: bool,
    pub(super) split: Option<Split>,
}

/// Puts what `make` answers for the present entry of `key` in its place. `last`: `node` is the rightmost of its level.
pub(super) fn upsert(
    node: &mut Arc<Node>,
    key: &[u8],
    last: bool,
    make: impl FnOnce(Option<KeyEntry>) -> KeyEntry,
) -> Upserted {
    match Arc::make_mut(node) {
        Node::Leaf(leaf) => upsert_leaf(leaf, key, last, make),
        Node::Inner(inner) => {
            let at = inner.child_for(key);
            let last = last && at + 1 == inner.children.len();
            let child = &mut inner.children[at];
            let mut done = upsert(&mut child.node, key, last, make);
            child.totals = child.totals - done.before + done.after;
            if let Some(split) = done.split.take() {
                child.totals = child.totals - split.right.totals;
                done.split = adopt(inner, at, last, split);
            }
            done
        }
    }
}

fn upsert_leaf(leaf: &mut Leaf, key: &[u8], last: bool, make: impl FnOnce(Option<KeyEntry>) -> KeyEntry) -> Upserted {
    match leaf.keys.search(key) {
        Ok(at) => {
            let slot = &mut leaf.entries[at];
            let before = slot.totals();
            *slot = make(Some(std::mem::replace(slot, KeyEntry::vacant())));
            Upserted { before, after: slot.totals(), added: false, split: None }
        }
        Err(at) => {
            let entry = make(None);
            let after = entry.totals();
            let split = insert_leaf(leaf, at, key, last, entry);
            Upserted { before: Totals::default(), after, added: true, split }
        }
    }
}

fn insert_leaf(leaf: &mut Leaf, at: usize, key: &[u8], last: bool, entry: KeyEntry) -> Option<Split> {
    if !leaf.is_full() {
        leaf.insert(at, key, entry);
        return None;
    }
    let mut right = leaf.split(at, last);
    let left = leaf.entries.len();
    if at <= left && left < LEAF_MAX {
        leaf.insert(at, key, entry);
    } else {
        right.insert(at - left, key, entry);
    }
    let separator = separator(leaf.keys.last(), right.keys.first());
    Some(Split { separator, right: Child::new(Node::Leaf(right)) })
}

/// Takes the right half of child `at` in, splitting `inner` if it is full.
fn adopt(inner: &mut Inner, at: usize, last: bool, split: Split) -> Option<Split> {
    if !inner.is_full() {
        inner.insert(at, split);
        return None;
    }
    let (separator, mut right) = inner.split(at, last);
    let left = inner.children.len();
    if at < left {
        inner.insert(at, split);
    } else {
        right.insert(at - left, split);
    }
    Some(Split { separator, right: Child::new(Node::Inner(right)) })
}

/// Calls `change` with the entry of `key`, which is there.
pub(super) fn update<R>(
    node: &mut Arc<Node>,
    key: &[u8],
    change: impl FnOnce(&mut KeyEntry) -> R,
) -> (Totals, Totals, R) {
    match Arc::make_mut(node) {
        Node::Leaf(leaf) => {
            let at = leaf.keys.find(key).expect("the caller found the key");
            let entry = &mut leaf.entries[at];
            let before = entry.totals();
            let result = change(entry);
            (before, entry.totals(), result)
        }
        Node::Inner(inner) => {
            let at = inner.child_for(key);
            let child = &mut inner.children[at];
            let (before, after, result) = update(&mut child.node, key, change);
            child.totals = child.totals - before + after;
            (before, after, result)
        }
    }
}

/// Takes out the entry of `key`, which is there. May leave `node` empty or with a single child, for the caller to mend.
pub(super) fn remove(node: &mut Arc<Node>, key: &[u8]) -> KeyEntry {
    match Arc::make_mut(node) {
        Node::Leaf(leaf) => {
            let at = leaf.keys.find(key).expect("the caller found the key");
            leaf.remove(at)
        }
        Node::Inner(inner) => {
            let at = inner.child_for(key);
            let child = &mut inner.children[at];
            let removed = remove(&mut child.node, key);
            child.totals = child.totals - removed.totals();
            mend(inner, at);
            removed
        }
    }
}

/// Drops child `at` if it is empty, merges it with a neighbour if it is less than a quarter full and the two fit well.
fn mend(inner: &mut Inner, at: usize) {
    let fill = |node: &Node| match node {
        Node::Leaf(leaf) => (leaf.entries.len(), LEAF_MAX),
        Node::Inner(inner) => (inner.children.len(), INNER_MAX),
    };
    let (len, max) = fill(&inner.children[at].node);
    if len == 0 {
        inner.remove(at);
        return;
    }
    if len >= max / 4 {
        return;
    }
    let fits = |left: usize| {
        let right = inner.children.get(left + 1)?;
        (fill(&inner.children[left].node).0 + fill(&right.node).0 <= max * 3 / 4).then_some(left)
    };
    if let Some(left) = fits(at).or_else(|| fits(at.checked_sub(1)?)) {
        merge(inner, left);
    }
}

/// Moves all of child `left + 1` into child `left`.
fn merge(inner: &mut Inner, left: usize) {
    let separator = inner.keys.get(left).to_vec();
    let right = inner.remove(left + 1);
    let child = &mut inner.children[left];
    child.totals = child.totals + right.totals;
    match (Arc::make_mut(&mut child.node), Arc::unwrap_or_clone(right.node)) {
        (Node::Leaf(left), Node::Leaf(right)) => left.append(right),
        (Node::Inner(left), Node::Inner(right)) => left.append(&separator, right),
        _ => unreachable!("siblings are of one kind"),
    }
}
