//! Range: KV-1 to KV-7 and KV-10.

use std::cmp::Ordering;

use cetera_proto::etcdserverpb as pb;
use cetera_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use cetera_proto::mvccpb::KeyValue;

use super::{Refusal, Store, World, header};

/// KV-2, or in a transaction TX-7, where a negative revision is one of the past.
pub(super) fn check(range: &pb::RangeRequest, now: i64, world: &World<'_>, in_txn: bool) -> Result<(), Refusal> {
    let latest = if in_txn { range.revision == 0 } else { range.revision <= 0 };
    if latest {
        Ok(())
    } else if range.revision > now {
        Err(Refusal::FutureRevision)
    } else if range.revision < world.compacted {
        Err(Refusal::Compacted)
    } else {
        Ok(())
    }
}

pub(super) fn answer(store: &Store, range: &pb::RangeRequest, now: i64) -> pb::RangeResponse {
    let at = if range.revision <= 0 { now } else { range.revision };
    let all = store.live(&range.key, &range.range_end, at);
    if range.count_only {
        return pb::RangeResponse { header: header(now), count: all.count() as i64, ..pb::RangeResponse::default() };
    }
    let mut kvs: Vec<KeyValue> = all.cloned().collect();
    let count = kvs.len() as i64;
    kvs.retain(|kv| passes(range, kv));
    kvs.truncate(cut_before_order(range));
    if let Some(order) = order(range) {
        kvs.sort_by(|a, b| order(a, b));
    }
    let more = range.limit > 0 && kvs.len() as i64 > range.limit;
    if more {
        kvs.truncate(range.limit as usize);
    }
    if range.keys_only {
        for kv in &mut kvs {
            kv.value.clear();
        }
    }
    pb::RangeResponse { header: header(now), kvs, more, count }
}

/// KV-7.
fn passes(range: &pb::RangeRequest, kv: &KeyValue) -> bool {
    let below = |most: i64, value: i64| most == 0 || value <= most;
    let above = |least: i64, value: i64| least == 0 || value >= least;
    below(range.max_mod_revision, kv.mod_revision)
        && above(range.min_mod_revision, kv.mod_revision)
        && below(range.max_create_revision, kv.create_revision)
        && above(range.min_create_revision, kv.create_revision)
}

/// How many of the first keys are put in order at all: where an order's target is given but no order, etcd reads no
/// more than it needs for the limit and `more`, and then puts those in order (`rangeLimit`, `sortRangeResults`).
fn cut_before_order(range: &pb::RangeRequest) -> usize {
    let filters =
        [range.max_mod_revision, range.min_mod_revision, range.max_create_revision, range.min_create_revision];
    let is_cut = range.limit > 0 && range.sort_order() == SortOrder::None && filters == [0; 4];
    if is_cut { (range.limit as usize).saturating_add(1) } else { usize::MAX }
}

/// The order that was asked for (KV-6); `None` is key order. Equal ones may come in any order.
pub(crate) fn order(range: &pb::RangeRequest) -> Option<impl Fn(&KeyValue, &KeyValue) -> Ordering + use<>> {
    let target = range.sort_target();
    let descending = range.sort_order() == SortOrder::Descend;
    if target == SortTarget::Key && !descending {
        return None;
    }
    Some(move |a: &KeyValue, b: &KeyValue| {
        let ascending = match target {
            SortTarget::Key => a.key.cmp(&b.key),
            SortTarget::Version => a.version.cmp(&b.version),
            SortTarget::Create => a.create_revision.cmp(&b.create_revision),
            SortTarget::Mod => a.mod_revision.cmp(&b.mod_revision),
            SortTarget::Value => a.value.cmp(&b.value),
        };
        if descending { ascending.reverse() } else { ascending }
    })
}

/// What a range that is answered in another order of equals may choose from: all that passes, unsorted and uncut.
pub(crate) fn pool(store: &Store, range: &pb::RangeRequest, now: i64) -> Vec<KeyValue> {
    let whole = pb::RangeRequest {
        limit: 0,
        sort_order: SortOrder::None as i32,
        sort_target: SortTarget::Key as i32,
        ..range.clone()
    };
    let mut kvs = answer(store, &whole, now).kvs;
    kvs.truncate(cut_before_order(range));
    kvs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Request;
    use crate::model::PERMISSIVE;

    #[test]
    fn a_target_without_an_order_sorts_what_the_limit_reads() {
        let mut store = Store::new(1);
        for key in ["d", "c", "b", "a"] {
            let put = pb::PutRequest { key: key.into(), ..Default::default() };
            store.execute(&Request::Put(put), &PERMISSIVE).unwrap();
        }
        let range = |order: SortOrder| pb::RangeRequest {
            key: "a".into(),
            range_end: "z".into(),
            limit: 2,
            sort_target: SortTarget::Mod as i32,
            sort_order: order as i32,
            ..Default::default()
        };
        let keys = |range: &pb::RangeRequest| {
            let found = answer(&store, range, store.revision());
            found.kvs.iter().map(|kv| kv.key.clone()).collect::<Vec<_>>()
        };
        assert_eq!(keys(&range(SortOrder::None)), ["c", "b"]);
        assert_eq!(keys(&range(SortOrder::Ascend)), ["d", "c"]);
        assert_eq!(pool(&store, &range(SortOrder::None), store.revision()).len(), 3);
    }
}
