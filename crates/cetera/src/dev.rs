//! `cetera dev`: a cluster on this machine, for trying things out.
//!
//! Holds the members as child processes and a console of commands for them. Promises that no member outlives it, however
//! it ends, and that what a member prints is kept in a file. Never looks into a member: it speaks etcd's flags and
//! etcd's API, so that the members may be any program of that kind.

mod cluster;
mod console;
mod member;
mod options;
mod plan;
mod status;

use std::ffi::OsString;
use std::io::Write as _;

use options::Wanted;

/// Runs the cluster that the arguments (without the word `dev`) ask for. The process's exit code.
pub(crate) fn main(args: Vec<OsString>) -> i32 {
    let options = match options::read(args) {
        Ok(Wanted::Cluster(options)) => options,
        Ok(Wanted::Help) => {
            say(options::HELP);
            return 0;
        }
        Err(error) => {
            complain(&format!("{error}\n`cetera dev --help` tells more"));
            return 2;
        }
    };
    match console::run(&options) {
        Ok(code) => code,
        Err(error) => {
            complain(&error);
            1
        }
    }
}

/// To standard output; a reader that went away is no error.
fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// A line to standard error.
fn complain(text: &str) {
    // Nothing is left to do about a closed stderr.
    let _ = writeln!(std::io::stderr(), "cetera dev: {text}");
}
