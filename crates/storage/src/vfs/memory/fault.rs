//! Scripted failures of the simulated disk.

use std::{fmt, io};

/// What a caller asked the disk to do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Op {
    /// `Vfs::create`, and `Vfs::lock` where it creates the file.
    Create,
    /// `Vfs::open`.
    Open,
    /// `Vfs::rename`; the path is the old name.
    Rename,
    /// `Vfs::remove`.
    Remove,
    /// `Vfs::list`.
    List,
    /// `Vfs::create_dir_all`.
    CreateDir,
    /// `Vfs::sync_dir`.
    SyncDir,
    /// `File::read_at` and `File::view`.
    Read,
    /// `File::write_at`. A failing write leaves a prefix behind.
    Write,
    /// `File::sync_data`. A failing sync may lose dirty data for good, whatever later syncs say.
    Sync,
    /// `File::set_len`.
    SetLen,
    /// `File::allocate`.
    Allocate,
}

impl Op {
    pub(super) fn mutates(self) -> bool {
        !matches!(self, Op::Open | Op::List | Op::Read)
    }
}

/// Which error a fault returns.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FaultError {
    /// Input/output error.
    Eio,
    /// No space left on device (`ErrorKind::StorageFull`).
    Enospc,
}

impl From<FaultError> for io::Error {
    fn from(error: FaultError) -> Self {
        io::Error::from_raw_os_error(match error {
            FaultError::Eio => 5,
            FaultError::Enospc => 28,
        })
    }
}

/// One scripted failure.
#[derive(Clone, Debug)]
pub struct Fault {
    /// The operation that fails.
    pub on: Op,
    /// Matching calls that still succeed before it.
    pub after: u64,
    /// The error returned.
    pub error: FaultError,
    /// Whether all later matching calls fail too.
    pub sticky: bool,
    /// Only paths that contain this.
    pub path_contains: Option<String>,
}

impl Fault {
    /// The next `on` fails once, whatever the path.
    pub fn once(on: Op, error: FaultError) -> Self {
        Self { on, after: 0, error, sticky: false, path_contains: None }
    }

    /// Every `on` fails from now, whatever the path.
    pub fn always(on: Op, error: FaultError) -> Self {
        Self { sticky: true, ..Self::once(on, error) }
    }

    /// Lets `calls` matching calls succeed first.
    pub fn after(self, calls: u64) -> Self {
        Self { after: calls, ..self }
    }

    /// Only for paths that contain `part`.
    pub fn path(self, part: &str) -> Self {
        Self { path_contains: Some(part.to_owned()), ..self }
    }
}

/// The error of every operation after the machine stopped; see `MemoryVfs::crash_after`.
#[derive(Debug)]
pub(super) struct Crashed;

impl fmt::Display for Crashed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the simulated machine has stopped")
    }
}

impl std::error::Error for Crashed {}
