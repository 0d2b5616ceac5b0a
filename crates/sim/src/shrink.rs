//! From a seed that fails to the least of it that fails.

use crate::plan::{FaultKind, Plan, Report};
use crate::run::run;

/// What a failure needs.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// The plan that still fails.
    pub plan: Plan,
    /// What it was.
    pub report: Report,
    /// Kinds of faults that remain.
    pub kinds: Vec<FaultKind>,
    /// Runs that it took.
    pub runs: u64,
}

/// Leaves out kinds of faults, then clients, as long as the run fails; `None` if it does not fail at all.
///
/// Leaving something out makes another run, so this is a search, not a proof: what remains is needed as far as single
/// steps can tell.
pub fn shrink(plan: &Plan) -> Option<Shrunk> {
    let mut best = run(plan);
    let mut runs = 1;
    if best.is_clean() {
        return None;
    }
    let mut plan = plan.clone();
    let mut attempt = |candidate: Plan, plan: &mut Plan, best: &mut Report| {
        runs += 1;
        let report = run(&candidate);
        let fails = !report.is_clean();
        if fails {
            *plan = candidate;
            *best = report;
        }
        fails
    };
    let mut again = true;
    while again {
        again = false;
        for kind in happened(&best) {
            let mut candidate = plan.clone();
            candidate.without.push(kind);
            again |= attempt(candidate, &mut plan, &mut best);
        }
    }
    let mut clients = plan.clients.unwrap_or(CLIENTS_MAX);
    while clients > 1 {
        let fewer = Plan { clients: Some(clients / 2), ..plan.clone() };
        if attempt(fewer, &mut plan, &mut best) {
            clients /= 2;
            continue;
        }
        let fewer = Plan { clients: Some(clients - 1), ..plan.clone() };
        if !attempt(fewer, &mut plan, &mut best) {
            break;
        }
        clients -= 1;
    }
    let kinds = happened(&best);
    Some(Shrunk { plan, report: best, kinds, runs })
}

/// More clients than a run has.
const CLIENTS_MAX: usize = 64;

fn happened(report: &Report) -> Vec<FaultKind> {
    report.faults.keys().filter_map(|name| FaultKind::from_name(name)).collect()
}
