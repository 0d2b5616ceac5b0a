//! What clients saw, and whether a server that keeps etcd's promises could have shown it to them.
//!
//! A [`history::History`] is what the clients of one run recorded, in the simulator or against real processes. The
//! checkers know nothing of the server: they judge by the history alone.

mod answer;
mod client;
mod compaction;
mod dump;
mod general;
pub mod generate;
pub mod history;
pub mod keys;
mod lease;
pub mod linear;
mod lock;
mod model;
mod replay;
mod text;
mod time;
mod watch;

pub use dump::{LoadError, dump, load};

use std::time::Duration;

use history::{History, Outcome};

/// A promise that was broken.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Violation {
    /// The checker that found it.
    pub checker: &'static str,
    /// What is wrong, for people: the calls and watchers with their times, requests and answers.
    pub text: String,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.checker, self.text)
    }
}

/// What the checkers must know of the run.
#[derive(Clone, Debug)]
pub struct Limits {
    /// How long after its time a lease may live on once faults are over: expiry is noticed late, a new leader gives every
    /// lease its whole time again and an election timeout, and the revocation has to be agreed on.
    pub lease_grace_us: u64,
    /// When the last fault ended; 0 if there was none. The end of time: faults to the end.
    pub faults_end_us: u64,
    /// How fast a server's clock may run, in parts per million above the history's clock.
    pub clock_drift_ppm: u64,
    /// How much before its time a lease may end for the coarseness of clocks.
    pub clock_slack_us: u64,
    /// For the general search, counted in steps of ten microseconds, so that the verdict is the same on every machine;
    /// what it leaves open is counted as undecided. Zero: no general search.
    pub budget: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            lease_grace_us: 10_000_000,
            faults_end_us: 0,
            clock_drift_ppm: 0,
            clock_slack_us: 2_000,
            budget: Duration::from_secs(1),
        }
    }
}

/// What was checked.
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub struct Summary {
    /// Calls.
    pub calls: u64,
    /// Calls of unknown outcome.
    pub unknown: u64,
    /// Changes that watchers were told of.
    pub events: u64,
    /// Watchers.
    pub watchers: u64,
    /// Revisions whose order was rebuilt.
    pub revisions: u64,
    /// Questions that the budget did not suffice for.
    pub undecided: u64,
}

/// What a step of the general search takes out of its budget.
const STEP_US: u64 = 10;

/// Violations as they are found.
#[derive(Debug, Default)]
struct Report {
    violations: Vec<Violation>,
    undecided: u64,
    /// A refusal was found that only something nobody saw can explain.
    open: bool,
}

impl Report {
    fn add(&mut self, checker: &'static str, text: String) {
        self.violations.push(Violation { checker, text });
    }
}

/// Searches for any order at all, where nobody saw enough for the one order of all writes. `None`: undecided.
fn general(history: &History, limits: &Limits, report: &mut Report) -> Option<bool> {
    let most_steps = u64::try_from(limits.budget.as_micros()).unwrap_or(u64::MAX) / STEP_US;
    if history.calls.len() > general::MOST_CALLS || most_steps == 0 {
        return None;
    }
    match general::search(history, most_steps) {
        linear::Verdict::Legal(_) => Some(true),
        linear::Verdict::Undecided => None,
        linear::Verdict::Illegal { longest, stuck } => {
            let text =
                |calls: &[usize]| calls.iter().map(|call| format!("\n  {}", text::call(history, *call))).collect();
            let before: String = text(&longest[longest.len().saturating_sub(10)..]);
            let stuck: String = text(&stuck);
            report.add("linearizable", format!("no order of all calls; after{before}\n none of these fits:{stuck}"));
            Some(false)
        }
    }
}

/// Judges a history by all that etcd promises.
///
/// # Errors
/// The violations, first those of the order that the others build on.
pub fn check(history: &History, limits: &Limits) -> Result<Summary, Vec<Violation>> {
    let mut report = Report::default();
    let order = replay::replay(history, &mut report);
    client::check(history, &mut report);
    compaction::check(history, &mut report);
    let mut by_order = Report::default();
    watch::check(history, &order, &mut by_order);
    lease::check(history, &order, limits, &mut by_order);
    lock::check(history, &order, &mut by_order);
    if order.certain || by_order.violations.is_empty() {
        report.violations.append(&mut by_order.violations);
        report.undecided += by_order.undecided;
    } else if general(history, limits, &mut report) != Some(false) {
        // Another order of what nobody saw may please them: the search says nothing of watchers and of time.
        report.undecided += 1;
    }
    if report.open && report.violations.is_empty() && general(history, limits, &mut report).is_none() {
        report.undecided += 1;
    }
    if !report.violations.is_empty() {
        return Err(report.violations);
    }
    let events = history.watchers.iter().flat_map(|watcher| &watcher.told).map(|told| match &told.news {
        history::News::Events { events, .. } => events.len() as u64,
        _ => 0,
    });
    Ok(Summary {
        calls: history.calls.len() as u64,
        unknown: history.calls.iter().filter(|call| matches!(call.outcome, Outcome::Unknown(_))).count() as u64,
        events: events.sum(),
        watchers: history.watchers.len() as u64,
        revisions: (order.last - order.first) as u64,
        undecided: report.undecided,
    })
}

#[cfg(test)]
mod promises;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
