//! One directory of the simulated disk. Names become durable by `sync_dir` only; before it each change may have
//! been lost or kept, except that a change stands on the earlier changes of the same names.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};

use super::{file::FileState, rng::Rng};

pub(super) type FileRef = Arc<Mutex<FileState>>;
pub(super) type DirRef = Arc<Mutex<DirState>>;

#[derive(Clone)]
pub(super) enum Node {
    File(FileRef),
    Dir(DirRef),
}

/// Names set (or, with `None`, removed) in one atomic step.
type Change = Vec<(String, Option<Node>)>;

#[derive(Default)]
pub(super) struct DirState {
    pub(super) entries: BTreeMap<String, Node>,
    durable: BTreeMap<String, Node>,
    pending: Vec<Change>,
}

impl DirState {
    pub(super) fn change(&mut self, change: Change) {
        apply(&mut self.entries, &change);
        self.pending.push(change);
    }

    pub(super) fn sync(&mut self) {
        for change in std::mem::take(&mut self.pending) {
            apply(&mut self.durable, &change);
        }
    }

    /// The directory, and all below it, as a power failure at this moment could leave it.
    pub(super) fn crashed(&self, rng: &mut Rng, done: &mut CrashedFiles) -> DirState {
        let mut names = self.durable.clone();
        let mood = rng.below(4);
        let mut lost = BTreeSet::new();
        for change in &self.pending {
            let coin = match mood {
                0 => false,
                1 => true,
                _ => rng.coin(),
            };
            if coin && change.iter().all(|(name, _)| !lost.contains(name)) {
                apply(&mut names, change);
            } else {
                lost.extend(change.iter().map(|(name, _)| name));
            }
        }
        let entries: BTreeMap<String, Node> =
            names.into_iter().map(|(name, node)| (name, crashed_node(&node, rng, done))).collect();
        DirState { durable: entries.clone(), entries, pending: Vec::new() }
    }

    /// Bytes of all files below.
    pub(super) fn bytes(&self) -> u64 {
        self.entries
            .values()
            .map(|node| match node {
                Node::File(file) => lock(file).volatile.len(),
                Node::Dir(dir) => lock(dir).bytes(),
            })
            .sum()
    }
}

/// Files met so far, so that a file with two names stays one file.
pub(super) type CrashedFiles = BTreeMap<*const Mutex<FileState>, FileRef>;

fn crashed_node(node: &Node, rng: &mut Rng, done: &mut CrashedFiles) -> Node {
    match node {
        Node::Dir(dir) => Node::Dir(Arc::new(Mutex::new(lock(dir).crashed(rng, done)))),
        Node::File(file) => {
            let new = done.entry(Arc::as_ptr(file)).or_insert_with(|| Arc::new(Mutex::new(lock(file).crashed(rng))));
            Node::File(new.clone())
        }
    }
}

fn apply(names: &mut BTreeMap<String, Node>, change: &Change) {
    for (name, node) in change {
        match node {
            Some(node) => names.insert(name.clone(), node.clone()),
            None => names.remove(name),
        };
    }
}

/// A test that panics while it holds a lock has failed already; the data is still whole.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
