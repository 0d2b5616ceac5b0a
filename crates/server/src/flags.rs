//! Command-line flags and environment variables by the rules of Go's `flag` package and of etcd (contract 2.1).
//!
//! Parsing knows names, kinds and defaults ([`table`]); what the values mean together is `config`'s business.

mod duration;
pub mod table;

use std::ffi::OsString;
use std::fmt::Write as _;

pub use duration::{go_duration, parse_duration};

/// What a value must look like.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Kind {
    /// Anything.
    Text,
    /// `true` or `false` in Go's spellings; needs `=` on the command line.
    Bool,
    /// Signed 64 bit.
    Int,
    /// Unsigned 64 bit.
    Uint,
    /// Go's notation.
    Duration,
    /// Comma-separated URLs.
    Urls,
    /// Comma-separated words.
    List,
    /// One of these.
    Choice(&'static [&'static str]),
}

/// What a flag does in this version.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Effect {
    /// What it says.
    Works,
    /// Accepted; a value other than the default is noted in the log as having no effect yet.
    NotYet,
    /// Accepted in silence: it tunes a mechanism that does not exist here or belongs to a flag that is off.
    Inherent,
    /// The program does not start when it is given a value other than the default: ignoring it would be dangerous.
    Refused,
    /// A name of long ago, ignored with a warning.
    Ignored,
}

/// One flag.
#[derive(Debug)]
pub struct Flag {
    /// Name without dashes.
    pub name: &'static str,
    /// Shape of its value.
    pub kind: Kind,
    /// Default in canonical form.
    pub default: &'static str,
    /// What it does here.
    pub effect: Effect,
    /// One line for `--help`.
    pub help: &'static str,
}

/// The values of all flags, in canonical form.
#[derive(Clone, Debug)]
pub struct Values {
    values: Vec<Value>,
}

#[derive(Clone, Debug)]
struct Value {
    flag: &'static Flag,
    text: String,
    set: bool,
}

/// What stops the program before it starts.
#[derive(Debug, Eq, PartialEq)]
pub enum Stop {
    /// `--help`.
    Help,
    /// `--version`.
    Version,
    /// A flag is unknown or its value malformed: this line, then the usage, on stderr, exit 2.
    Usage(String),
    /// Anything else: exit 1.
    Failure(String),
    /// Flag and environment variable for the same name (F-2): exit 1.
    Shadowed(String),
}

/// Something to be logged once the log is set up.
#[derive(Debug, Eq, PartialEq)]
pub enum Note {
    /// This environment variable gave this flag its value.
    Used(String, String),
    /// This environment variable means nothing.
    Unrecognized(String),
    /// `ETCD_VERSION` is set, which cannot set a flag.
    Version(String),
    /// This old flag was given.
    Ignored(&'static str),
    /// This flag differs from its default and has no effect yet.
    NoEffect(&'static str, String),
}

impl Values {
    /// All defaults.
    pub fn defaults() -> Values {
        let all = table::SECTIONS.iter().flat_map(|section| section.flags).chain(table::LEGACY);
        Values { values: all.map(|flag| Value { flag, text: flag.default.to_string(), set: false }).collect() }
    }

    fn slot(&mut self, name: &str) -> Option<&mut Value> {
        self.values.iter_mut().find(|value| value.flag.name == name)
    }

    fn value(&self, name: &str) -> &Value {
        self.values.iter().find(|value| value.flag.name == name).expect("the program asks only for flags of its table")
    }

    /// The value of a flag in canonical form.
    pub fn text(&self, name: &str) -> &str {
        &self.value(name).text
    }

    /// Whether the flag was given, by command line or environment.
    pub fn is_set(&self, name: &str) -> bool {
        self.value(name).set
    }

    /// A boolean flag.
    pub fn bool(&self, name: &str) -> bool {
        self.text(name) == "true"
    }

    /// A numeric flag; its shape was checked when it was set.
    pub fn number<N: std::str::FromStr>(&self, name: &str) -> Option<N> {
        self.text(name).parse().ok()
    }

    /// A duration flag.
    pub fn duration(&self, name: &str) -> std::time::Duration {
        parse_duration(self.text(name)).unwrap_or_default()
    }

    /// A list flag; empty for an empty value.
    pub fn list(&self, name: &str) -> Vec<String> {
        let text = self.text(name);
        if text.is_empty() { Vec::new() } else { text.split(',').map(str::to_string).collect() }
    }

    /// All flags with their values, in table order, for the start-up line.
    pub fn iter(&self) -> impl Iterator<Item = (&'static Flag, &str)> {
        self.values.iter().map(|value| (value.flag, value.text.as_str()))
    }

    /// Reads the command line (without the program's name).
    ///
    /// # Errors
    /// As [`Stop`] says.
    pub fn parse(&mut self, arguments: &[OsString], notes: &mut Vec<Note>) -> Result<(), Stop> {
        let mut rest = arguments.iter().map(|argument| argument.to_string_lossy().into_owned());
        while let Some(argument) = rest.next() {
            let Some(named) = argument.strip_prefix('-').filter(|named| !named.is_empty()) else {
                return Err(Stop::Failure(format!("{argument:?} is not a valid flag")));
            };
            let named = named.strip_prefix('-').unwrap_or(named);
            if named.is_empty() {
                // A bare `--` ends the flags; what follows is positional.
                return match rest.next() {
                    Some(positional) => Err(Stop::Failure(format!("{positional:?} is not a valid flag"))),
                    None => Ok(()),
                };
            }
            if named.starts_with('-') || named.starts_with('=') {
                return Err(Stop::Usage(format!("bad flag syntax: {argument}")));
            }
            let (name, inline) = match named.split_once('=') {
                Some((name, value)) => (name, Some(value.to_string())),
                None => (named, None),
            };
            let Some(slot) = self.slot(name) else {
                return Err(match name {
                    "h" | "help" => Stop::Help,
                    _ => Stop::Usage(format!("flag provided but not defined: -{name}")),
                });
            };
            if slot.flag.effect == Effect::Ignored {
                notes.push(Note::Ignored(slot.flag.name));
                continue;
            }
            let text = match (inline, slot.flag.kind) {
                (Some(text), _) => text,
                (None, Kind::Bool) => "true".to_string(),
                (None, _) => rest.next().ok_or_else(|| Stop::Usage(format!("flag needs an argument: -{name}")))?,
            };
            slot.text = canonical(slot.flag.kind, &text).map_err(|why| {
                Stop::Usage(match slot.flag.kind {
                    Kind::Bool => format!("invalid boolean value {text:?} for -{name}: {why}"),
                    _ => format!("invalid value {text:?} for flag -{name}: {why}"),
                })
            })?;
            slot.set = true;
        }
        Ok(())
    }

    /// Reads `ETCD_*` variables for flags the command line left alone (F-2).
    ///
    /// # Errors
    /// A malformed value, or a name that the command line set too.
    pub fn parse_environment(
        &mut self,
        variables: impl Iterator<Item = (String, String)>,
        notes: &mut Vec<Note>,
    ) -> Result<(), Stop> {
        let mut variables: Vec<_> = variables.filter(|(name, _)| name.starts_with("ETCD_")).collect();
        variables.sort();
        let mut failure = None;
        for (variable, text) in variables {
            if variable == "ETCD_VERSION" {
                if !text.is_empty() {
                    notes.push(Note::Version(text));
                }
                continue;
            }
            let Some(slot) = self.values.iter_mut().find(|value| variable_of(value.flag.name) == variable) else {
                notes.push(Note::Unrecognized(format!("{variable}={text}")));
                continue;
            };
            if slot.set {
                return Err(Stop::Shadowed(variable));
            }
            if text.is_empty() {
                notes.push(Note::Unrecognized(format!("{variable}=")));
                continue;
            }
            if slot.flag.effect == Effect::Ignored {
                notes.push(Note::Ignored(slot.flag.name));
                continue;
            }
            match canonical(slot.flag.kind, &text) {
                Ok(canonical) => {
                    slot.text = canonical;
                    slot.set = true;
                    notes.push(Note::Used(variable, text));
                }
                Err(why) => failure = Some(Stop::Failure(format!("invalid value {text:?} for {variable}: {why}"))),
            }
        }
        failure.map_or(Ok(()), Err)
    }

    /// Refuses what must not be ignored and notes what has no effect.
    ///
    /// # Errors
    /// A flag of effect [`Effect::Refused`] differs from its default.
    pub fn check_effects(&self, notes: &mut Vec<Note>) -> Result<(), Stop> {
        for value in &self.values {
            if value.text == value.flag.default {
                continue;
            }
            match value.flag.effect {
                Effect::Refused => {
                    return Err(Stop::Failure(format!(
                        "--{} is not supported by this version of cetera, and will not be ignored (given: {:?})",
                        value.flag.name, value.text
                    )));
                }
                Effect::NotYet => notes.push(Note::NoEffect(value.flag.name, value.text.clone())),
                Effect::Works | Effect::Inherent | Effect::Ignored => {}
            }
        }
        Ok(())
    }
}

/// The environment variable of a flag.
pub fn variable_of(name: &str) -> String {
    format!("ETCD_{}", name.to_ascii_uppercase().replace('-', "_"))
}

/// Checks a value's shape and gives it its one spelling, so that it can be compared with a default.
fn canonical(kind: Kind, text: &str) -> Result<String, String> {
    const MALFORMED: &str = "parse error";
    match kind {
        Kind::Text => Ok(text.to_string()),
        Kind::Bool => match text {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok("true".to_string()),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok("false".to_string()),
            _ => Err(MALFORMED.to_string()),
        },
        Kind::Int => text.parse::<i64>().map(|n| n.to_string()).map_err(|_| MALFORMED.to_string()),
        Kind::Uint => text.parse::<u64>().map(|n| n.to_string()).map_err(|_| MALFORMED.to_string()),
        Kind::Duration => parse_duration(text).map(go_duration).ok_or_else(|| MALFORMED.to_string()),
        Kind::Urls => {
            if text.is_empty() {
                return Ok(String::new());
            }
            let mut urls = Vec::new();
            for url in text.split(',') {
                urls.push(crate::config::Url::parse(url.trim())?.to_string());
            }
            urls.sort();
            urls.dedup();
            Ok(urls.join(","))
        }
        Kind::List => {
            let mut words: Vec<&str> = text.split(',').map(str::trim).collect();
            words.sort_unstable();
            words.dedup();
            Ok(words.join(","))
        }
        Kind::Choice(choices) if choices.contains(&text) => Ok(text.to_string()),
        Kind::Choice(choices) => Err(format!("must be one of {choices:?}")),
    }
}

/// What a usage error prints.
pub const USAGE: &str = "Usage:

  etcd [flags]
    Start a server.

  etcd --version
    Show the version.

  etcd -h | --help
    Show all flags.
";

/// What `--help` prints.
pub fn help() -> String {
    let mut out = String::new();
    for section in table::SECTIONS {
        let _ = write!(out, "\n{}:\n", section.title);
        for flag in section.flags {
            let state = match flag.effect {
                Effect::NotYet => " (no effect yet)",
                Effect::Refused => " (not supported yet)",
                Effect::Works | Effect::Inherent | Effect::Ignored => "",
            };
            let _ = write!(out, "  --{} '{}'\n    {}{state}\n", flag.name, flag.default, flag.help);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Values, Stop> {
        let mut values = Values::defaults();
        let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
        values.parse(&arguments, &mut Vec::new()).map(|()| values)
    }

    #[test]
    fn there_are_113_flags_with_canonical_defaults() {
        let flags: Vec<&Flag> = table::SECTIONS.iter().flat_map(|section| section.flags).collect();
        // One more than etcd's 113 would be our own invention.
        assert_eq!(flags.len(), 113);
        for flag in &flags {
            let shaped = canonical(flag.kind, flag.default);
            assert_eq!(shaped.as_deref(), Ok(flag.default), "{}", flag.name);
            assert_eq!(flags.iter().filter(|other| other.name == flag.name).count(), 1, "{}", flag.name);
        }
        assert_eq!(table::LEGACY.len(), 15);
    }

    #[test]
    fn go_syntax() {
        let values =
            parse(&["-name", "a", "--data-dir=/d", "--pre-vote", "--memory-mlock=T", "--snapshot=9"]).expect("valid");
        assert_eq!((values.text("name"), values.text("data-dir")), ("a", "/d"));
        assert!(values.bool("pre-vote") && values.bool("memory-mlock") && values.is_set("pre-vote"));
        let values = parse(&["--grpc-keepalive-min-time", "90s", "--"]).expect("valid");
        assert_eq!(values.text("grpc-keepalive-min-time"), "1m30s");
        for (arguments, stop) in [
            (&["--nope"][..], Stop::Usage("flag provided but not defined: -nope".into())),
            (&["---x"], Stop::Usage("bad flag syntax: ---x".into())),
            (&["--name"], Stop::Usage("flag needs an argument: -name".into())),
            (
                &["--heartbeat-interval=abc"],
                Stop::Usage("invalid value \"abc\" for flag -heartbeat-interval: parse error".into()),
            ),
            (&["--pre-vote=x"], Stop::Usage("invalid boolean value \"x\" for -pre-vote: parse error".into())),
            (&["foo"], Stop::Failure("\"foo\" is not a valid flag".into())),
            (&["--pre-vote", "false"], Stop::Failure("\"false\" is not a valid flag".into())),
            (&["--help"], Stop::Help),
        ] {
            assert_eq!(parse(arguments).expect_err("must stop"), stop, "{arguments:?}");
        }
    }

    #[test]
    fn environment_fills_gaps_and_never_shadows() {
        let mut values = parse(&["--name=a"]).expect("valid");
        let mut notes = Vec::new();
        let pair = |name: &str, text: &str| (name.to_string(), text.to_string());
        values
            .parse_environment(
                [pair("ETCD_DATA_DIR", "/d"), pair("ETCD_ODD", "1"), pair("HOME", "/")].into_iter(),
                &mut notes,
            )
            .expect("valid");
        assert_eq!(values.text("data-dir"), "/d");
        assert_eq!(notes, [Note::Used("ETCD_DATA_DIR".into(), "/d".into()), Note::Unrecognized("ETCD_ODD=1".into())]);
        let stop = values.parse_environment([pair("ETCD_NAME", "b")].into_iter(), &mut notes);
        assert_eq!(stop, Err(Stop::Shadowed("ETCD_NAME".into())));
        let stop = values.parse_environment([pair("ETCD_HEARTBEAT_INTERVAL", "abc")].into_iter(), &mut notes);
        let text = "invalid value \"abc\" for ETCD_HEARTBEAT_INTERVAL: parse error";
        assert_eq!(stop, Err(Stop::Failure(text.into())));
    }

    #[test]
    fn what_protects_is_refused_and_what_tunes_is_noted() {
        let mut notes = Vec::new();
        let values = parse(&["--client-cert-auth=false", "--cert-file=", "--bcrypt-cost=11"]).expect("valid");
        values.check_effects(&mut notes).expect("defaults are fine");
        assert_eq!(notes, [Note::NoEffect("bcrypt-cost", "11".into())]);
        for dangerous in ["--client-cert-auth", "--trusted-ca-file=x", "--auth-token=jwt", "--wal-dir=x"] {
            assert!(parse(&[dangerous]).expect("valid").check_effects(&mut notes).is_err(), "{dangerous}");
        }
    }
}
