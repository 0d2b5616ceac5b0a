//! `chaos [--minutes 10 | --seconds N] [--round SECONDS] [--seed S] [--members 1] [--binary PATH] [--dir DIR]
//! [--faults NAME,NAME]`: servers under load and faults.

use std::process::ExitCode;
use std::time::Duration;

use cetera_bench::args::{Args, told};
use cetera_chaos::kind::Kind;
use cetera_chaos::run::{Options, run};

fn main() -> ExitCode {
    told(options().and_then(|options| run(&options)))
}

fn options() -> Result<Options, String> {
    let args = Args::read(&["minutes", "seconds", "round", "seed", "members", "binary", "dir", "faults"])?;
    let seconds = args.get("seconds", args.get("minutes", 10)? * 60)?;
    let round = args.get("round", 0)?;
    let names: Vec<&str> = args.text("faults").map(|names| names.split(',').collect()).unwrap_or_default();
    Ok(Options {
        duration: Duration::from_secs(seconds),
        round: (round > 0).then(|| Duration::from_secs(round)),
        seed: args.get("seed", 1)?,
        members: args.get("members", 1)?,
        binary: args.program("binary", "cetera-faults")?,
        dir: args.dir(),
        faults: Kind::named(&names)?,
    })
}
