//! Recorded scripts: what is read is written back the same, and shown bytes read as they were.

use std::path::Path;

use cetera_parity::script::{Line, Script};
use cetera_parity::{request, words};

use crate::input::Input;

/// See the module.
pub(crate) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    if input.flag() {
        let bytes = input.rest();
        let shown = words::show(bytes);
        if bytes.len() <= 64 {
            let read = words::split(&shown).expect("what is shown is read");
            assert_eq!(read[0].value, bytes, "{shown}");
        }
        return;
    }
    let Ok(text) = std::str::from_utf8(input.rest()) else { return };
    // Lines end in newlines alone; a file that has it otherwise is read, and written with newlines.
    let text = text.replace('\r', "");
    let Ok(script) = Script::parse(Path::new("x"), &text) else { return };
    let recorded = script.recorded();
    let again = Script::parse(Path::new("x"), &recorded).expect("what was written is read");
    assert_eq!(again.recorded(), recorded, "written twice it is the same");
    script.blocks.iter().flat_map(|block| &block.commands).for_each(build);
}

fn build(line: &Line) {
    let names = request::Names::new();
    let _ = request::put(line, &names);
    let _ = request::range(line, &names, &[]);
    let _ = request::delete(line, &names);
    let _ = request::txn(line, &names);
    let _ = request::watch(line, &names);
    if let Ok(Some(lines)) = request::repeated(line) {
        // A script may repeat a command many times; it is bounded there.
        assert!(lines.len() <= 100_000);
    }
    line.children.iter().for_each(build);
}
