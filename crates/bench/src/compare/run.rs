//! All cells, ours and the peer's in turn.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tokio::task::LocalSet;

use super::cell::{CELLS, Cell};
use super::record::{Record, Side};
use super::report;
use crate::process::Launch;

/// What to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Our program.
    pub server: PathBuf,
    /// The other.
    pub peer: PathBuf,
    /// Runs of each cell and server.
    pub runs: usize,
    /// The same of cells that take long.
    pub long_runs: usize,
    /// Time measured in each run of a short cell.
    pub window: Duration,
    /// This cell alone.
    pub only: Option<String>,
    /// Where data directories go.
    pub dir: PathBuf,
    /// Where the raw data goes.
    pub out: PathBuf,
    /// The page whose table is replaced.
    pub page: PathBuf,
}

/// Most memory of a store here, with what a peer's quota counts.
pub(crate) const QUOTA_BYTES: u64 = 8 << 30;

/// Runs it, and writes raw data and table unless one cell alone was asked for. Returns the table.
///
/// # Errors
/// A cell that could not be measured.
pub fn run(options: &Options) -> Result<String, String> {
    let versions = [(Side::Ours, version(&options.server)?), (Side::Peer, version(&options.peer)?)];
    let cells: Vec<&Cell> =
        CELLS.iter().filter(|cell| options.only.as_deref().is_none_or(|only| only == cell.name)).collect();
    if cells.is_empty() {
        let names: Vec<&str> = CELLS.iter().map(|cell| cell.name).collect();
        return Err(format!("no such cell; there are {}", names.join(", ")));
    }
    let mut records = Vec::new();
    for cell in cells {
        let runs = if cell.is_long() { options.long_runs } else { options.runs };
        for run in 1..=runs {
            for (side, version) in &versions {
                let program = if *side == Side::Ours { &options.server } else { &options.peer };
                let figures = once(cell, program, options)
                    .map_err(|what| format!("{} of {} ({version}), run {run}: {what}", cell.name, side.name()))?;
                let record = Record { cell: cell.name, side: *side, version: version.clone(), run, figures };
                println!("{}", record.json());
                records.push(record);
            }
        }
    }
    let table = report::table(&records, &versions[1].1, options.runs, options.long_runs, options.window);
    if options.only.is_none() {
        let lines: String = records.iter().map(|record| record.json() + "\n").collect();
        let raw = options.out.join(format!("{}.jsonl", versions[1].1.replace(' ', "-")));
        std::fs::create_dir_all(&options.out).map_err(|e| format!("{}: {e}", options.out.display()))?;
        std::fs::write(&raw, lines).map_err(|e| format!("{}: {e}", raw.display()))?;
        report::replace(&options.page, &versions[1].1, &table)?;
    }
    Ok(table)
}

fn once(cell: &Cell, program: &Path, options: &Options) -> Result<super::record::Figures, String> {
    let dir = options.dir.join(format!("compare-{}", std::process::id()));
    let mut launch = Launch::new(program, &dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    launch.flags = vec!["--quota-backend-bytes".to_owned(), QUOTA_BYTES.to_string()];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
    let figures = LocalSet::new().block_on(&runtime, cell.run(launch, options.window));
    // A directory that cannot be removed spoils nothing.
    let _ = std::fs::remove_dir_all(&dir);
    figures
}

/// What a server says of itself, `cetera 0.0.0` or `etcd 3.5.30`.
pub(crate) fn version(program: &Path) -> Result<String, String> {
    let out = Command::new(program).arg("--version").output().map_err(|e| format!("{}: {e}", program.display()))?;
    let text = String::from_utf8_lossy(&out.stdout);
    let after = |label: &str| text.lines().find_map(|line| line.strip_prefix(label)).map(str::trim);
    match (after("etcd Version:"), after("Git SHA:").and_then(|sha| sha.strip_prefix("cetera-"))) {
        (_, Some(ours)) => Ok(format!("cetera {ours}")),
        (Some(etcd), None) => Ok(format!("etcd {etcd}")),
        (None, None) => Err(format!("{} --version says {text:?}", program.display())),
    }
}
