//! What an operator gives: command line, environment, durations, URLs. Read or refused in words; what was read has one
//! spelling, which reads as the same.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use cetera_server::config::{Config, Url};
use cetera_server::flags::{Stop, go_duration, parse_duration};

use crate::input::Input;

/// See the module.
pub(crate) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    match input.below(4) {
        0 => {
            let Ok(text) = std::str::from_utf8(input.rest()) else { return };
            if let Some(duration) = parse_duration(text) {
                let printed = go_duration(duration);
                assert_eq!(parse_duration(&printed), Some(duration), "{text:?} prints as {printed}");
            }
        }
        1 => {
            let Ok(text) = std::str::from_utf8(input.rest()) else { return };
            if let Ok(url) = Url::parse(text) {
                let _ = url.check_bindable();
                let printed = url.to_string();
                assert_eq!(Url::parse(&printed).as_ref(), Ok(&url), "{text:?} prints as {printed}");
            }
        }
        _ => command_line(&mut input),
    }
}

fn command_line(input: &mut Input<'_>) {
    let mut arguments = Vec::new();
    let mut environment = Vec::new();
    for line in input.rest().split(|byte| *byte == b'\n') {
        match line.strip_prefix(b"$") {
            Some(variable) => {
                let text = String::from_utf8_lossy(variable).into_owned();
                let (name, value) = text.split_once('=').unwrap_or((&text, ""));
                environment.push((name.to_owned(), value.to_owned()));
            }
            None => arguments.push(OsString::from_vec(line.to_vec())),
        }
    }
    match Config::read(&arguments, environment.into_iter(), &mut Vec::new()) {
        Ok(config) => {
            let spelled: Vec<OsString> = config
                .flags
                .iter()
                .filter(|(flag, text)| config.flags.is_set(flag.name) && *text != flag.default)
                .map(|(flag, text)| format!("--{}={text}", flag.name).into())
                .collect();
            let again = Config::read(&spelled, std::iter::empty(), &mut Vec::new());
            let again = again.unwrap_or_else(|_| panic!("read from {arguments:?}, refused as {spelled:?}"));
            for ((flag, one), (_, other)) in config.flags.iter().zip(again.flags.iter()) {
                assert_eq!(one, other, "--{}", flag.name);
            }
        }
        Err(Stop::Failure(text) | Stop::Usage(text)) => assert!(!text.is_empty()),
        Err(_) => {}
    }
}
