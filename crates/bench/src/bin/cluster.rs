//! `cluster --peer PATH [--runs 5] [--long-runs 3] [--failovers 5] [--seconds 3] [--snapshot-mib 1024] [--only NAME,...]
//! [--server PATH] [--dir DIR] [--out DIR] [--page FILE]`: the cost table of three members, side by side with three of
//! another server.

use std::process::ExitCode;

use cetera_bench::args::{Args, told};
use cetera_bench::cluster::cell::Extent;
use cetera_bench::cluster::run::run;
use cetera_bench::side_by_side::run::Options;

fn main() -> ExitCode {
    told(table())
}

fn table() -> Result<String, String> {
    let args = Args::read(&[&Options::NAMES[..], &["failovers", "snapshot-mib"]].concat())?;
    let extent =
        Extent { failovers: args.get("failovers", 5)?, snapshot_bytes: args.get::<u64>("snapshot-mib", 1024)? << 20 };
    run(&Options::read(&args)?, &extent)
}
