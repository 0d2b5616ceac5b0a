//! From arguments to a command with flags and words.

use super::{Command, Flag, Kind, Values};
use crate::go;

/// The flag every command has. Each shows it under its own name.
const HELP: Flag = Flag::bool("help", "").letter('h');

/// A command as it was called.
pub(crate) struct Invocation {
    /// From the root to the command itself.
    pub(crate) path: Vec<&'static Command>,
    pub(crate) flags: Values,
    /// The words that are not flags.
    pub(crate) args: Vec<Vec<u8>>,
    /// How many of them stood before `--`, if it was there.
    pub(crate) dash: Option<usize>,
}

impl Invocation {
    /// Reads the flags of the last command of `path`.
    pub(super) fn parse(
        path: Vec<&'static Command>,
        args: Vec<Vec<u8>>,
    ) -> Result<Invocation, (Vec<&'static Command>, String)> {
        match parse_flags(known_flags(&path), args) {
            Ok((flags, args, dash)) => Ok(Invocation { path, flags, args, dash }),
            Err(error) => Err((path, error)),
        }
    }

    /// The words, as text.
    pub(crate) fn arg(&self, index: usize) -> String {
        String::from_utf8_lossy(&self.args[index]).into_owned()
    }
}

/// Reads the flags in `args` for one command on its own, as for a line typed into it.
pub(crate) fn parse_line(command: &'static Command, args: Vec<Vec<u8>>) -> Result<Invocation, String> {
    let path = vec![command];
    let (flags, args, dash) = parse_flags(known_flags(&path), args)?;
    Ok(Invocation { path, flags, args, dash })
}

/// A command's own flags and those its ancestors share.
fn known_flags(path: &[&'static Command]) -> Values {
    let shared = path.iter().flat_map(|c| c.persistent);
    let own = path.last().into_iter().flat_map(|c| c.flags);
    Values::new(shared.chain(own).chain([&HELP]))
}

/// Walks down the tree along the words of `args`. Returns the path and what is left of them.
pub(super) fn find(root: &'static Command, args: Vec<Vec<u8>>) -> (Vec<&'static Command>, Vec<Vec<u8>>) {
    let mut path = vec![root];
    let mut rest = args;
    while let Some(at) = word_position(&path, &rest)
        && let Some(child) = path[path.len() - 1].child(&rest[at])
    {
        rest.remove(at);
        path.push(child);
    }
    (path, rest)
}

/// The first word of `args` that is no flag and no flag's value.
pub(super) fn first_word<'a>(path: &[&'static Command], args: &'a [Vec<u8>]) -> Option<&'a [u8]> {
    word_position(path, args).map(|at| &args[at][..])
}

fn word_position(path: &[&'static Command], args: &[Vec<u8>]) -> Option<usize> {
    let known = known_flags(path);
    let takes_next = |flag: Option<&Flag>| flag.is_none_or(|f| f.kind != Kind::Bool);
    let mut at = 0;
    while at < args.len() {
        let arg = String::from_utf8_lossy(&args[at]);
        if arg == "--" {
            return None;
        } else if let Some(long) = arg.strip_prefix("--") {
            at += usize::from(!long.contains('=') && takes_next(known.find(long)));
        } else if let Some(short) = arg.strip_prefix('-') {
            let letter = short.chars().next().filter(|_| short.len() == 1);
            at += usize::from(letter.is_some_and(|l| takes_next(known.find_letter(l))));
        } else if !arg.is_empty() {
            return Some(at);
        }
        at += 1;
    }
    None
}

type Parsed = (Values, Vec<Vec<u8>>, Option<usize>);

/// pflag's rules: flags anywhere before `--`, letters joined, `=` optional except after flags without a value.
fn parse_flags(mut values: Values, args: Vec<Vec<u8>>) -> Result<Parsed, String> {
    let mut words = Vec::new();
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        if arg == b"--" {
            let dash = words.len();
            words.extend(args);
            return Ok((values, words, Some(dash)));
        }
        if arg.len() < 2 || arg[0] != b'-' {
            words.push(arg);
            continue;
        }
        let text = String::from_utf8_lossy(&arg).into_owned();
        let mut next = || args.next().map(|a| String::from_utf8_lossy(&a).into_owned());
        match text.strip_prefix("--") {
            Some(long) => set_long(&mut values, long, &mut next)?,
            None => set_letters(&mut values, &text[1..], &mut next)?,
        }
    }
    Ok((values, words, None))
}

fn set_long(values: &mut Values, text: &str, next: &mut dyn FnMut() -> Option<String>) -> Result<(), String> {
    if text.starts_with('-') || text.starts_with('=') {
        return Err(format!("bad flag syntax: --{text}"));
    }
    let (name, given) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value.to_string())),
        None => (text, None),
    };
    let flag = *values.find(name).ok_or_else(|| format!("unknown flag: --{name}"))?;
    let value = match given {
        Some(value) => value,
        None if flag.kind == Kind::Bool => "true".to_string(),
        None => next().ok_or_else(|| format!("flag needs an argument: --{name}"))?,
    };
    set(values, &flag, &value)
}

fn set_letters(values: &mut Values, text: &str, next: &mut dyn FnMut() -> Option<String>) -> Result<(), String> {
    let mut rest = text;
    while let Some(letter) = rest.chars().next() {
        let all = rest;
        rest = &rest[letter.len_utf8()..];
        let unknown = || format!("unknown shorthand flag: '{letter}' in -{all}");
        let flag = *values.find_letter(letter).ok_or_else(unknown)?;
        if let Some(value) = rest.strip_prefix('=') {
            return set(values, &flag, value);
        }
        if flag.kind == Kind::Bool {
            set(values, &flag, "true")?;
        } else if !rest.is_empty() {
            return set(values, &flag, rest);
        } else {
            let value = next().ok_or_else(|| format!("flag needs an argument: '{letter}' in -{all}"))?;
            return set(values, &flag, &value);
        }
    }
    Ok(())
}

fn set(values: &mut Values, flag: &Flag, value: &str) -> Result<(), String> {
    values.set(flag.name, value).map_err(|why| {
        let name = match flag.letter {
            Some(letter) => format!("-{letter}, --{}", flag.name),
            None => format!("--{}", flag.name),
        };
        format!("invalid argument {} for \"{name}\" flag: {why}", go::quote(value.as_bytes()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::ROOT;

    fn args(text: &str) -> Vec<Vec<u8>> {
        text.split_whitespace().map(|a| a.as_bytes().to_vec()).collect()
    }

    fn called(text: &str) -> Result<Invocation, String> {
        let (path, rest) = find(&ROOT, args(text));
        Invocation::parse(path, rest).map_err(|(_, error)| error)
    }

    #[test]
    fn commands_are_found_among_flags() {
        let names = |text| find(&ROOT, args(text)).0.iter().map(|c| c.name()).collect::<Vec<_>>();
        assert_eq!(names("--endpoints a:1 get x"), ["etcdctl", "get"]);
        assert_eq!(names("--hex get x"), ["etcdctl", "get"]);
        assert_eq!(names("-w json lease --debug grant 5"), ["etcdctl", "lease", "grant"]);
        assert_eq!(names("compact 5"), ["etcdctl", "compaction"]);
        assert_eq!(names("l list"), ["etcdctl"]);
        assert_eq!(names("-- get"), ["etcdctl"]);
    }

    #[test]
    fn flags_stand_anywhere() {
        let get = called("get a --limit 5 b -w=json --prefix=false --hex").unwrap();
        assert_eq!(get.args, [b"a", b"b"]);
        assert_eq!((get.flags.int("limit"), get.flags.text("write-out")), (5, "json"));
        assert!(!get.flags.bool("prefix") && get.flags.bool("hex") && get.flags.changed("prefix"));
        let watch = called("watch a -- sh -c x").unwrap();
        assert_eq!((watch.args.len(), watch.dash), (4, Some(1)));
        assert_eq!(called("get --endpoints=a,b --endpoints c x").unwrap().flags.texts("endpoints"), ["a", "b", "c"]);
    }

    #[test]
    fn errors_are_cobras() {
        let error = |text| called(text).err().unwrap();
        assert_eq!(error("get --fly x"), "unknown flag: --fly");
        assert_eq!(error("lock a sh -c x"), "unknown shorthand flag: 'c' in -c");
        assert_eq!(error("get -w"), "flag needs an argument: 'w' in -w");
        assert_eq!(error("get --consistency"), "flag needs an argument: --consistency");
        assert_eq!(
            error("get --limit=x a"),
            "invalid argument \"x\" for \"--limit\" flag: strconv.ParseInt: parsing \"x\": invalid syntax"
        );
        assert_eq!(
            error("watch -i=x"),
            "invalid argument \"x\" for \"-i, --interactive\" flag: strconv.ParseBool: parsing \"x\": invalid syntax"
        );
    }
}
