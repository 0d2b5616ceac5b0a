//! `cetera-parity record|check --server PATH [FILES..]`
//!
//! Without FILES: all scripts below `testscripts`.

use cetera_parity::{Mode, ProcessLauncher, Verdict, collect_scripts, run_scripts};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

const USAGE: &str = "usage: cetera-parity record|check --server PATH [FILES..]";

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<bool, String> {
    let mut args = std::env::args().skip(1);
    let mode = match args.next().as_deref() {
        Some("record") => Mode::Record,
        Some("check") => Mode::Check,
        _ => return Err(USAGE.to_owned()),
    };
    let (mut server, mut files) = (None, Vec::new());
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--server" => server = Some(PathBuf::from(args.next().ok_or(USAGE)?)),
            _ if arg.starts_with('-') => return Err(USAGE.to_owned()),
            _ => files.push(PathBuf::from(arg)),
        }
    }
    if files.is_empty() {
        files.push(PathBuf::from("testscripts"));
    }
    let paths = collect_scripts(&files)?;
    let launcher = ProcessLauncher::new(&server.ok_or(USAGE)?);
    let report = run_scripts(Arc::new(launcher), &paths, mode).map_err(|e| e.to_string())?;
    let mut recorded = 0;
    for script in &report.scripts {
        let path = script.path.display();
        match &script.verdict {
            Verdict::Passed => {}
            Verdict::Differs(_) if mode == Mode::Record => {
                recorded += 1;
                println!("recorded {path}");
            }
            Verdict::Differs(diff) => println!("FAILED {path}\n{diff}"),
            Verdict::Broken(error) => println!("BROKEN {path}\n  {error}"),
        }
    }
    let failed = report.failed() - recorded;
    match mode {
        Mode::Check => println!("{} passed, {failed} failed", report.passed()),
        Mode::Record => println!("{recorded} recorded, {} unchanged, {failed} failed", report.passed()),
    }
    Ok(failed == 0)
}
