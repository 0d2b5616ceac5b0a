//! Transactions. Those that are made here are valid: no branch changes a key twice (TX-3).

use std::collections::BTreeSet;

use bytes::Bytes;
use cetera_proto::etcdserverpb as pb;
use pb::compare::{CompareResult, CompareTarget, TargetUnion};
use pb::request_op::Request as Op;

use super::ops::{NAMES, key, named, one_in, span};
use super::{Dice, Generator};
use crate::keys::prefix_end;

/// Levels of transactions in a transaction.
const DEPTH: u32 = 3;

/// What the operations so far change, on any path that the next operation can be on.
#[derive(Clone, Default)]
struct Changed {
    put: BTreeSet<Bytes>,
    deleted: BTreeSet<Bytes>,
    /// Not to be deleted: what is put here, and what the sibling branch puts.
    kept: BTreeSet<Bytes>,
}

impl Changed {
    fn put(&mut self, key: &Bytes) -> bool {
        let free = !self.put.contains(key) && !self.deleted.contains(key);
        if free {
            self.put.insert(key.clone());
            self.kept.insert(key.clone());
        }
        free
    }

    fn delete(&mut self, keys: Vec<Bytes>) -> bool {
        let free = !keys.iter().any(|key| self.kept.contains(key));
        if free {
            self.deleted.extend(keys);
        }
        free
    }

    /// Where the second branch of a nested transaction begins, the first having come from here to `then`: it may put
    /// what the first puts, and nothing that the first deletes.
    fn sibling(&self, then: &Changed) -> Changed {
        Changed { put: self.put.clone(), deleted: then.deleted.clone(), kept: then.kept.clone() }
    }

    fn join(&mut self, mut branch: Changed) {
        self.put.append(&mut branch.put);
        self.deleted.append(&mut branch.deleted);
        self.kept.append(&mut branch.kept);
    }
}

impl Generator {
    pub(super) fn txn(&self, dice: &mut dyn Dice) -> pb::TxnRequest {
        let depth = if one_in(dice, 3) { 1 + dice.pick(u64::from(DEPTH)) as u32 } else { 0 };
        let compare = self.compares(dice);
        let mut branch = || {
            let mut branch = self.branch(dice, depth, &mut Changed::default());
            // One mark is for the nested ones too.
            if changes(&branch) && (is_silent(&branch) || one_in(dice, 4)) {
                branch.push(self.mark(dice));
            }
            branch
        };
        let (success, failure) = (branch(), branch());
        pb::TxnRequest { compare, success, failure }
    }

    pub(super) fn txn_read(&self, dice: &mut dyn Dice) -> pb::TxnRequest {
        let compare = self.compares(dice);
        let mut reads = |most: u64| (0..dice.pick(most)).map(|_| op(Op::RequestRange(self.any_range(dice)))).collect();
        let (success, failure) = (reads(4), reads(3));
        pb::TxnRequest { compare, success, failure }
    }

    pub(super) fn delete_marked(&self, dice: &mut dyn Dice) -> pb::TxnRequest {
        let compare = if one_in(dice, 2) { vec![self.compare(dice)] } else { Vec::new() };
        let mut success = vec![op(Op::RequestDeleteRange(super::ops::delete(dice))), self.mark(dice)];
        if one_in(dice, 4) {
            success.push(op(Op::RequestRange(self.any_range(dice))));
        }
        let failure = if one_in(dice, 2) { vec![op(Op::RequestRange(self.any_range(dice)))] } else { Vec::new() };
        pb::TxnRequest { compare, success, failure }
    }

    /// Writes a key if it was not changed since; reads it if it was.
    pub(super) fn swap_txn(&self, dice: &mut dyn Dice, key: Bytes, changed: i64) -> pb::TxnRequest {
        let unchanged = pb::Compare {
            result: CompareResult::Equal as i32,
            target: CompareTarget::Mod as i32,
            key: key.clone(),
            target_union: Some(TargetUnion::ModRevision(changed)),
            ..Default::default()
        };
        let success = if changed > 0 && one_in(dice, 5) {
            let delete = pb::DeleteRangeRequest { key: key.clone(), prev_kv: true, ..Default::default() };
            vec![op(Op::RequestDeleteRange(delete)), self.mark(dice)]
        } else {
            let value = self.value(dice);
            vec![op(Op::RequestPut(pb::PutRequest { key: key.clone(), value, ..Default::default() }))]
        };
        let failure = vec![op(Op::RequestRange(pb::RangeRequest { key, ..Default::default() }))];
        pb::TxnRequest { compare: vec![unchanged], success, failure }
    }

    fn compares(&self, dice: &mut dyn Dice) -> Vec<pb::Compare> {
        (0..dice.pick(3)).map(|_| self.compare(dice)).collect()
    }

    fn nested(&self, dice: &mut dyn Dice, depth: u32, changed: &mut Changed) -> pb::TxnRequest {
        let compare = self.compares(dice);
        let mut then = changed.clone();
        let success = self.branch(dice, depth, &mut then);
        let mut otherwise = changed.sibling(&then);
        let failure = self.branch(dice, depth, &mut otherwise);
        changed.join(then);
        changed.join(otherwise);
        pb::TxnRequest { compare, success, failure }
    }

    fn branch(&self, dice: &mut dyn Dice, depth: u32, changed: &mut Changed) -> Vec<pb::RequestOp> {
        let mut ops = Vec::new();
        for _ in 0..1 + dice.pick(4) {
            let request = match dice.pick(10) {
                0..5 => {
                    let put = self.put(dice);
                    // A put that fails for want of a key or a lease takes the whole transaction with it: seldom.
                    let put = if one_in(dice, 6) { put } else { self.plain(dice, put) };
                    if !changed.put(&put.key) {
                        continue;
                    }
                    Op::RequestPut(put)
                }
                5 | 6 => match self.free_delete(dice, changed) {
                    Some(delete) => Op::RequestDeleteRange(delete),
                    None => continue,
                },
                7 if depth > 0 => Op::RequestTxn(self.nested(dice, depth - 1, changed)),
                _ => Op::RequestRange(self.any_range(dice)),
            };
            ops.push(op(request));
        }
        if depth > 0 && ops.is_empty() {
            ops.push(op(Op::RequestTxn(self.nested(dice, depth - 1, changed))));
        }
        ops
    }

    /// A put that finds all it needs.
    fn plain(&self, dice: &mut dyn Dice, put: pb::PutRequest) -> pb::PutRequest {
        let value = if put.ignore_value { self.value(dice) } else { put.value };
        pb::PutRequest { key: put.key, value, prev_kv: put.prev_kv, ..Default::default() }
    }

    /// A delete that meets no key which the branch changes.
    fn free_delete(&self, dice: &mut dyn Dice, changed: &mut Changed) -> Option<pb::DeleteRangeRequest> {
        let (key, range_end) = match dice.pick(4) {
            0 => (named("a/"), prefix_end(&named("a/"))),
            1 => (named("b/"), prefix_end(&named("b/"))),
            _ => (key(dice), Bytes::new()),
        };
        let meets = |name: &Bytes| if range_end.is_empty() { *name == key } else { *name >= key && *name < range_end };
        let met: Vec<Bytes> = NAMES.iter().map(|name| named(name)).filter(meets).collect();
        let prev_kv = one_in(dice, 2);
        changed.delete(met).then_some(pb::DeleteRangeRequest { key, range_end, prev_kv })
    }

    fn any_range(&self, dice: &mut dyn Dice) -> pb::RangeRequest {
        let mut range = if one_in(dice, 2) { self.get(dice) } else { self.range(dice) };
        // A revision that is not there fails the whole transaction: seldom.
        if !one_in(dice, 6) {
            range.revision = 0;
        }
        // Whether a transaction is linearizable is decided by all its ranges together (TX-12).
        range.serializable = false;
        range
    }

    fn mark(&self, dice: &mut dyn Dice) -> pb::RequestOp {
        let value = dice.unique().to_string().into();
        op(Op::RequestPut(pb::PutRequest { key: self.mark.clone(), value, ..Default::default() }))
    }

    fn compare(&self, dice: &mut dyn Dice) -> pb::Compare {
        let results = [CompareResult::Equal, CompareResult::Greater, CompareResult::Less, CompareResult::NotEqual];
        let (key, range_end) = if one_in(dice, 5) { span(dice) } else { (key(dice), Bytes::new()) };
        let seen = self.known.pairs.get(&key);
        // Half the time what was last seen, which often still holds.
        let seen = if one_in(dice, 2) { seen } else { None };
        let (target, target_union) = match dice.pick(5) {
            0 => {
                let version = seen.map_or(dice.pick(4) as i64, |kv| kv.version);
                (CompareTarget::Version, TargetUnion::Version(version))
            }
            1 => {
                let revision = seen.map_or_else(|| self.near_or_none(dice), |kv| kv.create_revision);
                (CompareTarget::Create, TargetUnion::CreateRevision(revision))
            }
            2 => {
                let revision = seen.map_or_else(|| self.near_or_none(dice), |kv| kv.mod_revision);
                (CompareTarget::Mod, TargetUnion::ModRevision(revision))
            }
            3 => {
                let value = seen.map_or_else(|| dice.pick(1_000).to_string().into(), |kv| kv.value.clone());
                (CompareTarget::Value, TargetUnion::Value(value))
            }
            _ => {
                let lease = seen.map_or_else(|| self.known.leases.last().copied().unwrap_or(0), |kv| kv.lease);
                (CompareTarget::Lease, TargetUnion::Lease(lease))
            }
        };
        let result = results[dice.pick(4) as usize];
        pb::Compare { result: result as i32, target: target as i32, key, range_end, target_union: Some(target_union) }
    }

    fn near_or_none(&self, dice: &mut dyn Dice) -> i64 {
        if one_in(dice, 3) { 0 } else { self.near(dice) }
    }
}

fn op(request: Op) -> pb::RequestOp {
    pb::RequestOp { request: Some(request) }
}

/// Whether a branch can change anything.
fn changes(branch: &[pb::RequestOp]) -> bool {
    branch.iter().any(|op| match &op.request {
        Some(Op::RequestPut(_) | Op::RequestDeleteRange(_)) => true,
        Some(Op::RequestTxn(inner)) => changes(&inner.success) || changes(&inner.failure),
        _ => false,
    })
}

/// Whether a branch may change something without writing a value of its own.
fn is_silent(branch: &[pb::RequestOp]) -> bool {
    !branch.iter().any(|op| matches!(&op.request, Some(Op::RequestPut(put)) if !put.ignore_value))
}
