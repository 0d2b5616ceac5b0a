//! A fuzz input as a list of decisions. Bytes that are not there read as zero, so every input is a whole script; nothing
//! here can fail.

/// What is left of an input.
#[derive(Clone, Debug)]
pub struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    /// All of `data`.
    pub fn new(data: &'a [u8]) -> Self {
        Input(data)
    }

    /// Whether every further decision is zero.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut out = [0; N];
        let (head, rest) = self.0.split_at(N.min(self.0.len()));
        out[..head.len()].copy_from_slice(head);
        self.0 = rest;
        out
    }

    /// One byte.
    pub fn u8(&mut self) -> u8 {
        let [byte] = self.array();
        byte
    }

    /// Little endian.
    pub fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }

    /// Little endian.
    pub fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }

    /// A number below `bound` (not 0), from one byte if that is enough.
    pub fn below(&mut self, bound: usize) -> usize {
        if bound <= 256 { usize::from(self.u8()) % bound } else { usize::from(self.u16()) % bound }
    }

    /// One of `choices`.
    pub fn choose<'c, T>(&mut self, choices: &'c [T]) -> &'c T {
        &choices[self.below(choices.len())]
    }

    /// Yes or no.
    pub fn flag(&mut self) -> bool {
        self.u8() & 1 != 0
    }

    /// A length (one byte, or two from 0x80 on: a protobuf varint cut at 14 bits) and that many bytes, as far as there
    /// are.
    pub fn bytes(&mut self) -> &'a [u8] {
        let mut len = usize::from(self.u8());
        if len >= 0x80 {
            len = (len & 0x7f) | usize::from(self.u8() & 0x7f) << 7;
        }
        self.take(len)
    }

    /// So many bytes, as far as there are.
    pub fn take(&mut self, len: usize) -> &'a [u8] {
        let (head, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        head
    }

    /// Everything left.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }
}

/// Writes what [`Input`] reads: for seeds.
#[derive(Clone, Debug, Default)]
pub struct Script(pub Vec<u8>);

impl Script {
    /// Appends one byte.
    pub fn u8(mut self, byte: u8) -> Self {
        self.0.push(byte);
        self
    }

    /// Appends two bytes.
    pub fn u16(mut self, value: u16) -> Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    /// Appends a length and bytes, cut at 14 bits of length.
    pub fn bytes(mut self, bytes: impl AsRef<[u8]>) -> Self {
        let bytes = bytes.as_ref();
        let bytes = &bytes[..bytes.len().min(0x3fff)];
        if bytes.len() < 0x80 {
            self.0.push(bytes.len() as u8);
        } else {
            self.0.extend([bytes.len() as u8 | 0x80, (bytes.len() >> 7) as u8]);
        }
        self.0.extend_from_slice(bytes);
        self
    }

    /// Appends bytes as they are.
    pub fn raw(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.0.extend_from_slice(bytes.as_ref());
        self
    }
}
