//! Compares of a transaction: TX-4 and TX-5.

use std::cmp::Ordering;

use cetera_proto::etcdserverpb as pb;
use cetera_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use cetera_proto::mvccpb::KeyValue;

use super::Store;

/// Whether all compares hold at a revision.
pub(super) fn all_hold(store: &Store, compares: &[pb::Compare], revision: i64) -> bool {
    compares.iter().all(|compare| holds(store, compare, revision))
}

fn holds(store: &Store, compare: &pb::Compare, revision: i64) -> bool {
    let mut found = store.live(&compare.key, &compare.range_end, revision).peekable();
    if found.peek().is_none() {
        // There is no way to say "no value": such a compare never holds.
        return compare.target() != CompareTarget::Value && one(compare, &KeyValue::default());
    }
    found.all(|kv| one(compare, kv))
}

fn one(compare: &pb::Compare, kv: &KeyValue) -> bool {
    let union = compare.target_union.as_ref();
    let number = |pick: &dyn Fn(&TargetUnion) -> Option<i64>| union.and_then(pick).unwrap_or(0);
    let order = match compare.target() {
        CompareTarget::Version => kv.version.cmp(&number(&|union| match union {
            TargetUnion::Version(version) => Some(*version),
            _ => None,
        })),
        CompareTarget::Create => kv.create_revision.cmp(&number(&|union| match union {
            TargetUnion::CreateRevision(revision) => Some(*revision),
            _ => None,
        })),
        CompareTarget::Mod => kv.mod_revision.cmp(&number(&|union| match union {
            TargetUnion::ModRevision(revision) => Some(*revision),
            _ => None,
        })),
        CompareTarget::Lease => kv.lease.cmp(&number(&|union| match union {
            TargetUnion::Lease(lease) => Some(*lease),
            _ => None,
        })),
        CompareTarget::Value => match union {
            Some(TargetUnion::Value(value)) => kv.value.cmp(value),
            _ => kv.value[..].cmp(b""),
        },
    };
    match compare.result() {
        CompareResult::Equal => order == Ordering::Equal,
        CompareResult::NotEqual => order != Ordering::Equal,
        CompareResult::Greater => order == Ordering::Greater,
        CompareResult::Less => order == Ordering::Less,
    }
}
