//! All cells, ours and the peer's in turn.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tokio::task::LocalSet;

use super::page::replace;
use super::record::{Figures, Record, Side};
use crate::args::Args;

/// Most memory of a store here, with what a peer's quota counts.
const QUOTA_BYTES: u64 = 8 << 30;

/// What a cell does.
pub trait Kind: Copy {
    /// Whether it takes long, so that it is run less often.
    fn is_long(self) -> bool;
}

/// A cell.
#[derive(Copy, Clone, Debug)]
pub struct Cell<K> {
    /// Its name, for `--only`.
    pub name: &'static str,
    /// As the table says it.
    pub label: &'static str,
    /// What it does.
    pub kind: K,
    /// Connections.
    pub connections: usize,
    /// Requests in flight over all connections.
    pub in_flight: usize,
}

impl<K: Kind> Cell<K> {
    /// See [`Kind::is_long`].
    pub fn is_long(&self) -> bool {
        self.kind.is_long()
    }
}

impl<K> Cell<K> {
    /// A cell.
    pub const fn new(
        name: &'static str,
        label: &'static str,
        kind: K,
        connections: usize,
        in_flight: usize,
    ) -> Cell<K> {
        Cell { name, label, kind, connections, in_flight }
    }
}

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
    /// These cells alone.
    pub only: Vec<String>,
    /// Where data directories go.
    pub dir: PathBuf,
    /// Where the raw data goes.
    pub out: PathBuf,
    /// The page whose table is replaced.
    pub page: PathBuf,
}

impl Options {
    /// Names of the arguments that [`Options::read`] reads.
    pub const NAMES: [&str; 9] = ["peer", "runs", "long-runs", "seconds", "only", "server", "dir", "out", "page"];

    /// From the arguments given.
    ///
    /// # Errors
    /// One that does not fit, or none that says which server to compare with.
    pub fn read(args: &Args) -> Result<Options, String> {
        let runs = args.get("runs", 5)?;
        Ok(Options {
            server: args.server()?,
            peer: args
                .text("peer")
                .map(PathBuf::from)
                .ok_or("--peer PATH is needed: another server to compare with")?,
            runs,
            long_runs: args.get("long-runs", runs.min(3))?,
            window: Duration::from_secs_f64(args.get("seconds", 3.0)?),
            only: args.text("only").map_or_else(Vec::new, |only| only.split(',').map(str::to_owned).collect()),
            dir: args.dir(),
            out: args.get("out", PathBuf::from("docs/benchmarks"))?,
            page: args.get("page", PathBuf::from("docs/benchmarks.md"))?,
        })
    }
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Measured {
    /// Every run.
    pub records: Vec<Record>,
    /// What the peer says of itself.
    pub peer: String,
    /// Runs that failed and were made again, with the reason.
    pub again: Vec<String>,
}

impl Measured {
    /// A paragraph on the runs that were made again, empty if there were none.
    pub fn made_again(&self) -> String {
        match self.again.as_slice() {
            [] => String::new(),
            again => format!("\nRuns that failed and were made again: {}.\n", again.join("; ")),
        }
    }

    /// Writes raw data and table, unless only some cells were asked for. `file` and `title` stand before the peer's name
    /// in the name of the raw data's file, and on the page.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn keep(&self, options: &Options, file: &str, title: &str, table: &str) -> Result<(), String> {
        if !options.only.is_empty() {
            return Ok(());
        }
        let lines: String = self.records.iter().map(|record| record.json() + "\n").collect();
        let raw = options.out.join(format!("{file}{}.jsonl", self.peer.replace(' ', "-")));
        std::fs::create_dir_all(&options.out).map_err(|e| format!("{}: {e}", options.out.display()))?;
        std::fs::write(&raw, lines).map_err(|e| format!("{}: {e}", raw.display()))?;
        replace(&options.page, &format!("{title}{}", self.peer), table)
    }
}

/// Runs all cells, or those asked for; `once` runs one with a server's program.
///
/// # Errors
/// A cell that could not be measured, twice in a row.
pub fn measure<K: Kind>(
    cells: &[Cell<K>],
    options: &Options,
    once: impl Fn(&Cell<K>, &Path) -> Result<Figures, String>,
) -> Result<Measured, String> {
    let sides = [(Side::Ours, &options.server), (Side::Peer, &options.peer)];
    let versions = [version(&options.server)?, version(&options.peer)?];
    let is_wanted = |cell: &&Cell<K>| options.only.is_empty() || options.only.iter().any(|only| only == cell.name);
    let wanted: Vec<&Cell<K>> = cells.iter().filter(is_wanted).collect();
    if wanted.len() < options.only.len() {
        let names: Vec<&str> = cells.iter().map(|cell| cell.name).collect();
        return Err(format!("no such cell; there are {}", names.join(", ")));
    }
    let mut measured = Measured { records: Vec::new(), peer: versions[1].clone(), again: Vec::new() };
    for cell in wanted {
        let runs = if cell.is_long() { options.long_runs } else { options.runs };
        for run in 1..=runs {
            for ((side, program), version) in sides.iter().zip(&versions) {
                let figures = once(cell, program).or_else(|what| {
                    let named = format!("{} of {}, run {run}", cell.name, side.name());
                    eprintln!("{named}: {what}; once more");
                    let line = what.lines().next().unwrap_or_default();
                    measured.again.push(format!("{named} ({line})"));
                    once(cell, program).map_err(|what| format!("{named}: {what}"))
                })?;
                let record = Record { cell: cell.name, side: *side, version: version.clone(), run, figures };
                println!("{}", record.json());
                measured.records.push(record);
            }
        }
    }
    Ok(measured)
}

/// Runs `work`, which has its data in `dir`, on a runtime of its own, and removes the data.
///
/// # Errors
/// What `work` says.
pub fn alone<T>(dir: &Path, work: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
    let done = LocalSet::new().block_on(&runtime, work);
    // A directory that cannot be removed spoils nothing.
    let _ = std::fs::remove_dir_all(dir);
    done
}

/// Flags of every server here.
pub fn flags() -> Vec<String> {
    vec!["--quota-backend-bytes".to_owned(), QUOTA_BYTES.to_string()]
}

/// What a server says of itself, `cetera 0.0.0` or `etcd 3.5.30`.
fn version(program: &Path) -> Result<String, String> {
    let out = Command::new(program).arg("--version").output().map_err(|e| format!("{}: {e}", program.display()))?;
    let text = String::from_utf8_lossy(&out.stdout);
    let after = |label: &str| text.lines().find_map(|line| line.strip_prefix(label)).map(str::trim);
    match (after("etcd Version:"), after("Git SHA:").and_then(|sha| sha.strip_prefix("cetera-"))) {
        (_, Some(ours)) => Ok(format!("cetera {ours}")),
        (Some(etcd), None) => Ok(format!("etcd {etcd}")),
        (None, None) => Err(format!("{} --version says {text:?}", program.display())),
    }
}
