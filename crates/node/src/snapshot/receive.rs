//! The receiving side: chunks into files.

use std::path::PathBuf;
use std::sync::{Arc, Weak};

use cetera_proto::ceterapb::{SnapshotChunk, SnapshotFile, SnapshotHeader, SnapshotPosition};
use cetera_proto::raftpb::{self, MessageType};
use cetera_state::StateLimits;
use cetera_storage::datadir::DataDir;
use cetera_storage::revlog::{self, RevLogOptions};
use cetera_storage::vfs::{File, Vfs};

use super::prepare::ReceivedSnapshot;
use super::send::skip_ended;
use super::{CHUNK_BYTES_MAX, FILES_MAX, SnapshotError, io_error};

/// Takes snapshots, one at a time. A new one takes the place of one that is under way.
pub struct SnapshotReceiver {
    place: Place,
    next_log: u32,
    under_way: Option<Sink>,
    /// The last one that was handed out whole, as long as it is not dropped or taken over.
    done: Option<(u64, Weak<()>)>,
}

/// Where snapshots are written.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) vfs: Arc<dyn Vfs>,
    /// Of the data directory.
    pub(crate) member: PathBuf,
    pub(crate) checkpoints: PathBuf,
    pub(crate) options: RevLogOptions,
    /// What apply must respect, in the state that is made of it.
    pub(crate) limits: StateLimits,
}

/// The files of a snapshot that is no member's state yet; dropping it removes them.
pub(super) struct Leftovers {
    pub(super) vfs: Arc<dyn Vfs>,
    /// Number of the log directory, and where it lies.
    pub(super) log: u32,
    pub(super) log_dir: PathBuf,
    pub(super) checkpoint: PathBuf,
    pub(super) kept: bool,
    pub(super) alive: Arc<()>,
}

struct Sink {
    header: SnapshotHeader,
    message: raftpb::Message,
    at: SnapshotPosition,
    /// The file being written.
    file: Option<Arc<dyn File>>,
    leftovers: Leftovers,
}

impl SnapshotReceiver {
    pub(crate) fn new(
        vfs: Arc<dyn Vfs>,
        dir: &DataDir,
        options: RevLogOptions,
        limits: StateLimits,
        next_log: u32,
    ) -> Self {
        let (member, checkpoints) = (dir.member_dir().to_owned(), dir.checkpoint_dir());
        Self { place: Place { vfs, member, checkpoints, options, limits }, next_log, under_way: None, done: None }
    }

    /// A snapshot of this header begins, or goes on: returns the position from which chunks are wanted. One that was
    /// received whole before wants none.
    ///
    /// # Errors
    /// The header is nonsense, or there is no room for the files.
    pub fn begin(&mut self, header: &SnapshotHeader) -> Result<SnapshotPosition, SnapshotError> {
        if self.has(header.id) {
            return Ok(SnapshotPosition { file: header.files.len() as u32, offset: 0 });
        }
        if let Some(sink) = &self.under_way
            && sink.header.id == header.id
            && sink.header.files == header.files
        {
            return Ok(sink.at);
        }
        self.under_way = None;
        let message = check(header)?;
        let log = self.next_log;
        self.next_log += 1;
        let sink = self.under_way.insert(Sink::begin(&self.place, header.clone(), message, log)?);
        Ok(sink.at)
    }

    /// Writes the next chunk of the snapshot `id` and returns the position behind it. Blocks on the disk at the end of
    /// each file.
    ///
    /// # Errors
    /// [`SnapshotError::OutOfOrder`]: nothing was done. Everything else abandons the snapshot.
    pub fn chunk(&mut self, id: u64, chunk: &SnapshotChunk) -> Result<SnapshotPosition, SnapshotError> {
        let sink = self.under_way.as_mut().filter(|sink| sink.header.id == id).ok_or(SnapshotError::OutOfOrder)?;
        if chunk.at != Some(sink.at) {
            return Err(SnapshotError::OutOfOrder);
        }
        let written = sink.write(&self.place, &chunk.data);
        if written.is_err() {
            self.under_way = None;
        }
        written
    }

    /// All chunks of the snapshot `id` were sent: makes its files durable and hands it out, once.
    ///
    /// # Errors
    /// Something is missing ([`SnapshotError::OutOfOrder`]: it can be gone on with), or the disk failed.
    pub fn finish(&mut self, id: u64) -> Result<Option<ReceivedSnapshot>, SnapshotError> {
        if self.has(id) {
            return Ok(None);
        }
        let sink = self.under_way.take_if(|sink| sink.header.id == id).ok_or(SnapshotError::OutOfOrder)?;
        if (sink.at.file as usize) < sink.header.files.len() {
            self.under_way = Some(sink);
            return Err(SnapshotError::OutOfOrder);
        }
        let Sink { header, message, leftovers, .. } = sink;
        for dir in [&leftovers.log_dir, &self.place.member, &self.place.checkpoints] {
            self.place.vfs.sync_dir(dir).map_err(io_error(dir))?;
        }
        self.done = Some((id, Arc::downgrade(&leftovers.alive)));
        Ok(Some(ReceivedSnapshot { place: self.place.clone(), message, header, leftovers }))
    }

    fn has(&self, id: u64) -> bool {
        self.done.as_ref().is_some_and(|(done, alive)| *done == id && alive.strong_count() > 0)
    }

    /// Gives up what is under way.
    pub fn abandon(&mut self) {
        self.under_way = None;
    }
}

/// The message of a header that could be a snapshot's.
fn check(header: &SnapshotHeader) -> Result<raftpb::Message, SnapshotError> {
    let nonsense = SnapshotError::Nonsense;
    let message = header.message.clone().ok_or(nonsense("a header without a message"))?;
    let index = message.snapshot.as_ref().and_then(|snapshot| snapshot.metadata.as_ref()).map_or(0, |meta| meta.index);
    if message.r#type() != MessageType::MsgSnap || index == 0 {
        return Err(nonsense("a header of something else"));
    }
    let (first, segments) = header.files.split_first().ok_or(nonsense("no files"))?;
    if first.segment.is_some() || segments.iter().any(|file| file.segment.is_none()) || segments.len() >= FILES_MAX {
        return Err(nonsense("other files than a snapshot has"));
    }
    let mut ids: Vec<u32> = segments.iter().filter_map(|file| file.segment).collect();
    ids.sort_unstable();
    if ids.windows(2).any(|pair| pair[0] == pair[1]) || header.files.iter().any(|file| file.bytes == 0) {
        return Err(nonsense("files that cannot be"));
    }
    Ok(message)
}

impl Sink {
    fn begin(place: &Place, header: SnapshotHeader, message: raftpb::Message, log: u32) -> Result<Self, SnapshotError> {
        let free = place.vfs.free_bytes(&place.member).map_err(io_error(&place.member))?;
        if header.files.iter().try_fold(0u64, |sum, file| sum.checked_add(file.bytes)).is_none_or(|sum| sum > free) {
            let error = std::io::ErrorKind::StorageFull.into();
            return Err(SnapshotError::Io { path: place.member.clone(), error });
        }
        let log_dir = place.member.join(cetera_storage::datadir::log_name(log));
        let checkpoint = place.checkpoints.join(format!("snapshot-{log:08x}.tmp"));
        let leftovers =
            Leftovers { vfs: place.vfs.clone(), log, log_dir, checkpoint, kept: false, alive: Arc::default() };
        place.vfs.create_dir_all(&leftovers.log_dir).map_err(io_error(&leftovers.log_dir))?;
        Ok(Self { header, message, at: SnapshotPosition::default(), file: None, leftovers })
    }

    fn path(&self, of: &SnapshotFile) -> PathBuf {
        match of.segment {
            None => self.leftovers.checkpoint.clone(),
            Some(id) => self.leftovers.log_dir.join(revlog::segment_name(id)),
        }
    }

    fn write(&mut self, place: &Place, data: &[u8]) -> Result<SnapshotPosition, SnapshotError> {
        let nonsense = SnapshotError::Nonsense;
        let of = *self.header.files.get(self.at.file as usize).ok_or(nonsense("a chunk behind the end"))?;
        if data.is_empty() || data.len() > CHUNK_BYTES_MAX || self.at.offset + data.len() as u64 > of.bytes {
            return Err(nonsense("a chunk of no possible length"));
        }
        let path = self.path(&of);
        let file = match self.file.take() {
            Some(file) => file,
            None => place.vfs.create(&path).map_err(io_error(&path))?,
        };
        file.write_at(&[data], self.at.offset).map_err(io_error(&path))?;
        file.write_out(self.at.offset, data.len() as u64);
        let behind = SnapshotPosition { file: self.at.file, offset: self.at.offset + data.len() as u64 };
        if behind.offset == of.bytes {
            file.sync_data().map_err(io_error(&path))?;
        } else {
            self.file = Some(file);
        }
        self.at = skip_ended(behind, self.header.files.iter().map(|file| file.bytes));
        Ok(self.at)
    }
}

impl Leftovers {
    fn remove(&self) {
        // Best effort: what stays is found and removed by the next start.
        let _ = self.vfs.remove(&self.checkpoint);
        for name in self.vfs.list(&self.log_dir).unwrap_or_default() {
            let _ = self.vfs.remove(&self.log_dir.join(name));
        }
        let _ = self.vfs.remove_dir(&self.log_dir);
    }
}

impl Drop for Leftovers {
    fn drop(&mut self) {
        if !self.kept {
            self.remove();
        }
    }
}
