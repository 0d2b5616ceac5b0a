//! Making the next segment ahead of time: writing a segment of zeros takes longer than any append may wait.

use std::{path::PathBuf, sync::Arc};

use super::{
    WalError,
    format::SegmentHeader,
    segment::{self, Fill, Segment, Spare},
};
use crate::vfs::Vfs;

/// Makes the next segment; see `Wal::prepare_job`. Independent of the log while it runs.
pub struct PrepareJob {
    pub(super) vfs: Arc<dyn Vfs>,
    pub(super) dir: PathBuf,
    pub(super) header: SegmentHeader,
    pub(super) segment_bytes: u64,
    pub(super) spare: Option<Spare>,
}

/// The outcome of a [`PrepareJob`], for `Wal::install`.
pub struct Prepared {
    pub(super) segment: Result<Segment, WalError>,
}

impl PrepareJob {
    /// Does the work: a recycled file costs two syncs, a new one is filled with zeros first.
    pub fn run(self) -> Prepared {
        let Self { vfs, dir, header, segment_bytes, spare } = self;
        Prepared { segment: segment::make(&*vfs, &dir, &header, segment_bytes, spare, Fill::Zeros) }
    }
}
