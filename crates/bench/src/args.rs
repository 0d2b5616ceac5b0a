//! Command lines, `--name value` only, and how a program ends.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;

/// What was given.
#[derive(Debug)]
pub struct Args(BTreeMap<String, String>);

impl Args {
    /// Reads the process's arguments; only `names` may be given.
    ///
    /// # Errors
    /// An unknown name, or a name without a value.
    pub fn read(names: &[&str]) -> Result<Args, String> {
        Args::parse(std::env::args().skip(1), names)
    }

    fn parse(mut given: impl Iterator<Item = String>, names: &[&str]) -> Result<Args, String> {
        let mut found = BTreeMap::new();
        while let Some(arg) = given.next() {
            let name = arg.strip_prefix("--").filter(|name| names.contains(name));
            let name = name.ok_or_else(|| format!("unknown argument {arg:?}; known: --{}", names.join(" --")))?;
            let value = given.next().ok_or_else(|| format!("--{name} needs a value"))?;
            found.insert(name.to_owned(), value);
        }
        Ok(Args(found))
    }

    /// The text given.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The value given, or `default`.
    ///
    /// # Errors
    /// A value of another kind.
    pub fn get<T: FromStr>(&self, name: &str, default: T) -> Result<T, String> {
        match self.text(name) {
            None => Ok(default),
            Some(text) => text.parse().map_err(|_| format!("--{name}: {text:?} does not fit")),
        }
    }

    /// The server to run: `--server`, else the one built beside this program.
    ///
    /// # Errors
    /// There is no such file.
    pub fn server(&self) -> Result<PathBuf, String> {
        self.program("server", "cetera")
    }

    /// The program to run: the path given as `name`, else `default`, built beside this program.
    ///
    /// # Errors
    /// There is no such file.
    pub fn program(&self, name: &str, default: &str) -> Result<PathBuf, String> {
        let path = self.text(name).map_or_else(|| beside().join(default), PathBuf::from);
        if path.is_file() { Ok(path) } else { Err(format!("there is no server at {}", path.display())) }
    }

    /// Where data directories go: `--dir`, else a place under the build's target directory.
    pub fn dir(&self) -> PathBuf {
        match self.text("dir") {
            Some(dir) => PathBuf::from(dir),
            None => beside().parent().map_or_else(|| PathBuf::from("target"), PathBuf::from).join("bench-data"),
        }
    }
}

/// The end of a program: prints what came of it.
pub fn told(outcome: Result<String, String>) -> ExitCode {
    match outcome {
        Ok(outcome) => {
            println!("{outcome}");
            ExitCode::SUCCESS
        }
        Err(what) => {
            eprintln!("{what}");
            ExitCode::FAILURE
        }
    }
}

/// The directory of this program.
fn beside() -> PathBuf {
    let program = std::env::current_exe().ok();
    program.and_then(|path| path.parent().map(PathBuf::from)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(given: &[&str]) -> Result<Args, String> {
        Args::parse(given.iter().map(|s| s.to_string()), &["rounds", "server"])
    }

    #[test]
    fn names_with_values() {
        let args = parse(&["--rounds", "7"]).unwrap();
        assert_eq!(args.get("rounds", 1).unwrap(), 7);
        assert_eq!(parse(&[]).unwrap().get("rounds", 1).unwrap(), 1);
        assert!(parse(&["--rounds", "x"]).unwrap().get("rounds", 1).is_err());
        assert!(parse(&["--rounds"]).unwrap_err().contains("needs a value"));
        assert!(parse(&["--round", "7"]).unwrap_err().contains("unknown"));
    }
}
