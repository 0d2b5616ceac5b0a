//! Running other programs.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What a chore comes to; the text is for a person.
pub(crate) type Result<T = ()> = std::result::Result<T, String>;

/// The project's root.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the project").to_owned()
}

/// Prints to standard output.
pub(crate) fn say(text: &str) {
    // A closed pipe is the reader's choice.
    let _ = std::io::stdout().write_all(text.as_bytes());
}

/// Announces and runs a program in `dir`; an error if it fails.
pub(crate) fn run(command: &mut Command) -> Result {
    let shown: Vec<_> = command.get_args().map(|arg| arg.to_string_lossy().into_owned()).collect();
    say(&format!("$ {} {}\n", command.get_program().to_string_lossy(), shown.join(" ")));
    let status = command.status().map_err(|error| format!("{}: {error}", command.get_program().to_string_lossy()))?;
    if status.success() { Ok(()) } else { Err(format!("`{}` failed: {status}", shown.join(" "))) }
}

/// Runs cargo at the root.
pub(crate) fn cargo(args: &[&str], rest: &[String]) -> Result {
    run(Command::new(env!("CARGO")).current_dir(root()).args(args).args(rest))
}

/// A program's standard output.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let out = command.stderr(Stdio::inherit()).output().map_err(|error| error.to_string())?;
    if !out.status.success() {
        return Err(format!("`{}` failed: {}", command.get_program().to_string_lossy(), out.status));
    }
    String::from_utf8(out.stdout).map_err(|error| error.to_string())
}

/// Builds the server for release and tells where it is.
pub(crate) fn server() -> Result<String> {
    cargo(&["build", "--release", "--locked", "--quiet", "-p", "cetera"], &[])?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
    Ok(target.join("release").join("cetera").to_string_lossy().into_owned())
}

/// Whether a program can be started here.
pub(crate) fn has(program: &str, argument: &str) -> bool {
    let quiet = Command::new(program).arg(argument).stdout(Stdio::null()).stderr(Stdio::null()).status();
    quiet.is_ok_and(|status| status.success())
}
