//! `etcdctl`: the command line client.
//!
//! Holds the commands, their flags and their output in the words of etcdctl 3.7. Promises its exit codes, its texts
//! and where they go. Talks to a cluster through [`cetera_client`] alone.

mod cli;
mod command;
mod connect;
mod exit;
#[cfg(feature = "fuzz")]
pub mod fuzz;
mod go;
mod log;
mod printer;

use exit::Exit;
use std::ffi::OsString;
use std::io::Write;
use std::os::unix::ffi::OsStringExt;

/// Runs the command that `args` (without the program's name) ask for. Returns the exit code of the process.
pub fn main(args: Vec<OsString>) -> i32 {
    let args = args.into_iter().map(OsStringExt::into_vec).collect();
    match cli::run(&command::ROOT, args) {
        Ok(()) => 0,
        Err(Exit { code, text: None }) => code,
        Err(Exit { code, text: Some(text) }) => {
            // Nothing is left to do about a closed stderr.
            let _ = writeln!(std::io::stderr(), "Error: {text}");
            code
        }
    }
}
