//! Key ranges by what they contain: all ranges around a key in O(log n + found).
//!
//! A treap over (start, end) in which every node knows the furthest end below it. Its shape comes from a counter, so
//! the same calls make the same tree.

use bytes::Bytes;

const NONE: u32 = u32::MAX;

/// Where a range ends, itself excluded; `None` is the end of all keys.
pub(super) type End = Option<Bytes>;

/// Distinct ranges, each with a number of the caller's.
#[derive(Debug)]
pub(super) struct Intervals {
    nodes: Vec<Node>,
    free: Vec<u32>,
    root: u32,
    drawn: u64,
}

#[derive(Debug)]
struct Node {
    start: Bytes,
    end: End,
    value: u32,
    priority: u64,
    left: u32,
    right: u32,
    /// The node of the subtree whose range ends last.
    furthest: u32,
}

/// Whether `key` lies before `end`.
fn before(key: &[u8], end: &End) -> bool {
    end.as_ref().is_none_or(|end| key < &end[..])
}

/// Whether `a` ends later than `b`.
fn later(a: &End, b: &End) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => a > b,
        (None, Some(_)) => true,
        (_, None) => false,
    }
}

impl Default for Intervals {
    fn default() -> Self {
        Intervals { nodes: Vec::new(), free: Vec::new(), root: NONE, drawn: 0 }
    }
}

impl Intervals {
    /// The number of this very range.
    pub(super) fn get(&self, start: &[u8], end: &End) -> Option<u32> {
        let mut at = self.root;
        while at != NONE {
            let node = self.node(at);
            at = match self.compare(at, start, end) {
                std::cmp::Ordering::Less => node.right,
                std::cmp::Ordering::Greater => node.left,
                std::cmp::Ordering::Equal => return Some(node.value),
            };
        }
        None
    }

    /// Enters a range that is not there.
    pub(super) fn insert(&mut self, start: Bytes, end: End, value: u32) {
        self.drawn = self.drawn.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let (from, to) = (start.clone(), end.clone());
        let node = Node { start, end, value, priority: mix(self.drawn), left: NONE, right: NONE, furthest: NONE };
        let new = match self.free.pop() {
            Some(slot) => {
                self.nodes[slot as usize] = node;
                slot
            }
            None => {
                self.nodes.push(node);
                u32::try_from(self.nodes.len() - 1).expect("fewer than 2^32 ranges are watched")
            }
        };
        self.root = self.put(self.root, new, &from, &to);
    }

    /// Removes a range that is there.
    pub(super) fn remove(&mut self, start: &[u8], end: &End) {
        self.root = self.cut(self.root, start, end);
    }

    /// The numbers of all ranges around `key`.
    pub(super) fn around(&self, key: &[u8], found: &mut impl FnMut(u32)) {
        self.visit(self.root, key, found);
    }

    /// Whether any range is around `key`.
    pub(super) fn covers(&self, key: &[u8]) -> bool {
        let mut at = self.root;
        // The left subtree starts before the node: if anything there ends behind the key, it is around the key or
        // nothing to the right of it can be.
        while at != NONE {
            let node = self.node(at);
            if node.start <= key && before(key, &node.end) {
                return true;
            }
            let left = node.left;
            at = if left != NONE && before(key, &self.furthest(left).end) {
                left
            } else if node.start <= key {
                node.right
            } else {
                return false;
            };
        }
        false
    }

    fn node(&self, at: u32) -> &Node {
        &self.nodes[at as usize]
    }

    fn furthest(&self, at: u32) -> &Node {
        self.node(self.node(at).furthest)
    }

    /// How the range of a node compares to another.
    fn compare(&self, at: u32, start: &[u8], end: &End) -> std::cmp::Ordering {
        let node = self.node(at);
        node.start[..].cmp(start).then_with(|| {
            if node.end == *end {
                std::cmp::Ordering::Equal
            } else if later(&node.end, end) {
                std::cmp::Ordering::Greater
            } else {
                std::cmp::Ordering::Less
            }
        })
    }

    fn visit(&self, at: u32, key: &[u8], found: &mut impl FnMut(u32)) {
        if at == NONE || !before(key, &self.furthest(at).end) {
            return;
        }
        let node = self.node(at);
        self.visit(node.left, key, found);
        if node.start <= key {
            if before(key, &node.end) {
                found(node.value);
            }
            self.visit(node.right, key, found);
        }
    }

    /// Looks again which range below `at` ends last.
    fn update(&mut self, at: u32) {
        let node = self.node(at);
        let mut furthest = at;
        for child in [node.left, node.right] {
            if child != NONE && later(&self.furthest(child).end, &self.node(furthest).end) {
                furthest = self.node(child).furthest;
            }
        }
        self.nodes[at as usize].furthest = furthest;
    }

    fn put(&mut self, at: u32, new: u32, start: &[u8], end: &End) -> u32 {
        if at == NONE {
            self.update(new);
            return new;
        }
        if self.node(new).priority > self.node(at).priority {
            let (left, right) = self.split(at, start, end);
            let node = &mut self.nodes[new as usize];
            (node.left, node.right) = (left, right);
            self.update(new);
            return new;
        }
        if self.compare(at, start, end).is_lt() {
            self.nodes[at as usize].right = self.put(self.node(at).right, new, start, end);
        } else {
            self.nodes[at as usize].left = self.put(self.node(at).left, new, start, end);
        }
        self.update(at);
        at
    }

    /// Splits into what is before the range and what is behind it.
    fn split(&mut self, at: u32, start: &[u8], end: &End) -> (u32, u32) {
        if at == NONE {
            return (NONE, NONE);
        }
        let halves = if self.compare(at, start, end).is_lt() {
            let (left, right) = self.split(self.node(at).right, start, end);
            self.nodes[at as usize].right = left;
            (at, right)
        } else {
            let (left, right) = self.split(self.node(at).left, start, end);
            self.nodes[at as usize].left = right;
            (left, at)
        };
        self.update(at);
        halves
    }

    fn cut(&mut self, at: u32, start: &[u8], end: &End) -> u32 {
        assert!(at != NONE, "a range to remove is there");
        match self.compare(at, start, end) {
            std::cmp::Ordering::Equal => {
                let node = &mut self.nodes[at as usize];
                let (left, right) = (node.left, node.right);
                (node.start, node.end) = (Bytes::new(), None);
                self.free.push(at);
                return self.join(left, right);
            }
            std::cmp::Ordering::Less => self.nodes[at as usize].right = self.cut(self.node(at).right, start, end),
            std::cmp::Ordering::Greater => self.nodes[at as usize].left = self.cut(self.node(at).left, start, end),
        }
        self.update(at);
        at
    }

    fn join(&mut self, left: u32, right: u32) -> u32 {
        if left == NONE {
            return right;
        }
        if right == NONE {
            return left;
        }
        let top = if self.node(left).priority > self.node(right).priority {
            self.nodes[left as usize].right = self.join(self.node(left).right, right);
            left
        } else {
            self.nodes[right as usize].left = self.join(left, self.node(right).left);
            right
        };
        self.update(top);
        top
    }
}

/// Scatters a counter over all 64 bits.
fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_a_list_finds() {
        let mut seed = 7u64;
        let mut draw = move |below: u64| {
            seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
            mix(seed) % below
        };
        let mut tree = Intervals::default();
        let mut list: Vec<(Bytes, End, u32)> = Vec::new();
        for value in 0..4_000 {
            let start = draw(60) as u8;
            let end = match draw(8) {
                0 => None,
                _ => Some(Bytes::from(vec![start + 1 + draw(20) as u8])),
            };
            let start = Bytes::from(vec![start]);
            match list.iter().position(|(a, b, _)| *a == start && *b == end) {
                Some(at) => {
                    assert_eq!(tree.get(&start, &end), Some(list[at].2));
                    tree.remove(&start, &end);
                    list.swap_remove(at);
                }
                None => {
                    assert_eq!(tree.get(&start, &end), None);
                    tree.insert(start.clone(), end.clone(), value);
                    list.push((start, end, value));
                }
            }
            let key = [draw(90) as u8];
            let mut found = Vec::new();
            tree.around(&key, &mut |value| found.push(value));
            found.sort_unstable();
            let mut expected: Vec<u32> = list
                .iter()
                .filter(|(start, end, _)| start[..] <= key[..] && before(&key, end))
                .map(|(_, _, value)| *value)
                .collect();
            expected.sort_unstable();
            assert_eq!(found, expected);
            assert_eq!(tree.covers(&key), !expected.is_empty());
        }
        assert!(list.len() > 100, "the test exercised a tree of some size");
    }

    #[test]
    fn neighbours_in_order_do_not_make_a_list() {
        let mut tree = Intervals::default();
        for i in 0..50_000u32 {
            tree.insert(
                Bytes::copy_from_slice(&i.to_be_bytes()),
                Some(Bytes::copy_from_slice(&(i + 1).to_be_bytes())),
                i,
            );
        }
        fn depth(tree: &Intervals, at: u32) -> usize {
            if at == NONE { 0 } else { 1 + depth(tree, tree.node(at).left).max(depth(tree, tree.node(at).right)) }
        }
        assert!(depth(&tree, tree.root) < 60);
        let mut found = Vec::new();
        tree.around(&777u32.to_be_bytes(), &mut |value| found.push(value));
        assert_eq!(found, [777]);
    }
}
