//! `compare --peer PATH [--runs 5] [--long-runs 3] [--seconds 3] [--only NAME,...] [--server PATH] [--dir DIR] [--out DIR]
//! [--page FILE]`: the cost table, side by side with another server.

use std::process::ExitCode;

use cetera_bench::args::{Args, told};
use cetera_bench::compare::run::run;
use cetera_bench::side_by_side::run::Options;

fn main() -> ExitCode {
    told(Args::read(&Options::NAMES).and_then(|args| run(&Options::read(&args)?)))
}
