//! Flags and their values.

use crate::go;
use std::collections::BTreeMap;
use std::time::Duration;

/// What a flag takes.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    /// Nothing, or `=true`, `=false`.
    Bool,
    /// A signed number.
    Int,
    /// Text.
    Text,
    /// Texts between commas; may be given more than once.
    Texts,
    /// `5s`.
    Duration,
}

/// A flag.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Flag {
    pub(crate) name: &'static str,
    pub(crate) letter: Option<char>,
    pub(crate) kind: Kind,
    /// As it would be written.
    pub(crate) default: &'static str,
    pub(crate) usage: &'static str,
    /// Left out of help.
    pub(crate) hidden: bool,
}

impl Flag {
    const fn new(name: &'static str, kind: Kind, default: &'static str, usage: &'static str) -> Flag {
        Flag { name, letter: None, kind, default, usage, hidden: false }
    }
    pub(crate) const fn bool(name: &'static str, usage: &'static str) -> Flag {
        Flag::new(name, Kind::Bool, "false", usage)
    }
    pub(crate) const fn int(name: &'static str, default: &'static str, usage: &'static str) -> Flag {
        Flag::new(name, Kind::Int, default, usage)
    }
    pub(crate) const fn text(name: &'static str, default: &'static str, usage: &'static str) -> Flag {
        Flag::new(name, Kind::Text, default, usage)
    }
    pub(crate) const fn texts(name: &'static str, default: &'static str, usage: &'static str) -> Flag {
        Flag::new(name, Kind::Texts, default, usage)
    }
    pub(crate) const fn duration(name: &'static str, default: &'static str, usage: &'static str) -> Flag {
        Flag::new(name, Kind::Duration, default, usage)
    }
    pub(crate) const fn default(mut self, default: &'static str) -> Flag {
        self.default = default;
        self
    }
    pub(crate) const fn letter(mut self, letter: char) -> Flag {
        self.letter = Some(letter);
        self
    }
    pub(crate) const fn hidden(mut self) -> Flag {
        self.hidden = true;
        self
    }

    /// Why `text` is no value for this flag.
    fn check(&self, text: &str) -> Result<(), String> {
        match self.kind {
            Kind::Bool => go::parse_bool(text).map(drop),
            Kind::Int => go::parse_int(text, 0).map(drop),
            Kind::Duration => go::parse_duration(text).map(drop),
            Kind::Text | Kind::Texts => Ok(()),
        }
    }
}

/// The flags a command knows, with their values.
#[derive(Clone, Debug)]
pub(crate) struct Values {
    values: BTreeMap<&'static str, Value>,
}

#[derive(Clone, Debug)]
struct Value {
    flag: Flag,
    text: String,
    changed: bool,
}

impl Values {
    pub(crate) fn new<'f>(flags: impl IntoIterator<Item = &'f Flag>) -> Values {
        let value = |flag: &Flag| Value { flag: *flag, text: flag.default.to_string(), changed: false };
        Values { values: flags.into_iter().map(|f| (f.name, value(f))).collect() }
    }

    /// Gives a flag its value, or says what is wrong with it.
    pub(crate) fn set(&mut self, name: &str, text: &str) -> Result<(), String> {
        let value = self.values.get_mut(name).expect("only flags that were found are set");
        value.flag.check(text)?;
        if value.flag.kind == Kind::Texts && value.changed && !value.text.is_empty() {
            value.text.push(',');
            value.text.push_str(text);
        } else {
            value.text = text.to_string();
        }
        value.changed = true;
        Ok(())
    }

    pub(crate) fn find(&self, name: &str) -> Option<&Flag> {
        self.values.get(name).map(|v| &v.flag)
    }

    pub(crate) fn find_letter(&self, letter: char) -> Option<&Flag> {
        self.values.values().map(|v| &v.flag).find(|f| f.letter == Some(letter))
    }

    /// Given on the command line.
    pub(crate) fn changed(&self, name: &str) -> bool {
        self.values.get(name).is_some_and(|v| v.changed)
    }

    pub(crate) fn text(&self, name: &str) -> &str {
        &self.values.get(name).unwrap_or_else(|| panic!("flag {name} is declared")).text
    }

    pub(crate) fn bool(&self, name: &str) -> bool {
        go::parse_bool(self.text(name)).expect("checked when set")
    }

    pub(crate) fn int(&self, name: &str) -> i64 {
        go::parse_int(self.text(name), 0).expect("checked when set")
    }

    pub(crate) fn duration(&self, name: &str) -> Duration {
        go::parse_duration(self.text(name)).expect("checked when set")
    }

    pub(crate) fn texts(&self, name: &str) -> Vec<String> {
        let text = self.text(name);
        if text.is_empty() { Vec::new() } else { text.split(',').map(str::to_string).collect() }
    }
}
