//! The one binary. It is the server; `cetera ctl`, or a link named `etcdctl`, is the command line client.

use std::ffi::OsString;
use std::path::Path;

/// A server's small buffers are made on one thread and dropped on another all the time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let mut args: Vec<OsString> = std::env::args_os().collect();
    let called = if args.is_empty() { OsString::new() } else { args.remove(0) };
    let name = Path::new(&called).file_name().unwrap_or_default();
    let code = if name == "etcdctl" {
        cetera_ctl::main(args)
    } else if name != "etcd" && args.first().is_some_and(|word| word == "ctl") {
        args.remove(0);
        cetera_ctl::main(args)
    } else {
        cetera_server::main(args)
    };
    std::process::exit(code);
}
