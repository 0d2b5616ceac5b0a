//! Files in memory that can be copied, edited and compared.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cetera_storage::vfs::{MemoryVfs, Vfs};

use crate::input::Input;

/// The files of some directories.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Image {
    dirs: Vec<PathBuf>,
    pub(crate) files: BTreeMap<PathBuf, Vec<u8>>,
}

impl Image {
    /// What lies in `dirs`.
    pub(crate) fn of(vfs: &dyn Vfs, dirs: &[&str]) -> Image {
        let mut image = Image { dirs: dirs.iter().map(PathBuf::from).collect(), files: BTreeMap::new() };
        for dir in &image.dirs {
            for name in vfs.list(dir).expect("the directory is there") {
                // What cannot be opened is a directory.
                let Ok(file) = vfs.open(&dir.join(&name)) else { continue };
                let mut bytes = vec![0; file.len().expect("a good disk") as usize];
                file.read_at(&mut bytes, 0).expect("a good disk");
                image.files.insert(dir.join(&name), bytes);
            }
        }
        image
    }

    /// A disk with these files, all durable.
    pub(crate) fn disk(&self) -> Arc<dyn Vfs> {
        let vfs = MemoryVfs::new();
        for dir in &self.dirs {
            vfs.create_dir_all(dir).expect("a good disk");
        }
        for (path, bytes) in &self.files {
            let file = vfs.create(path).expect("a good disk");
            file.write_at(&[bytes], 0).expect("a good disk");
            file.sync_data().expect("a good disk");
        }
        for dir in &self.dirs {
            vfs.sync_dir(dir).expect("a good disk");
        }
        Arc::new(vfs)
    }

    /// The file of number `at`, counted round.
    pub(crate) fn path(&self, at: usize) -> Option<PathBuf> {
        self.files.keys().nth(at % self.files.len().max(1)).cloned()
    }

    /// Makes one edit: some bytes changed, the end cut or extended, a file gone, renamed, or as it was in `before`.
    pub(crate) fn edit(&mut self, input: &mut Input<'_>, before: &Image) {
        let kind = input.u8();
        let Some(path) = self.path(usize::from(input.u8())) else { return };
        let at = usize::from(input.u16());
        let file = self.files.get_mut(&path).expect("it was just found");
        let at = if file.is_empty() { 0 } else { at % file.len() };
        match kind % 8 {
            0 | 1 => {
                for (byte, mask) in file[at..].iter_mut().zip(input.bytes()) {
                    *byte ^= mask;
                }
            }
            2 | 3 => {
                for (byte, new) in file[at..].iter_mut().zip(input.bytes()) {
                    *byte = *new;
                }
            }
            4 => file.truncate(at),
            5 => file.extend_from_slice(input.bytes()),
            6 => drop(self.files.remove(&path)),
            _ => match before.files.get(&path) {
                Some(old) if input.flag() => *file = old.clone(),
                _ => {
                    let bytes = self.files.remove(&path).expect("it was just found");
                    let other = self.path(usize::from(input.u8())).unwrap_or(path);
                    self.files.insert(other, bytes);
                }
            },
        }
    }
}

/// The numbers little endian at a place.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

/// The same, eight bytes.
pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

/// The name of a file.
pub(crate) fn name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}
