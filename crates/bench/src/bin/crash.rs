//! `crash --rounds N [--server PATH] [--seed S] [--dir DIR]`: kill -9 under load, and a look at what came back.

use std::process::ExitCode;

use cetera_bench::args::{Args, told};
use cetera_bench::crash::run::{Options, run};

fn main() -> ExitCode {
    told(options().and_then(|options| run(&options)))
}

fn options() -> Result<Options, String> {
    let args = Args::read(&["rounds", "server", "seed", "dir"])?;
    Ok(Options {
        rounds: args.get("rounds", 200)?,
        seed: args.get("seed", 1)?,
        server: args.server()?,
        dir: args.dir(),
    })
}
