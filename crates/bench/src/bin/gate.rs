//! `gate [--gib 20] [--server PATH] [--dir DIR] [--page FILE]`: the store under much live data.

use std::path::PathBuf;
use std::process::ExitCode;

use cetera_bench::args::Args;
use cetera_bench::gate::run::{Options, run};

fn main() -> ExitCode {
    match options().and_then(|options| run(&options)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("the gate is closed: a limit was not kept");
            ExitCode::FAILURE
        }
        Err(what) => {
            eprintln!("{what}");
            ExitCode::FAILURE
        }
    }
}

fn options() -> Result<Options, String> {
    let args = Args::read(&["gib", "server", "dir", "page"])?;
    Ok(Options {
        gib: args.get("gib", 20)?,
        server: args.server()?,
        dir: args.dir(),
        page: args.get("page", PathBuf::from("docs/internals/store-gate.md"))?,
    })
}
