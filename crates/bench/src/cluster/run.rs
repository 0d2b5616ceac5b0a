//! The comparison of three members, from its options to its table.

use super::cell::{CELLS, Extent};
use super::group::Group;
use super::report;
use crate::side_by_side::run::{Options, alone, flags, measure};

/// Runs it, and writes raw data and table unless only some cells were asked for. Returns the table.
///
/// # Errors
/// A cell that could not be measured, twice in a row.
pub fn run(options: &Options, extent: &Extent) -> Result<String, String> {
    let dir = options.dir.join(format!("cluster-{}", std::process::id()));
    let measured = measure(CELLS, options, |cell, program| {
        alone(&dir, async {
            let group = Group::start(program, &dir, &flags()).await?;
            cell.run(group, options.window, extent).await
        })
    })?;
    let table = report::table(&measured, options, extent);
    measured.keep(options, "cluster-", "three members of ", &table)?;
    Ok(table)
}
