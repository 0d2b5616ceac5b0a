//! Asking for a password on a terminal.

use crate::exit::Exit;
use std::io::{BufRead, Write};
use std::process::{Command, Stdio};

/// Asks with the terminal's echo off. Without a terminal it just reads a line.
pub(crate) fn password(question: &str) -> Result<String, Exit> {
    let mut err = std::io::stderr();
    write!(err, "{question}")?;
    err.flush()?;
    let silent = echo(false);
    let mut line = String::new();
    let read = std::io::stdin().lock().read_line(&mut line);
    if silent {
        echo(true);
    }
    writeln!(err)?;
    read?;
    Ok(line.trim_end_matches(['\r', '\n']).to_string())
}

/// Turns the terminal's echo on or off; false if stdin is no terminal.
fn echo(on: bool) -> bool {
    let mode = if on { "echo" } else { "-echo" };
    let stty = Command::new("stty").arg(mode).stdout(Stdio::null()).stderr(Stdio::null()).status();
    stty.is_ok_and(|status| status.success())
}
