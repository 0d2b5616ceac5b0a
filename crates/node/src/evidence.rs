//! What is left of a state that went wrong: moved aside when the right one has taken its place, for people to look at.
//!
//! Holds the files of the last such state, flat in one directory that nothing else reads: its checkpoints, and the
//! segments of its revision log with the name of their directory before theirs. They stay until somebody removes them or
//! the next state goes wrong.

use std::io;
use std::path::Path;

use cetera_storage::vfs::Vfs;
use cetera_storage::{checkpoint, datadir};

/// Name of the directory, beside the logs and the checkpoints.
pub const DIRECTORY: &str = "wrong-state";

/// Moves everything aside that is older than the checkpoint at `index` over revision log `log`.
///
/// # Errors
/// Something could not be moved: it stays where it was.
pub fn set_aside(vfs: &dyn Vfs, checkpoints: &Path, index: u64, log: u32) -> io::Result<()> {
    let Some(member) = checkpoints.parent() else { return Ok(()) };
    let aside = member.join(DIRECTORY);
    vfs.create_dir_all(&aside)?;
    for name in vfs.list(&aside)? {
        vfs.remove(&aside.join(name))?;
    }
    for name in checkpoint::older(vfs, checkpoints, index, log).map_err(io::Error::other)? {
        vfs.rename(&checkpoints.join(&name), &aside.join(&name))?;
    }
    for number in datadir::logs(vfs, member).map_err(io::Error::other)?.into_iter().filter(|number| *number < log) {
        let directory = datadir::log_name(number);
        for name in vfs.list(&member.join(&directory))? {
            vfs.rename(&member.join(&directory).join(&name), &aside.join(format!("{directory}-{name}")))?;
        }
    }
    vfs.sync_dir(&aside)?;
    vfs.sync_dir(member)
}
