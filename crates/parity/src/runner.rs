//! Runs many scripts, a few at a time, and tells how each ended.

use crate::diff;
use crate::render;
use crate::script::Script;
use crate::session::Session;
use crate::transport::Launcher;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Scripts, and so servers, that run at the same time.
const PARALLEL: usize = 4;

/// What to do with the outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Write them into the scripts.
    Record,
    /// Compare them with the recorded ones.
    Check,
}

/// How one script ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Passed,
    /// The outputs differ: the difference, `-` recorded, `+` seen. In [`Mode::Record`]: written.
    Differs(String),
    /// The script could not be played to its end.
    Broken(String),
}

/// One script's result.
#[derive(Clone, Debug)]
pub struct ScriptReport {
    pub path: PathBuf,
    /// Contract rows the script names.
    pub rows: Vec<String>,
    pub verdict: Verdict,
}

/// All results, in the order of the paths given.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub scripts: Vec<ScriptReport>,
}

impl Report {
    pub fn passed(&self) -> usize {
        self.scripts.iter().filter(|s| s.verdict == Verdict::Passed).count()
    }

    pub fn failed(&self) -> usize {
        self.scripts.len() - self.passed()
    }
}

/// Runs each script on a server of its own. `Err` only if there is no runtime to run them on.
pub fn run_scripts(launcher: Arc<dyn Launcher>, paths: &[PathBuf], mode: Mode) -> Result<Report, std::io::Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    Ok(runtime.block_on(async {
        let slots = Arc::new(Semaphore::new(PARALLEL));
        let mut running = Vec::new();
        for path in paths {
            let (launcher, slots, path) = (launcher.clone(), slots.clone(), path.clone());
            running.push(tokio::spawn(async move {
                let _slot = slots.acquire_owned().await.expect("the semaphore is never closed");
                run_script(&*launcher, &path, mode).await
            }));
        }
        let mut report = Report::default();
        for (task, path) in running.into_iter().zip(paths) {
            report.scripts.push(task.await.unwrap_or_else(|panic| ScriptReport {
                path: path.clone(),
                rows: Vec::new(),
                verdict: Verdict::Broken(panic.to_string()),
            }));
        }
        report
    }))
}

async fn run_script(launcher: &dyn Launcher, path: &Path, mode: Mode) -> ScriptReport {
    let mut report = ScriptReport { path: path.to_owned(), rows: Vec::new(), verdict: Verdict::Passed };
    let script = match Script::load(path) {
        Ok(script) => script,
        Err(error) => {
            report.verdict = Verdict::Broken(error);
            return report;
        }
    };
    report.rows.clone_from(&script.rows);
    let (recorded, seen) = match play(launcher, &script).await {
        Ok(outputs) => (script.recorded(), script.render(&outputs)),
        Err(error) => {
            report.verdict = Verdict::Broken(error);
            return report;
        }
    };
    if recorded != seen {
        report.verdict = Verdict::Differs(diff::lines(&recorded, &seen));
        if mode == Mode::Record
            && let Err(error) = std::fs::write(path, seen)
        {
            report.verdict = Verdict::Broken(error.to_string());
        }
    }
    report
}

async fn play(launcher: &dyn Launcher, script: &Script) -> Result<Vec<String>, String> {
    let mut session = Session::new(launcher.launch(script.flags.clone()).await?);
    let mut outputs = Vec::new();
    for block in &script.blocks {
        let mut output = String::new();
        for line in &block.commands {
            let text = session.run(line).await;
            let text = text.map_err(|error| format!("line {}: {error}", line.number))?;
            output.push_str(&render::collapse(&text));
        }
        outputs.push(output);
    }
    Ok(outputs)
}

/// The files given, and the `.txt` files anywhere below the directories given, sorted.
pub fn collect_scripts(paths: &[PathBuf]) -> Result<Vec<PathBuf>, String> {
    let mut found = Vec::new();
    for path in paths {
        if !path.is_dir() {
            found.push(path.clone());
            continue;
        }
        let entries = std::fs::read_dir(path).map_err(|e| format!("{}: {e}", path.display()))?;
        let mut inside = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|e| format!("{}: {e}", path.display()))?.path();
            if entry.is_dir() || entry.extension().is_some_and(|e| e == "txt") {
                inside.push(entry);
            }
        }
        inside.sort();
        found.extend(collect_scripts(&inside)?);
    }
    Ok(found)
}
