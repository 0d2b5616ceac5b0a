//! The server with faults that tests can set from outside (`cetera_server::faults`). Not shipped.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    std::process::exit(cetera_server::main(std::env::args_os().skip(1).collect()));
}
