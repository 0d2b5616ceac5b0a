//! What happened in a run: always as one number, and as text when asked for.
//!
//! Everything that is delivered goes into the number: when, what, between whom, with which content. Two runs with equal
//! numbers were the same run.

/// What goes into the number.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// A step of a node.
    Step = 1,
    /// A message between members, delivered.
    Peer,
    /// A message between members, lost.
    Lost,
    /// A sync of a write-ahead log.
    Sync,
    /// A job.
    Job,
    /// A client's bytes at a member.
    Up,
    /// A member's bytes at a client.
    Down,
    /// What a client is told.
    News,
    /// A fault begins or ends.
    Fault,
    /// A member starts or ends.
    Life,
    /// A new picture.
    Picture,
    /// A lost connection between members, noticed.
    PeerGone,
    /// Something over the line of a snapshot.
    Wire,
}

const MULTIPLY: u64 = 0x9e37_79b9_7f4a_7c15;

/// The trace of a run.
#[derive(Debug)]
pub(crate) struct Trace {
    hash: u64,
    events: u64,
    text: Option<Vec<String>>,
}

impl Trace {
    /// A new trace; with `text`, a readable one too.
    pub(crate) fn new(text: bool) -> Self {
        Self { hash: 0xcbf2_9ce4_8422_2325, events: 0, text: text.then(Vec::new) }
    }

    /// Something happened.
    pub(crate) fn note(&mut self, at_us: u64, kind: Kind, from: u64, to: u64, content: u64) {
        self.events += 1;
        for number in [at_us, kind as u64, from, to, content] {
            self.hash = fold(self.hash ^ number, MULTIPLY).wrapping_add(number);
        }
    }

    /// Whether a readable trace is kept.
    pub(crate) fn is_readable(&self) -> bool {
        self.text.is_some()
    }

    /// A line for readers.
    pub(crate) fn say(&mut self, at_us: u64, who: &str, what: impl FnOnce() -> String) {
        if let Some(text) = &mut self.text {
            let (seconds, micros) = (at_us / 1_000_000, at_us % 1_000_000);
            text.push(format!("{seconds:>4}.{micros:06} {who:<10} {}", what()));
        }
    }

    /// The number.
    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    /// How many things happened.
    pub(crate) fn events(&self) -> u64 {
        self.events
    }

    /// The readable trace.
    pub(crate) fn into_text(self) -> Vec<String> {
        self.text.unwrap_or_default()
    }
}

/// 64 bits of some bytes.
pub(crate) fn digest(bytes: &[u8]) -> u64 {
    let mut hash = bytes.len() as u64 ^ MULTIPLY;
    let mut chunks = bytes.chunks_exact(8);
    for chunk in &mut chunks {
        let number = u64::from_le_bytes(chunk.try_into().expect("chunks of eight"));
        hash = fold(hash ^ number, MULTIPLY).wrapping_add(number);
    }
    let mut tail = [0; 8];
    tail[..chunks.remainder().len()].copy_from_slice(chunks.remainder());
    fold(hash ^ u64::from_le_bytes(tail), MULTIPLY)
}

fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}
