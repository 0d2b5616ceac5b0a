//! The one binary. It is the server; `cetera ctl`, or a link named `etcdctl`, is the command line client; `cetera dev` is
//! a cluster on this machine.

mod dev;

use std::ffi::OsString;
use std::path::Path;

/// A server's small buffers are made on one thread and dropped on another all the time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let mut args: Vec<OsString> = std::env::args_os().collect();
    let called = if args.is_empty() { OsString::new() } else { args.remove(0) };
    let name = Path::new(&called).file_name().unwrap_or_default();
    // A link named `etcd` is the server and nothing else.
    let word = args.first().filter(|_| name != "etcd").and_then(|word| word.to_str());
    let code = match word {
        _ if name == "etcdctl" => cetera_ctl::main(args),
        Some("ctl") => cetera_ctl::main(args.split_off(1)),
        Some("dev") => dev::main(args.split_off(1)),
        _ => cetera_server::main(args),
    };
    std::process::exit(code);
}
