//! Which words of a watch are its keys, and which a command to run: those after `--`. The keys may stand in the
//! environment instead (contract T-2).

use crate::exit::Exit;
use crate::go::quote;
use std::os::unix::ffi::OsStringExt;

pub(super) const BAD_NUMBER: &str = "bad number of arguments";
const CONFLICT: &str = "bad number of arguments (found conflicting environment key)";
const NO_COMMAND: &str = "bad number of arguments (found separator --, but no commands)";

#[derive(Debug, Default, Eq, PartialEq)]
pub(super) struct Words {
    pub(super) watch: Vec<Vec<u8>>,
    pub(super) command: Vec<Vec<u8>>,
}

/// `ETCDCTL_WATCH_KEY` and, with it, `ETCDCTL_WATCH_RANGE_END`.
pub(super) fn environment() -> Result<Vec<Vec<u8>>, Exit> {
    let read = |name| std::env::var_os(name).map(OsStringExt::into_vec).filter(|v: &Vec<u8>| !v.is_empty());
    match (read("ETCDCTL_WATCH_KEY"), read("ETCDCTL_WATCH_RANGE_END")) {
        (None, Some(end)) => {
            let end = quote(&end);
            Err(Exit::bad_args(format!("ETCDCTL_WATCH_KEY is empty but got ETCDCTL_WATCH_RANGE_END={end}")))
        }
        (key, end) => Ok(key.into_iter().chain(end).collect()),
    }
}

/// The words of the command line.
pub(super) fn of_command_line(
    args: &[Vec<u8>],
    dash: Option<usize>,
    environment: &[Vec<u8>],
) -> Result<Words, &'static str> {
    if dash == Some(args.len()) {
        return Err(NO_COMMAND);
    }
    let (watch, command) = args.split_at(dash.unwrap_or(args.len()));
    if !environment.is_empty() && !watch.is_empty() {
        return Err(CONFLICT);
    }
    Ok(Words { watch: [environment, watch].concat(), command: command.to_vec() })
}

/// The words of a typed line.
pub(super) fn of_typed_line(
    args: &[Vec<u8>],
    dash: Option<usize>,
    environment: &[Vec<u8>],
) -> Result<Words, &'static str> {
    if dash.is_none() && environment.is_empty() && args.is_empty() {
        return Err(BAD_NUMBER);
    }
    of_command_line(args, dash, environment)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(words: &[&str]) -> Vec<Vec<u8>> {
        words.iter().map(|w| w.as_bytes().to_vec()).collect()
    }

    #[test]
    fn keys_and_commands() {
        let words = |args: &[&str], dash, env: &[&str]| of_command_line(&list(args), dash, &list(env));
        let split = |watch: &[&str], command: &[&str]| Words { watch: list(watch), command: list(command) };
        assert_eq!(words(&["a", "b"], None, &[]), Ok(split(&["a", "b"], &[])));
        assert_eq!(words(&["a", "echo", "x"], Some(1), &[]), Ok(split(&["a"], &["echo", "x"])));
        assert_eq!(words(&["echo"], Some(0), &["k", "z"]), Ok(split(&["k", "z"], &["echo"])));
        assert_eq!(words(&["a"], Some(1), &[]), Err(NO_COMMAND));
        assert_eq!(words(&["a"], None, &["k"]), Err(CONFLICT));
        assert_eq!(words(&["a", "echo"], Some(1), &["k"]), Err(CONFLICT));
        assert_eq!(of_typed_line(&[], None, &[]), Err(BAD_NUMBER));
    }
}
