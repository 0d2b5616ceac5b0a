//! All cells, ours and the peer's in turn.

use std::path::{Path, PathBuf};

use tokio::task::LocalSet;

use super::cell::{CELLS, Cell, Extent};
use super::group::Group;
use super::report::{self, Made};
use crate::compare::record::{Figures, Record, Side};
use crate::compare::report::replace;
use crate::compare::run::{QUOTA_BYTES, version};

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
    /// How much each run does.
    pub extent: Extent,
    /// These cells alone.
    pub only: Vec<String>,
    /// Where data directories go.
    pub dir: PathBuf,
    /// Where the raw data goes.
    pub out: PathBuf,
    /// The page whose table is replaced.
    pub page: PathBuf,
}

/// Runs it, and writes raw data and table unless only some cells were asked for. Returns the table.
///
/// # Errors
/// A cell that could not be measured, twice in a row.
pub fn run(options: &Options) -> Result<String, String> {
    let versions = [(Side::Ours, version(&options.server)?), (Side::Peer, version(&options.peer)?)];
    let wanted = |cell: &&Cell| options.only.is_empty() || options.only.iter().any(|only| only == cell.name);
    let cells: Vec<&Cell> = CELLS.iter().filter(wanted).collect();
    if cells.len() < options.only.len() {
        let names: Vec<&str> = CELLS.iter().map(|cell| cell.name).collect();
        return Err(format!("no such cell; there are {}", names.join(", ")));
    }
    let mut made = Made {
        runs: options.runs,
        long_runs: options.long_runs,
        failovers: options.extent.failovers,
        window: options.extent.window,
        snapshot_bytes: options.extent.snapshot_bytes,
        again: Vec::new(),
    };
    let mut records = Vec::new();
    for cell in cells {
        let runs = if cell.is_long() { options.long_runs } else { options.runs };
        for run in 1..=runs {
            for (side, version) in &versions {
                let program = if *side == Side::Ours { &options.server } else { &options.peer };
                let figures = once(cell, program, options).or_else(|what| {
                    let named = format!("{} of {}, run {run}", cell.name, side.name());
                    eprintln!("{named}: {what}; once more");
                    let line = what.lines().next().unwrap_or_default();
                    made.again.push(format!("{named} ({line})"));
                    once(cell, program, options).map_err(|what| format!("{named}: {what}"))
                })?;
                let record = Record { cell: cell.name, side: *side, version: version.clone(), run, figures };
                println!("{}", record.json());
                records.push(record);
            }
        }
    }
    let peer = &versions[1].1;
    let table = report::table(&records, peer, &made);
    if options.only.is_empty() {
        let lines: String = records.iter().map(|record| record.json() + "\n").collect();
        let raw = options.out.join(format!("cluster-{}.jsonl", peer.replace(' ', "-")));
        std::fs::create_dir_all(&options.out).map_err(|e| format!("{}: {e}", options.out.display()))?;
        std::fs::write(&raw, lines).map_err(|e| format!("{}: {e}", raw.display()))?;
        replace(&options.page, &format!("three members of {peer}"), &table)?;
    }
    Ok(table)
}

fn once(cell: &Cell, program: &Path, options: &Options) -> Result<Figures, String> {
    let dir = options.dir.join(format!("cluster-{}", std::process::id()));
    let flags = ["--quota-backend-bytes".to_owned(), QUOTA_BYTES.to_string()];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
    let figures = LocalSet::new().block_on(&runtime, async {
        let group = Group::start(program, &dir, &flags).await?;
        cell.run(group, options.extent).await
    });
    // A directory that cannot be removed spoils nothing.
    let _ = std::fs::remove_dir_all(&dir);
    figures
}
