//! What a range asks for: etcd's `RangeRequest` without its protobuf.

use crate::tree::KeyEnd;

/// Order of the answer (etcd `RangeRequest.SortOrder`).
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub enum SortOrder {
    /// Key order; by another target than the key it means ascending (KV-6).
    #[default]
    None,
    /// Lowest first.
    Ascend,
    /// Highest first.
    Descend,
}

/// What the answer is ordered by (etcd `RangeRequest.SortTarget`).
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub enum SortTarget {
    /// The key's bytes.
    #[default]
    Key,
    /// Version.
    Version,
    /// Create revision.
    Create,
    /// Mod revision.
    Mod,
    /// The value's bytes.
    Value,
}

/// The number on the wire is none of the enum's (contract KV-6: InvalidSortOption).
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub struct UnknownSortOption;

impl TryFrom<i32> for SortOrder {
    type Error = UnknownSortOption;

    fn try_from(wire: i32) -> Result<Self, UnknownSortOption> {
        Ok(match wire {
            0 => SortOrder::None,
            1 => SortOrder::Ascend,
            2 => SortOrder::Descend,
            _ => return Err(UnknownSortOption),
        })
    }
}

impl TryFrom<i32> for SortTarget {
    type Error = UnknownSortOption;

    fn try_from(wire: i32) -> Result<Self, UnknownSortOption> {
        Ok(match wire {
            0 => SortTarget::Key,
            1 => SortTarget::Version,
            2 => SortTarget::Create,
            3 => SortTarget::Mod,
            4 => SortTarget::Value,
            _ => return Err(UnknownSortOption),
        })
    }
}

/// A range request (contract KV-1 to KV-7).
#[derive(Copy, Clone, Debug, Default)]
pub struct RangeQuery<'a> {
    /// First key.
    pub key: &'a [u8],
    /// etcd's convention: empty = that key alone, `"\0"` = every key from `key` on, else the first key not asked for.
    pub end: &'a [u8],
    /// 0 or less = the latest.
    pub revision: i64,
    /// Most pairs in the answer, 0 or less = no limit.
    pub limit: i64,
    /// Order.
    pub sort_order: SortOrder,
    /// What to order by.
    pub sort_target: SortTarget,
    /// Leave the values out; also the leases unless sorted by value (contract 0.3).
    pub keys_only: bool,
    /// Only count.
    pub count_only: bool,
    /// Drop pairs modified earlier; 0 = off, like the three below.
    pub min_mod_revision: i64,
    /// Drop pairs modified later.
    pub max_mod_revision: i64,
    /// Drop pairs created earlier.
    pub min_create_revision: i64,
    /// Drop pairs created later.
    pub max_create_revision: i64,
}

impl<'a> RangeQuery<'a> {
    /// Whether key order is what was asked for (etcd `txn.IsDefaultOrdering`). Note the quirk: order NONE with
    /// another target than the key counts as default, though the answer is sorted by that target.
    pub fn is_default_ordering(&self) -> bool {
        self.sort_order == SortOrder::None
            || (self.sort_target == SortTarget::Key && self.sort_order == SortOrder::Ascend)
    }

    /// Whether pairs are dropped by revision (etcd `txn.HasRevisionFilters`).
    pub fn has_revision_filters(&self) -> bool {
        self.min_mod_revision != 0
            || self.max_mod_revision != 0
            || self.min_create_revision != 0
            || self.max_create_revision != 0
    }

    /// Pairs to read from the index, if not all: one more than the limit tells whether there are more. Sorting and
    /// filtering need all of them first (KV-3; etcd `txn.rangeLimit`).
    pub(crate) fn fetch_limit(&self) -> Option<u64> {
        let direct = self.is_default_ordering() && !self.has_revision_filters();
        (direct && self.limit > 0).then(|| self.limit as u64 + 1)
    }

    /// Whether the revision filters let a pair through.
    pub(crate) fn accepts(&self, create: i64, modified: i64) -> bool {
        (self.max_mod_revision == 0 || modified <= self.max_mod_revision)
            && (self.min_mod_revision == 0 || modified >= self.min_mod_revision)
            && (self.max_create_revision == 0 || create <= self.max_create_revision)
            && (self.min_create_revision == 0 || create >= self.min_create_revision)
    }

    pub(crate) fn bounds(&self) -> Bounds<'a> {
        Bounds::new(self.key, self.end)
    }
}

/// etcd's `range_end` convention, decided once.
#[derive(Copy, Clone)]
pub(crate) enum Bounds<'a> {
    /// One key.
    Single(&'a [u8]),
    /// From a key to an end.
    Span(&'a [u8], KeyEnd<'a>),
}

impl<'a> Bounds<'a> {
    pub(crate) fn new(key: &'a [u8], end: &'a [u8]) -> Self {
        match end {
            [] => Bounds::Single(key),
            [0] => Bounds::Span(key, KeyEnd::Open),
            // An end at or before the start spans nothing.
            end => Bounds::Span(key, KeyEnd::Before(end.max(key))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_none_by_another_target_still_fetches_by_limit() {
        let query = RangeQuery { limit: 3, sort_target: SortTarget::Mod, ..Default::default() };
        assert_eq!(query.fetch_limit(), Some(4));
        assert_eq!(RangeQuery { sort_order: SortOrder::Ascend, ..query }.fetch_limit(), None);
        assert_eq!(RangeQuery { max_mod_revision: 1, ..query }.fetch_limit(), None);
        assert_eq!(RangeQuery { limit: -1, ..query }.fetch_limit(), None);
        assert_eq!(RangeQuery { limit: i64::MAX, ..query }.fetch_limit(), Some(1 << 63));
    }

    #[test]
    fn wire_numbers_outside_the_enums_are_refused() {
        assert_eq!(SortOrder::try_from(2), Ok(SortOrder::Descend));
        assert_eq!(SortOrder::try_from(3), Err(UnknownSortOption));
        assert_eq!(SortTarget::try_from(4), Ok(SortTarget::Value));
        assert_eq!(SortTarget::try_from(-1), Err(UnknownSortOption));
    }
}
