//! The bytes of one file as shared pages: copying an image is a walk over pointers.

use std::{
    ops::Range,
    sync::{Arc, LazyLock},
};

const PAGE: usize = 4096;

/// What a disk writes whole or not at all.
pub(super) const SECTOR: u64 = 512;

type Page = [u8; PAGE];

static ZERO_PAGE: LazyLock<Arc<Page>> = LazyLock::new(|| Arc::new([0; PAGE]));

/// Invariant: bytes of the last page past `len` are zero.
#[derive(Clone, Default)]
pub(super) struct Image {
    len: u64,
    pages: Vec<Arc<Page>>,
}

impl Image {
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn read(&self, buf: &mut [u8], offset: u64) -> usize {
        let n = self.len.saturating_sub(offset).min(buf.len() as u64) as usize;
        let mut done = 0;
        while done < n {
            let (page, within) = place(offset + done as u64);
            let part = (PAGE - within).min(n - done);
            buf[done..done + part].copy_from_slice(&self.pages[page][within..within + part]);
            done += part;
        }
        n
    }

    /// The page that holds all of `[offset, offset + len)`, and the range inside it, if one does.
    pub(super) fn page_of(&self, offset: u64, len: usize) -> Option<(Arc<Page>, Range<usize>)> {
        let (page, within) = place(offset);
        (within + len <= PAGE).then(|| (self.pages[page].clone(), within..within + len))
    }

    pub(super) fn write(&mut self, data: &[u8], offset: u64) {
        if data.is_empty() {
            return;
        }
        self.set_len(self.len.max(offset + data.len() as u64));
        let mut done = 0;
        while done < data.len() {
            let (page, within) = place(offset + done as u64);
            let part = (PAGE - within).min(data.len() - done);
            let source = &data[done..done + part];
            let target = &mut self.pages[page];
            if source.iter().any(|byte| *byte != 0) || !Arc::ptr_eq(target, &ZERO_PAGE) {
                Arc::make_mut(target)[within..within + part].copy_from_slice(source);
            }
            done += part;
        }
    }

    pub(super) fn set_len(&mut self, len: u64) {
        self.pages.resize_with((len as usize).div_ceil(PAGE), || ZERO_PAGE.clone());
        if len < self.len {
            let (page, within) = place(len);
            if within != 0 {
                Arc::make_mut(&mut self.pages[page])[within..].fill(0);
            }
        }
        self.len = len;
    }

    /// Makes `range` read as zeros without changing the length.
    pub(super) fn zero(&mut self, range: Range<u64>) {
        let end = range.end.min(self.len);
        let mut at = range.start;
        while at < end {
            let (page, within) = place(at);
            let part = ((PAGE - within) as u64).min(end - at);
            Arc::make_mut(&mut self.pages[page])[within..within + part as usize].fill(0);
            at += part;
        }
    }

    /// Copies the sector at `sector * SECTOR` from `source`, growing as needed but never past `source`.
    pub(super) fn copy_sector(&mut self, source: &Image, sector: u64) {
        let mut buf = [0; SECTOR as usize];
        let n = source.read(&mut buf, sector * SECTOR);
        self.write(&buf[..n], sector * SECTOR);
    }

    pub(super) fn flip(&mut self, offset: u64, mask: u8) {
        if offset < self.len {
            let (page, within) = place(offset);
            Arc::make_mut(&mut self.pages[page])[within] ^= mask;
        }
    }
}

fn place(offset: u64) -> (usize, usize) {
    ((offset / PAGE as u64) as usize, (offset % PAGE as u64) as usize)
}
