//! All steps of the gate.

use std::path::{Path, PathBuf};

use tokio::task::LocalSet;

use super::report::{self, Row};
use super::space;
use super::steps::Large;
use crate::process::Launch;

/// What to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Live data of the large store.
    pub gib: u64,
    /// The program.
    pub server: PathBuf,
    /// Where its data goes: about three times `gib` must be free.
    pub dir: PathBuf,
    /// The page that is written.
    pub page: PathBuf,
}

/// Runs it and writes the page. False: a limit was not kept.
///
/// # Errors
/// A step that could not be done, or data that came back wrong; the data is kept then.
pub fn run(options: &Options) -> Result<bool, String> {
    let dir = options.dir.join(format!("gate-{}", std::process::id()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
    let rows = LocalSet::new().block_on(&runtime, steps(options, &dir));
    let rows = rows.map_err(|what| format!("{what}\nthe data is kept in {}", dir.display()))?;
    // A directory that cannot be removed spoils nothing.
    let _ = std::fs::remove_dir_all(&dir);
    report::write(&options.page, &report::page(options.gib, &rows))?;
    Ok(rows.iter().all(|row| row.kept != Some(false)))
}

async fn steps(options: &Options, dir: &Path) -> Result<Vec<Row>, String> {
    let mut rows = Vec::new();
    let mut say = |step: Vec<Row>| {
        for row in step {
            let kept = if row.kept == Some(false) { "  NOT KEPT" } else { "" };
            println!("{}: {}{kept}", row.what, row.found);
            rows.push(row);
        }
    };
    let launch = |name: &str| -> Result<Launch, String> {
        let mut launch = Launch::new(&options.server, &dir.join(name)).map_err(|e| e.to_string())?;
        // What etcd calls the backend's size counts every revision that is not compacted.
        launch.flags = vec!["--quota-backend-bytes".to_owned(), (options.gib.max(1) * (4 << 30)).to_string()];
        Ok(launch)
    };
    say(space::large_value(&launch("large-value")?).await?);
    say(space::disk(&launch("space")?).await?);
    let mut large = Large::start(launch("store")?, options.gib).await?;
    say(large.fill().await?);
    say(large.cold_reads().await?);
    say(large.compaction().await?);
    let (mut large, found) = large.reopen().await?;
    say(found);
    say(large.scan().await?);
    drop(large);
    Ok(rows)
}
