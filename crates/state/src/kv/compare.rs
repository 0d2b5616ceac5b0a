//! Compares of a transaction (TX-4, TX-5; etcd `applyCompare`).

use std::cmp::Ordering;

use cetera_mvcc::KeyRevision;
use cetera_proto::etcdserverpb::{
    Compare,
    compare::{CompareResult, CompareTarget, TargetUnion},
};

use super::{Source, key_value};
use crate::error::Failure;

/// Whether all of them hold.
pub(super) fn all_hold(source: &impl Source, compares: &[Compare]) -> Result<bool, Failure> {
    for compare in compares {
        if !holds(source, compare)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether it holds for every key in its range. No key at all counts as one whose numbers are zero; a value that is
/// not there compares as nothing does.
fn holds(source: &impl Source, compare: &Compare) -> Result<bool, Failure> {
    if compare.range_end.is_empty() {
        return match source.get(&compare.key) {
            Some(live) => holds_for(source, compare, &live),
            None => Ok(holds_for_missing(compare)),
        };
    }
    let mut any = false;
    let mut all = true;
    source.live(&compare.key, &compare.range_end, &mut |live| {
        any = true;
        all = holds_for(source, compare, &live)?;
        Ok(all)
    })?;
    Ok(if any { all } else { holds_for_missing(compare) })
}

fn holds_for_missing(compare: &Compare) -> bool {
    compare.target() != CompareTarget::Value && satisfies(compare, 0.cmp(&wanted(compare)))
}

fn holds_for(source: &impl Source, compare: &Compare, live: &KeyRevision) -> Result<bool, Failure> {
    let wanted = wanted(compare);
    let ordering = match CompareTarget::try_from(compare.target) {
        Ok(CompareTarget::Version) => live.version.cmp(&wanted),
        Ok(CompareTarget::Create) => live.created.cmp(&wanted),
        Ok(CompareTarget::Mod) => live.modified.main.cmp(&wanted),
        Ok(CompareTarget::Lease) => key_value(&source.payload(live.location)?).lease.cmp(&wanted),
        Ok(CompareTarget::Value) => {
            let payload = source.payload(live.location)?;
            let wanted: &[u8] = match &compare.target_union {
                Some(TargetUnion::Value(value)) => value,
                _ => &[],
            };
            key_value(&payload).value.cmp(wanted)
        }
        // As etcd has it: what it does not know is equal.
        Err(_) => Ordering::Equal,
    };
    Ok(satisfies(compare, ordering))
}

/// The number compared with; 0 if the request holds one for another target, or none.
fn wanted(compare: &Compare) -> i64 {
    match (CompareTarget::try_from(compare.target), &compare.target_union) {
        (Ok(CompareTarget::Version), Some(TargetUnion::Version(number)))
        | (Ok(CompareTarget::Create), Some(TargetUnion::CreateRevision(number)))
        | (Ok(CompareTarget::Mod), Some(TargetUnion::ModRevision(number)))
        | (Ok(CompareTarget::Lease), Some(TargetUnion::Lease(number))) => *number,
        _ => 0,
    }
}

fn satisfies(compare: &Compare, ordering: Ordering) -> bool {
    match CompareResult::try_from(compare.result) {
        Ok(CompareResult::Equal) => ordering.is_eq(),
        Ok(CompareResult::NotEqual) => ordering.is_ne(),
        Ok(CompareResult::Greater) => ordering.is_gt(),
        Ok(CompareResult::Less) => ordering.is_lt(),
        Err(_) => true,
    }
}
