//! Who takes part in a run.

use crate::actors::{self, Options};
use crate::client::Client;
use crate::dice::Dice;
use crate::plan::Plan;

/// The clients of a usual run.
pub(crate) fn usual(plan: &Plan, dice: &mut Dice) -> Vec<Box<dyn Client>> {
    actors::swarm(dice.bits(), &Options { members: plan.members as u32, ..Options::default() })
}
