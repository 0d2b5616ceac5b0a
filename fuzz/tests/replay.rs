//! Every input of the corpus and every past finding, without an engine: what was once wrong stays right.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use cetera_fuzz::TARGETS;

#[global_allocator]
static ALLOCATOR: cetera_fuzz::allocation::Bounded = cetera_fuzz::allocation::Bounded;

/// Bytes that the corpus may take in the repository.
const CORPUS_BYTES_MAX: u64 = 1 << 20;

fn folder(kind: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(kind)
}

fn inputs(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("a readable folder").path()).collect();
    paths.sort();
    paths
}

/// Runs every input below `kind`; the count.
fn replay(kind: &str) -> usize {
    let mut count = 0;
    let mut failed = Vec::new();
    for target in TARGETS {
        for path in inputs(&folder(kind).join(target.name)) {
            let bytes = std::fs::read(&path).expect("a readable input");
            count += 1;
            if std::panic::catch_unwind(|| (target.run)(&bytes)).is_err() {
                failed.push(path.strip_prefix(folder("")).expect("below the crate").display().to_string());
            }
        }
    }
    assert!(failed.is_empty(), "findings: {failed:#?}");
    count
}

#[test]
fn corpus() {
    let count = replay("corpus");
    assert!(count >= 10 * TARGETS.len(), "only {count} inputs");
}

#[test]
fn findings() {
    replay("findings");
}

#[test]
fn no_input_at_all() {
    TARGETS.iter().for_each(|target| (target.run)(&[]));
}

#[test]
fn folders_are_targets_and_small() {
    let known: BTreeSet<&str> = TARGETS.iter().map(|target| target.name).collect();
    let mut bytes = 0;
    for kind in ["corpus", "findings"] {
        for dir in inputs(&folder(kind)) {
            let name = dir.file_name().expect("a name").to_string_lossy().into_owned();
            assert!(known.contains(&*name), "{kind}/{name} is of no target");
            bytes += inputs(&dir).iter().map(|path| path.metadata().expect("a readable input").len()).sum::<u64>();
        }
    }
    assert!(bytes <= CORPUS_BYTES_MAX, "{bytes} bytes of corpus; minimise it");
}
