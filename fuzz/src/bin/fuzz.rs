//! The fuzz program: libFuzzer around one target, which `CETERA_FUZZ_TARGET` names. Built and run by
//! `cargo xtask fuzz`, which sets the flags that make coverage visible.

#![no_main]

use std::sync::OnceLock;

use cetera_fuzz::Target;
use libfuzzer_sys::fuzz_target;

#[global_allocator]
static ALLOCATOR: cetera_fuzz::allocation::Bounded = cetera_fuzz::allocation::Bounded;

fn chosen() -> &'static Target {
    static CHOSEN: OnceLock<&'static Target> = OnceLock::new();
    CHOSEN.get_or_init(|| {
        let name = std::env::var("CETERA_FUZZ_TARGET").expect("CETERA_FUZZ_TARGET names a target");
        cetera_fuzz::target(&name).unwrap_or_else(|| panic!("no target is called {name:?}"))
    })
}

fuzz_target!(|data: &[u8]| (chosen().run)(data));
