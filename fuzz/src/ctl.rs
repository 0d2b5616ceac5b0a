//! What a user types into `etcdctl`, and what it prints of any answer.

use cetera_ctl::fuzz;

use crate::input::Input;

/// See the module.
pub(crate) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    match input.below(4) {
        0 => {
            let line = input.rest();
            let _ = fuzz::txn_line(line.trim_ascii());
        }
        1 => {
            let args: Vec<Vec<u8>> = input.rest().split(|byte| *byte == 0).map(<[u8]>::to_vec).collect();
            match fuzz::command_line(args.clone()) {
                Ok(words) => assert!(words.len() <= args.len()),
                Err(text) => assert!(!text.is_empty()),
            }
        }
        2 => {
            let bytes = input.rest();
            let quoted = fuzz::quote(bytes);
            if std::str::from_utf8(bytes).is_ok() {
                let words = fuzz::words(quoted.as_bytes());
                assert_eq!(words.as_deref(), Ok(&[bytes.to_vec()][..]), "{quoted} reads otherwise than it was");
            }
        }
        _ => {
            let kind = input.u8();
            // JSON must hold together whatever the keys are.
            for text in fuzz::show(kind, input.rest()).unwrap_or_default() {
                if text.first() == Some(&b'{') && text.ends_with(b"}\n") {
                    assert!(std::str::from_utf8(&text).is_ok(), "JSON is text");
                }
            }
        }
    }
}
