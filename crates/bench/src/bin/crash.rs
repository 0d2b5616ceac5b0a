//! `crash --rounds N [--server PATH] [--seed S] [--dir DIR]`: kill -9 under load, and a look at what came back.

use std::process::ExitCode;

use cetera_bench::args::Args;
use cetera_bench::crash::run::{Options, run};

fn main() -> ExitCode {
    match options().and_then(|options| run(&options)) {
        Ok(summary) => {
            println!("{summary}");
            ExitCode::SUCCESS
        }
        Err(what) => {
            eprintln!("{what}");
            ExitCode::FAILURE
        }
    }
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
