//! What the gate found, as Markdown.

use std::fmt::Write as _;
use std::path::Path;

use crate::machine;

/// One figure with its limit.
#[derive(Clone, Debug)]
pub struct Row {
    /// What was measured.
    pub what: String,
    /// The figure.
    pub found: String,
    /// Its limit, in words.
    pub limit: String,
    /// Whether it is kept; None without a limit.
    pub kept: Option<bool>,
}

impl Row {
    /// A figure with a limit.
    pub fn new(what: impl Into<String>, found: impl Into<String>, limit: impl Into<String>, kept: bool) -> Row {
        Row { what: what.into(), found: found.into(), limit: limit.into(), kept: Some(kept) }
    }

    /// A figure to know.
    pub fn note(what: impl Into<String>, found: impl Into<String>) -> Row {
        Row { what: what.into(), found: found.into(), limit: String::new(), kept: None }
    }
}

/// The page.
pub fn page(gib: u64, rows: &[Row]) -> String {
    let mut text = format!(
        "# The store's gate\n\nWritten by `cargo xtask gate --gib {gib}` on {}: a whole server with {gib} GiB of live data \
         in 1 KiB values, clients over loopback, every value that is read is checked.\n\n{}\n\n\
         | what | found | limit | |\n| --- | --- | --- | --- |\n",
        machine::today(),
        machine::describe()
    );
    for Row { what, found, limit, kept } in rows {
        let kept = match kept {
            None => "",
            Some(true) => "kept",
            Some(false) => "**not kept**",
        };
        let _ = writeln!(text, "| {what} | {found} | {limit} | {kept} |");
    }
    text
}

/// Writes the page.
///
/// # Errors
/// It cannot be written.
pub fn write(path: &Path, page: &str) -> Result<(), String> {
    let said = |error: std::io::Error| format!("{}: {error}", path.display());
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(said)?;
    }
    std::fs::write(path, page).map_err(said)
}
