//! One file of the simulated disk: what programs see, what the platter holds, and the changes in between.
//!
//! Changes reach the platter sector by sector. Between two syncs any subset of the touched sectors may have been
//! written, each in any of the states it went through (a page cache writes a sector as it is at that moment, so a
//! newer state includes the older changes of the same sector). The length is one more such value of its own.

use std::{collections::BTreeMap, ops::Range};

use super::{
    image::{Image, SECTOR},
    rng::Rng,
};

/// A change the platter has not been told of.
enum Change {
    Write {
        offset: u64,
        data: Vec<u8>,
    },
    /// `set_len` from `from` to `to`.
    Length {
        from: u64,
        to: u64,
    },
}

impl Change {
    /// The bytes whose contents change.
    fn bytes(&self) -> Range<u64> {
        match self {
            Change::Write { offset, data } => *offset..*offset + data.len() as u64,
            Change::Length { from, to } => *to..(*from).max(*to),
        }
    }

    fn sectors(&self) -> Range<u64> {
        let bytes = self.bytes();
        if bytes.is_empty() {
            return 0..0;
        }
        bytes.start / SECTOR..bytes.end.div_ceil(SECTOR)
    }

    fn len_after(&self, len: u64) -> u64 {
        match self {
            Change::Write { .. } => len.max(self.bytes().end),
            Change::Length { to, .. } => *to,
        }
    }

    fn apply_to_sector(&self, image: &mut Image, sector: u64) {
        let bytes = self.bytes();
        let start = bytes.start.max(sector * SECTOR);
        let end = bytes.end.min((sector + 1) * SECTOR);
        match self {
            Change::Write { offset, data } => {
                image.write(&data[(start - offset) as usize..(end - offset) as usize], start);
            }
            Change::Length { .. } => image.zero(start..end),
        }
    }
}

#[derive(Default)]
pub(super) struct FileState {
    /// What reads see: the page cache.
    pub(super) volatile: Image,
    /// What the platter holds for certain.
    durable: Image,
    pending: Vec<Change>,
}

impl FileState {
    pub(super) fn write(&mut self, data: &[u8], offset: u64) {
        if data.is_empty() {
            return;
        }
        self.volatile.write(data, offset);
        self.pending.push(Change::Write { offset, data: data.to_vec() });
    }

    pub(super) fn set_len(&mut self, len: u64) {
        let from = self.volatile.len();
        if from != len {
            self.volatile.set_len(len);
            self.pending.push(Change::Length { from, to: len });
        }
    }

    pub(super) fn flip(&mut self, offset: u64, mask: u8) {
        self.volatile.flip(offset, mask);
        self.durable.flip(offset, mask);
    }

    pub(super) fn sync(&mut self) {
        self.durable.set_len(self.volatile.len());
        for change in std::mem::take(&mut self.pending) {
            for sector in change.sectors() {
                self.durable.copy_sector(&self.volatile, sector);
            }
        }
    }

    /// A sync that failed: some of the dirty sectors were written, and the kernel now takes all of them for clean.
    /// The others reach the platter only if somebody writes them anew.
    pub(super) fn sync_failed(&mut self, rng: &mut Rng) {
        let durable_len = self.durable.len();
        for change in std::mem::take(&mut self.pending) {
            for sector in change.sectors() {
                if rng.coin() {
                    self.durable.copy_sector(&self.volatile, sector);
                }
            }
        }
        self.durable.set_len(if rng.coin() { durable_len } else { self.volatile.len() });
    }

    /// The file as a power failure at this moment could leave it.
    pub(super) fn crashed(&self, rng: &mut Rng) -> FileState {
        let image = self.crashed_image(rng);
        FileState { volatile: image.clone(), durable: image, pending: Vec::new() }
    }

    fn crashed_image(&self, rng: &mut Rng) -> Image {
        let mut image = self.durable.clone();
        if self.pending.is_empty() {
            return image;
        }
        let mood = rng.below(4);
        // For each sector the last change that reached it.
        let mut reached = BTreeMap::new();
        for (i, change) in self.pending.iter().enumerate() {
            let fate = match mood {
                0 => Fate::Lost,
                1 => Fate::Kept,
                _ => [Fate::Lost, Fate::Kept, Fate::Torn][rng.below(3) as usize],
            };
            for sector in change.sectors() {
                if fate == Fate::Kept || (fate == Fate::Torn && rng.coin()) {
                    reached.insert(sector, i);
                }
            }
        }
        for (i, change) in self.pending.iter().enumerate() {
            for sector in change.sectors() {
                if reached.get(&sector).is_some_and(|last| i <= *last) {
                    change.apply_to_sector(&mut image, sector);
                }
            }
        }
        image.set_len(self.crashed_len(mood, rng));
        image
    }

    fn crashed_len(&self, mood: u64, rng: &mut Rng) -> u64 {
        let mut lens = vec![self.durable.len()];
        for change in &self.pending {
            lens.push(change.len_after(lens[lens.len() - 1]));
        }
        let choice = match mood {
            0 => 0,
            1 => lens.len() - 1,
            _ => rng.below(lens.len() as u64) as usize,
        };
        lens[choice]
    }
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Fate {
    Lost,
    Kept,
    Torn,
}
