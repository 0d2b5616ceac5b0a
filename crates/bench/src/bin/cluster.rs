//! `cluster --peer PATH [--runs 5] [--long-runs 3] [--failovers 5] [--seconds 3] [--snapshot-mib 1024] [--only NAME,...]
//! [--server PATH] [--dir DIR] [--out DIR] [--page FILE]`: the cost table of three members, side by side with three of
//! another server.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use cetera_bench::args::Args;
use cetera_bench::cluster::cell::Extent;
use cetera_bench::cluster::run::{Options, run};

const NAMES: [&str; 11] =
    ["peer", "runs", "long-runs", "failovers", "seconds", "snapshot-mib", "only", "server", "dir", "out", "page"];

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
    let args = Args::read(&NAMES)?;
    let runs = args.get("runs", 5)?;
    Ok(Options {
        server: args.server()?,
        peer: args.text("peer").map(PathBuf::from).ok_or("--peer PATH is needed: another server to compare with")?,
        runs,
        long_runs: args.get("long-runs", runs.min(3))?,
        extent: Extent {
            window: Duration::from_secs_f64(args.get("seconds", 3.0)?),
            failovers: args.get("failovers", 5)?,
            snapshot_bytes: args.get::<u64>("snapshot-mib", 1024)? << 20,
        },
        only: args.text("only").map_or_else(Vec::new, |only| only.split(',').map(str::to_owned).collect()),
        dir: args.dir(),
        out: args.get("out", PathBuf::from("docs/benchmarks"))?,
        page: args.get("page", PathBuf::from("docs/benchmarks.md"))?,
    })
}
