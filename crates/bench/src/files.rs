//! What can be told of a server from the names and sizes of its files.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(5);

/// Counts of files that came and went.
#[derive(Copy, Clone, Debug, Default)]
pub struct FilesSeen {
    /// New segments of the write-ahead log (recycled ones get a new name).
    pub wal_segments: usize,
    /// New checkpoints.
    pub checkpoints: usize,
    /// New segments of the revision log, those written by rewrites among them.
    pub log_segments: usize,
    /// Segments of the revision log that went: rewrites replaced them.
    pub log_segments_gone: usize,
}

impl FilesSeen {
    /// Adds another count.
    pub fn add(&mut self, other: FilesSeen) {
        self.wal_segments += other.wal_segments;
        self.checkpoints += other.checkpoints;
        self.log_segments += other.log_segments;
        self.log_segments_gone += other.log_segments_gone;
    }
}

/// Looks at a data directory until told to stop.
#[derive(Debug)]
pub struct FileWatch {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<FilesSeen>,
}

impl FileWatch {
    /// Begins.
    pub fn start(data_dir: &Path) -> FileWatch {
        let stop = Arc::new(AtomicBool::new(false));
        let (seen_stop, dir) = (Arc::clone(&stop), data_dir.to_owned());
        FileWatch { stop, thread: std::thread::spawn(move || watch(&dir, &seen_stop)) }
    }

    /// Ends, with what was seen.
    pub fn stop(self) -> FilesSeen {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("looking at files does not panic")
    }
}

fn watch(data_dir: &Path, stop: &Arc<AtomicBool>) -> FilesSeen {
    let mut before = Look::take(data_dir);
    let mut seen = FilesSeen::default();
    // A watch that was dropped ends as well.
    while !stop.load(Ordering::Relaxed) && Arc::strong_count(stop) > 1 {
        std::thread::sleep(PAUSE);
        let now = Look::take(data_dir);
        seen.wal_segments += now.wal.difference(&before.wal).count();
        seen.checkpoints += now.checkpoints.difference(&before.checkpoints).count();
        seen.log_segments += now.log.difference(&before.log).count();
        seen.log_segments_gone += before.log.difference(&now.log).count();
        before = now;
    }
    seen
}

/// The names at one moment.
#[derive(Clone, Debug, Default)]
pub struct Look {
    /// Segments of the write-ahead log.
    pub wal: BTreeSet<String>,
    /// Checkpoints.
    pub checkpoints: BTreeSet<String>,
    /// Segments of the revision log.
    pub log: BTreeSet<String>,
}

impl Look {
    /// Looks now.
    pub fn take(data_dir: &Path) -> Look {
        let member = data_dir.join("member");
        Look {
            wal: names(&member.join("wal"), |name| name.ends_with(".wal")),
            checkpoints: names(&member.join("checkpoint"), |name| {
                name.starts_with("checkpoint-") && !name.ends_with(".tmp")
            }),
            log: names(&member.join("log"), |name| !name.ends_with(".tmp")),
        }
    }
}

fn names(dir: &Path, wanted: impl Fn(&str) -> bool) -> BTreeSet<String> {
    let Ok(entries) = std::fs::read_dir(dir) else { return BTreeSet::new() };
    entries.filter_map(|e| e.ok()?.file_name().into_string().ok()).filter(|name| wanted(name)).collect()
}

/// Bytes a directory takes on the disk, as `du` counts.
pub fn disk_bytes(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let mut total = 0;
    let mut open: Vec<PathBuf> = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        let Ok(entries) = std::fs::read_dir(&dir) else { continue };
        for entry in entries.flatten() {
            // A file that went since the directory was read takes nothing.
            let Ok(metadata) = entry.metadata() else { continue };
            total += metadata.blocks() * 512;
            if metadata.is_dir() {
                open.push(entry.path());
            }
        }
    }
    total
}
