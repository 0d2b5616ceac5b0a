//! A general search for a linearization: is there one order of all operations, each at a moment between its beginning
//! and its end, in which a model takes every step?
//!
//! The search is that of Wing and Gong with Lowe's memory of where it has been: a set of operations already ordered,
//! with the state they led to, is not entered twice. Operations of unknown outcome have no end and need not be ordered
//! at all. It counts its steps and gives up at a bound, so that its verdict is the same on every machine.

use std::collections::HashMap;

/// What is searched for.
pub trait Model {
    /// What an order of operations leads to.
    type State: Clone + Eq;

    /// What the operation with this number does in a state; `None` if it could not have happened then as it did.
    fn step(&self, state: &Self::State, operation: usize) -> Option<Self::State>;
}

/// When an operation was under way.
#[derive(Copy, Clone, Debug)]
pub struct Operation {
    /// When it began.
    pub start: u64,
    /// When it had happened; `None` if that is unknown, or whether it happened at all.
    pub end: Option<u64>,
}

/// What a search came to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// An order: numbers of the operations.
    Legal(Vec<usize>),
    /// There is none. The longest beginning that was found, and the operations that could not come next.
    Illegal {
        /// Numbers of the operations in their order.
        longest: Vec<usize>,
        /// Numbers of those that were under way then.
        stuck: Vec<usize>,
    },
    /// The bound was reached.
    Undecided,
}

/// Whether there is an order.
pub fn search<M: Model>(model: &M, state: M::State, operations: &[Operation], most_steps: u64) -> Verdict {
    let mut list = List::new(operations);
    let mut state = state;
    let mut missing = operations.iter().filter(|operation| operation.end.is_some()).count();
    let mut done = Bits::new(operations.len());
    let mut been: HashMap<Bits, Vec<M::State>> = HashMap::new();
    let mut path: Vec<(usize, M::State)> = Vec::new();
    let mut longest: (Vec<usize>, Vec<usize>) = (Vec::new(), Vec::new());
    let mut cursor = list.first();
    let mut steps = 0;
    loop {
        if missing == 0 {
            return Verdict::Legal(path.into_iter().map(|(operation, _)| operation).collect());
        }
        if let Some(operation) = list.begins(cursor) {
            steps += 1;
            if steps > most_steps {
                return Verdict::Undecided;
            }
            let next = model.step(&state, operation).filter(|next| {
                done.set(operation, true);
                let states = been.entry(done.clone()).or_default();
                let new = !states.contains(next);
                if new {
                    states.push(next.clone());
                } else {
                    done.set(operation, false);
                }
                new
            });
            let Some(next) = next else {
                cursor = list.after(cursor);
                continue;
            };
            path.push((operation, std::mem::replace(&mut state, next)));
            missing -= usize::from(operations[operation].end.is_some());
            list.take(operation);
            cursor = list.first();
            continue;
        }
        // An operation ends here that nothing could order before.
        if path.len() >= longest.0.len() {
            longest = (path.iter().map(|(operation, _)| *operation).collect(), list.under_way());
        }
        let Some((operation, before)) = path.pop() else {
            return Verdict::Illegal { longest: longest.0, stuck: longest.1 };
        };
        state = before;
        done.set(operation, false);
        missing += usize::from(operations[operation].end.is_some());
        cursor = list.put_back(operation);
    }
}

/// A set of operations.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct Bits(Vec<u64>);

impl Bits {
    fn new(len: usize) -> Self {
        Self(vec![0; len.div_ceil(64)])
    }

    fn set(&mut self, at: usize, on: bool) {
        let bit = 1 << (at % 64);
        if on { self.0[at / 64] |= bit } else { self.0[at / 64] &= !bit }
    }
}

/// Beginnings and ends of operations that are not ordered yet, by time: a doubly linked list in which 0 is both ends.
struct List {
    next: Vec<usize>,
    prev: Vec<usize>,
    /// The operation that begins at a node.
    begins: Vec<Option<usize>>,
    /// The nodes of an operation.
    nodes: Vec<(usize, Option<usize>)>,
}

impl List {
    fn new(operations: &[Operation]) -> Self {
        // What ends when another begins was under way together with it: beginnings first.
        let mut moments: Vec<(u64, bool, usize)> = Vec::new();
        for (at, operation) in operations.iter().enumerate() {
            moments.push((operation.start, false, at));
            moments.extend(operation.end.map(|end| (end.max(operation.start), true, at)));
        }
        moments.sort_unstable();
        let len = moments.len() + 1;
        let mut list = Self {
            next: (0..len).map(|node| (node + 1) % len).collect(),
            prev: (0..len).map(|node| (node + len - 1) % len).collect(),
            begins: vec![None; len],
            nodes: vec![(0, None); operations.len()],
        };
        for (index, (_, ends, operation)) in moments.into_iter().enumerate() {
            if ends {
                list.nodes[operation].1 = Some(index + 1);
            } else {
                list.nodes[operation].0 = index + 1;
                list.begins[index + 1] = Some(operation);
            }
        }
        list
    }

    fn first(&self) -> usize {
        self.next[0]
    }

    fn after(&self, node: usize) -> usize {
        self.next[node]
    }

    fn begins(&self, node: usize) -> Option<usize> {
        self.begins[node]
    }

    fn take(&mut self, operation: usize) {
        let (start, end) = self.nodes[operation];
        for node in [Some(start), end].into_iter().flatten() {
            let (before, after) = (self.prev[node], self.next[node]);
            self.next[before] = after;
            self.prev[after] = before;
        }
    }

    /// Undoes the last [`List::take`] that is not undone; the node to go on from.
    fn put_back(&mut self, operation: usize) -> usize {
        let (start, end) = self.nodes[operation];
        for node in [end, Some(start)].into_iter().flatten() {
            let (before, after) = (self.prev[node], self.next[node]);
            self.next[before] = node;
            self.prev[after] = node;
        }
        self.next[start]
    }

    /// Operations that begin before the next end.
    fn under_way(&self) -> Vec<usize> {
        let mut all = Vec::new();
        let mut node = self.first();
        while let Some(operation) = self.begins[node] {
            all.push(operation);
            node = self.next[node];
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Copy)]
    enum Op {
        Write(u32),
        Read(u32),
    }

    struct Register(Vec<Op>);

    impl Model for Register {
        type State = u32;

        fn step(&self, state: &u32, operation: usize) -> Option<u32> {
            match self.0[operation] {
                Op::Write(value) => Some(value),
                Op::Read(value) => (value == *state).then_some(value),
            }
        }
    }

    fn judge(history: &[(u64, Option<u64>, Op)]) -> Verdict {
        let operations: Vec<Operation> =
            history.iter().map(|(start, end, _)| Operation { start: *start, end: *end }).collect();
        search(&Register(history.iter().map(|(_, _, op)| *op).collect()), 0, &operations, 10_000)
    }

    fn is_legal(history: &[(u64, Option<u64>, Op)]) -> bool {
        matches!(judge(history), Verdict::Legal(_))
    }

    #[test]
    fn a_read_during_a_write_may_see_either() {
        let write = (0, Some(10), Op::Write(1));
        assert!(is_legal(&[write, (2, Some(3), Op::Read(0)), (4, Some(5), Op::Read(1))]));
        assert!(!is_legal(&[write, (2, Some(3), Op::Read(1)), (4, Some(5), Op::Read(0))]));
        assert!(!is_legal(&[write, (11, Some(12), Op::Read(0))]));
        assert!(is_legal(&[write, (10, Some(12), Op::Read(0))]), "they touch: at the same time");
    }

    #[test]
    fn what_is_unknown_happens_once_or_never() {
        let maybe = (0, None, Op::Write(1));
        assert!(is_legal(&[maybe, (5, Some(6), Op::Read(0))]));
        assert!(is_legal(&[maybe, (5, Some(6), Op::Read(0)), (50, Some(60), Op::Read(1))]));
        let other = (20, Some(21), Op::Write(2));
        assert!(!is_legal(&[maybe, (5, Some(6), Op::Read(1)), other, (30, Some(31), Op::Read(1))]));
    }

    #[test]
    fn what_stuck_is_told() {
        let history = [(0, Some(1), Op::Write(1)), (2, Some(3), Op::Read(1)), (4, Some(5), Op::Read(7))];
        assert_eq!(judge(&history), Verdict::Illegal { longest: vec![0, 1], stuck: vec![2] });
    }

    #[test]
    fn it_gives_up_at_the_bound() {
        let mut history: Vec<_> = (0..24).map(|value| (0, Some(100), Op::Write(value))).collect();
        history.push((200, Some(201), Op::Read(1_000)));
        assert_eq!(judge(&history), Verdict::Undecided);
    }
}
