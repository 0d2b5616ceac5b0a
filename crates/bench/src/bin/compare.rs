//! `compare --peer PATH [--runs 5] [--long-runs 3] [--seconds 3] [--out DIR] [--only NAME] [--server PATH] [--dir DIR]`:
//! the cost table, side by side with another server.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use cetera_bench::args::Args;
use cetera_bench::compare::run::{Options, run};

fn main() -> ExitCode {
    match options().and_then(|options| run(&options)) {
        Ok(table) => {
            println!("{table}");
            ExitCode::SUCCESS
        }
        Err(what) => {
            eprintln!("{what}");
            ExitCode::FAILURE
        }
    }
}

fn options() -> Result<Options, String> {
    let args = Args::read(&["peer", "runs", "long-runs", "seconds", "out", "only", "server", "dir", "page"])?;
    let runs = args.get("runs", 5)?;
    Ok(Options {
        server: args.server()?,
        peer: args.text("peer").map(PathBuf::from).ok_or("--peer PATH is needed: another server to compare with")?,
        runs,
        long_runs: args.get("long-runs", runs.min(3))?,
        window: Duration::from_secs_f64(args.get("seconds", 3.0)?),
        only: args.text("only").map(str::to_owned),
        dir: args.dir(),
        out: args.get("out", PathBuf::from("docs/benchmarks"))?,
        page: args.get("page", PathBuf::from("docs/benchmarks.md"))?,
    })
}
