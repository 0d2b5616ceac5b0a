//! The sorted keys of one node, packed: one arena of bytes, the end of each key, and for the search the four bytes of
//! each key behind the prefix they all share ("head"). No allocation and no reference count per key.

/// Spare arena bytes left when a node is copied or grows, so that not every insert moves the arena.
const ARENA_SLACK: usize = 64;

/// Up to `N` keys, strictly ascending.
///
/// Invariants: `heads[i]` is the head of key `i` behind `prefix` bytes; all keys share at least their first `prefix`
/// bytes. Equal heads do not make equal keys (a head is padded with zeros).
#[derive(Debug)]
pub(super) struct Keys<const N: usize> {
    len: u32,
    prefix: u32,
    heads: [u32; N],
    ends: [u32; N],
    arena: Vec<u8>,
}

impl<const N: usize> Keys<N> {
    pub(super) fn new() -> Self {
        Keys { len: 0, prefix: 0, heads: [0; N], ends: [0; N], arena: Vec::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.len as usize
    }

    #[inline]
    pub(super) fn get(&self, at: usize) -> &[u8] {
        let ends = &self.ends[..self.len as usize];
        let start = if at == 0 { 0 } else { ends[at - 1] };
        &self.arena[start as usize..ends[at] as usize]
    }

    pub(super) fn first(&self) -> &[u8] {
        self.get(0)
    }

    pub(super) fn last(&self) -> &[u8] {
        self.get(self.len() - 1)
    }

    /// Where `key` is. Quicker than [`Keys::search`] if it is there: what is equal needs no look at the prefix.
    #[inline]
    pub(super) fn find(&self, key: &[u8]) -> Option<usize> {
        let head = head_of(key.get(self.prefix as usize..)?);
        let heads = &self.heads[..self.len()];
        let mut at = heads.partition_point(|other| *other < head);
        while at < heads.len() && heads[at] == head {
            if self.get(at) == key {
                return Some(at);
            }
            at += 1;
        }
        None
    }

    /// Where `key` is (Ok), or where it belongs (Err).
    #[inline]
    pub(super) fn search(&self, key: &[u8]) -> Result<usize, usize> {
        let len = self.len();
        if len == 0 {
            return Err(0);
        }
        let prefix = self.prefix as usize;
        let shared = &self.arena[..prefix];
        let Some((begin, rest)) = key.split_at_checked(prefix) else {
            // A key shorter than the prefix is below all keys if it is a part of it.
            return Err(if key <= shared { 0 } else { len });
        };
        match begin.cmp(shared) {
            std::cmp::Ordering::Less => return Err(0),
            std::cmp::Ordering::Greater => return Err(len),
            std::cmp::Ordering::Equal => {}
        }
        let head = head_of(rest);
        let heads = &self.heads[..len];
        let mut low = heads.partition_point(|other| *other < head);
        let mut high = low;
        while high < len && heads[high] == head {
            high += 1;
        }
        while low < high {
            let middle = low + (high - low) / 2;
            match self.get(middle)[prefix..].cmp(rest) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return Ok(middle),
            }
        }
        Err(low)
    }

    /// Makes room at `at` and puts `key` there. The caller keeps the order and the bound `N`.
    pub(super) fn insert(&mut self, at: usize, key: &[u8]) {
        let len = self.len();
        assert!(len < N && at <= len, "insert at {at} into {len} of {N} keys");
        let shared = if len == 0 { key.len() } else { common(&self.arena[..self.prefix()], key) };
        let start = if at == 0 { 0 } else { self.ends[at - 1] as usize };
        let end = start.checked_add(key.len()).and_then(|end| u32::try_from(end).ok());
        self.open_gap(start, key.len());
        self.arena[start..start + key.len()].copy_from_slice(key);
        self.ends.copy_within(at..len, at + 1);
        self.heads.copy_within(at..len, at + 1);
        self.ends[at] = end.expect("the keys of a node stay below 4 GiB");
        self.len += 1;
        for end in &mut self.ends[at + 1..=len] {
            *end += key.len() as u32;
        }
        if shared != self.prefix() {
            self.set_prefix(shared);
        } else {
            self.heads[at] = head_of(&key[shared..]);
        }
    }

    pub(super) fn remove(&mut self, at: usize) {
        let len = self.len();
        let start = if at == 0 { 0 } else { self.ends[at - 1] as usize };
        let removed = self.ends[at] as usize - start;
        self.arena.drain(start..start + removed);
        self.ends.copy_within(at + 1..len, at);
        self.heads.copy_within(at + 1..len, at);
        self.len -= 1;
        for end in &mut self.ends[at..len - 1] {
            *end -= removed as u32;
        }
        if self.len == 0 {
            self.prefix = 0;
        }
        if self.arena.capacity() > 2 * self.arena.len() + 2 * ARENA_SLACK {
            self.arena.shrink_to(self.arena.len() + ARENA_SLACK);
        }
    }

    /// Cuts the keys from `at` on off into a node of their own. Both arenas are cut to size.
    pub(super) fn split_off(&mut self, at: usize) -> Self {
        let mut right = Keys::new();
        right.extend_from(self, at..self.len());
        let mut left = Keys::new();
        left.extend_from(self, 0..at);
        *self = left;
        right
    }

    /// Appends the keys `range` of `other`, all of which are greater than those here.
    pub(super) fn extend_from(&mut self, other: &Self, range: std::ops::Range<usize>) {
        if range.is_empty() {
            return;
        }
        let len = self.len();
        assert!(len + range.len() <= N, "{} keys in a node of {N}", len + range.len());
        let from = if range.start == 0 { 0 } else { other.ends[range.start - 1] };
        let bytes = &other.arena[from as usize..other.ends[range.end - 1] as usize];
        let base = self.arena.len();
        assert!(u32::try_from(base + bytes.len()).is_ok(), "the keys of a node stay below 4 GiB");
        self.arena.reserve_exact(bytes.len());
        self.arena.extend_from_slice(bytes);
        for (to, end) in self.ends[len..].iter_mut().zip(&other.ends[range]) {
            *to = *end - from + base as u32;
            self.len += 1;
        }
        self.refresh_prefix();
    }

    /// Appends one key, greater than those here.
    pub(super) fn push(&mut self, key: &[u8]) {
        self.insert(self.len(), key);
    }

    /// Gives back spare arena bytes of a node that is not expected to grow soon.
    pub(super) fn shrink(&mut self) {
        self.arena.shrink_to_fit();
    }

    pub(super) fn check_invariants(&self) {
        let len = self.len();
        assert!(len <= N);
        assert_eq!(self.arena.len(), if len == 0 { 0 } else { self.ends[len - 1] as usize });
        for at in 0..len {
            assert!(at == 0 || self.get(at - 1) < self.get(at), "keys out of order");
            assert!(self.get(at).starts_with(&self.arena[..self.prefix()]));
            assert_eq!(self.heads[at], head_of(&self.get(at)[self.prefix()..]));
            assert_eq!(self.search(self.get(at)), Ok(at));
        }
    }

    fn prefix(&self) -> usize {
        self.prefix as usize
    }

    fn refresh_prefix(&mut self) {
        self.set_prefix(common(self.first(), self.last()));
    }

    fn set_prefix(&mut self, prefix: usize) {
        self.prefix = prefix as u32;
        for at in 0..self.len() {
            self.heads[at] = head_of(&self.get(at)[prefix..]);
        }
    }

    fn open_gap(&mut self, start: usize, gap: usize) {
        let old = self.arena.len();
        if self.arena.capacity() - old < gap {
            self.arena.reserve_exact(gap + ARENA_SLACK);
        }
        self.arena.resize(old + gap, 0);
        self.arena.copy_within(start..old, start + gap);
    }
}

/// A copy is made to be changed, so it gets room for a key more.
impl<const N: usize> Clone for Keys<N> {
    fn clone(&self) -> Self {
        let mut arena = Vec::with_capacity(self.arena.len() + ARENA_SLACK);
        arena.extend_from_slice(&self.arena);
        Keys { len: self.len, prefix: self.prefix, heads: self.heads, ends: self.ends, arena }
    }
}

/// The first four bytes as a number that orders as they do, padded with zeros.
#[inline]
fn head_of(key: &[u8]) -> u32 {
    if let Some(head) = key.first_chunk::<4>() {
        return u32::from_be_bytes(*head);
    }
    let mut head = [0; 4];
    head[..key.len()].copy_from_slice(key);
    u32::from_be_bytes(head)
}

/// Length of the common prefix.
pub(super) fn common(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}
