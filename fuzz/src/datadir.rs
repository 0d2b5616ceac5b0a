//! A data directory with any names and any format file in it: taken, or refused and left as it was.

use std::path::Path;

use cetera_storage::datadir::{DataDir, DataDirError};
use cetera_storage::vfs::{MemoryVfs, Vfs};
use std::sync::Arc;

use crate::disk::Image;
use crate::input::Input;

const NAMES: &[&str] = &[
    "member/format",
    "member/lock",
    "member/format.tmp",
    "member/wal/x",
    "member/log/x",
    "member/checkpoint/x",
    "member/snap/db",
    "lost+found/x",
    "proxy/x",
    "member",
    "file",
];
const DIRS: &[&str] = &["/data", "/data/member", "/data/member/wal", "/data/member/snap", "/data/proxy"];

/// See the module.
pub(crate) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let disk: Arc<dyn Vfs> = Arc::new(MemoryVfs::new());
    disk.create_dir_all(Path::new("/data")).expect("a good disk");
    while !input.is_empty() {
        let path = Path::new("/data").join(input.choose(NAMES));
        let bytes = input.bytes();
        // Where a file and a directory ask for the same name, the first has it.
        if disk.create_dir_all(path.parent().expect("below /data")).is_ok()
            && let Ok(file) = disk.create(&path)
        {
            file.write_at(&[bytes], 0).expect("a good disk");
        }
    }
    let dirs: Vec<&str> = DIRS.iter().copied().filter(|dir| disk.list(Path::new(dir)).is_ok()).collect();
    let before = Image::of(&*disk, &dirs);
    match DataDir::open(disk.clone(), Path::new("/data")) {
        Ok(held) => {
            assert!(matches!(DataDir::open(disk.clone(), Path::new("/data")), Err(DataDirError::Locked(_))));
            drop(held);
            DataDir::open(disk, Path::new("/data")).expect("what was taken once is taken again");
        }
        Err(error) => {
            let mut after = Image::of(&*disk, &dirs);
            // The lock is taken before the format is looked at, and its file stays.
            if !before.files.contains_key(Path::new("/data/member/lock")) {
                after.files.remove(Path::new("/data/member/lock"));
            }
            assert!(after == before, "a refusal changes nothing: {error}");
        }
    }
}
