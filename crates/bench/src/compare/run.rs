//! The comparison of one member, from its options to its table.

use super::cell::CELLS;
use super::report;
use crate::process::Launch;
use crate::side_by_side::run::{Options, alone, flags, measure};

/// Runs it, and writes raw data and table unless only some cells were asked for. Returns the table.
///
/// # Errors
/// A cell that could not be measured, twice in a row.
pub fn run(options: &Options) -> Result<String, String> {
    let dir = options.dir.join(format!("compare-{}", std::process::id()));
    let measured = measure(CELLS, options, |cell, program| {
        let mut launch = Launch::new(program, &dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        launch.flags = flags();
        alone(&dir, cell.run(launch, options.window))
    })?;
    let table = report::table(&measured, options);
    measured.keep(options, "", "", &table)?;
    Ok(table)
}
