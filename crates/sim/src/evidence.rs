//! Many runs: on all cores, added up, written down.
//!
//! Evidence is one line of JSON per batch of seeds, appended to a file and named after the source that was exercised:
//! it adds up over runs of the program for as long as the source is the same.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::ops::Range;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use crate::plan::{Plan, Report};
use crate::run::run;

/// The source of this build.
pub const SOURCE: &str = env!("CETERA_SOURCE");

/// What many runs were.
#[derive(Clone, Debug, Default)]
pub struct Total {
    /// Runs.
    pub seeds: u64,
    /// Seeds with what they violated.
    pub violations: BTreeMap<u64, Vec<String>>,
    /// Simulated time.
    pub simulated_us: u64,
    /// Calls of clients.
    pub operations: u64,
    /// Those of unknown outcome.
    pub unknown: u64,
    /// Revisions whose order was checked.
    pub revisions: u64,
    /// Questions left open for lack of time.
    pub undecided: u64,
    /// Changes that watchers were told of.
    pub watch_events: u64,
    /// Starts of members.
    pub starts: u64,
    /// Faults by kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// Faults that began while another one lasted.
    pub overlaps: u64,
    /// Comparisons of states and of log entries.
    pub compared: u64,
    /// Longest time until all served again, in thousandths of an election timeout.
    pub recovered_elections: u64,
}

impl Total {
    /// One run more.
    pub fn add(&mut self, report: &Report) {
        self.seeds += 1;
        if !report.is_clean() {
            self.violations.insert(report.seed, report.violations.clone());
        }
        self.simulated_us += report.simulated_us;
        self.operations += report.operations;
        self.unknown += report.unknown;
        self.revisions += report.revisions;
        self.undecided += report.undecided;
        self.watch_events += report.watch_events;
        self.starts += report.starts;
        for (kind, count) in &report.faults {
            *self.faults.entry(kind).or_default() += count;
        }
        self.overlaps += report.overlaps;
        self.compared += report.entries + report.hashes;
        self.recovered_elections = self.recovered_elections.max(report.recovered_elections);
    }

    /// Faults in all.
    pub fn fault_count(&self) -> u64 {
        self.faults.values().sum()
    }

    fn line(&self, members: usize, first: u64) -> String {
        let mut line = format!(
            "{{\"source\":\"{SOURCE}\",\"members\":{members},\"first\":{first},\"seeds\":{},\"violations\":{},\
             \"simulated_s\":{},\"operations\":{},\"unknown\":{},\"revisions\":{},\"undecided\":{},\"watch_events\":{},\
             \"starts\":{},\"overlaps\":{},\"compared\":{},\"faults\":{{",
            self.seeds,
            self.violations.len(),
            self.simulated_us / 1_000_000,
            self.operations,
            self.unknown,
            self.revisions,
            self.undecided,
            self.watch_events,
            self.starts,
            self.overlaps,
            self.compared
        );
        for (at, (kind, count)) in self.faults.iter().enumerate() {
            let _ = write!(line, "{}\"{kind}\":{count}", if at == 0 { "" } else { "," });
        }
        line.push_str("}}\n");
        line
    }
}

/// Runs seeds on so many threads. `plan` makes the plan of a seed; `each` is told of every run, in no order; it may end
/// the whole by returning false.
pub fn sweep(
    seeds: Range<u64>,
    threads: usize,
    plan: &(dyn Fn(u64) -> Plan + Sync),
    each: &(dyn Fn(&Report) -> bool + Sync),
) -> Total {
    let next = AtomicU64::new(seeds.start);
    let total = Mutex::new(Total::default());
    thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    let report = run(&plan(seed));
                    if !each(&report) {
                        next.store(seeds.end, Ordering::Relaxed);
                    }
                    total.lock().unwrap_or_else(std::sync::PoisonError::into_inner).add(&report);
                }
            });
        }
    });
    total.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Writes a batch down.
///
/// # Errors
/// The file cannot be written.
pub fn write_down(file: &Path, members: usize, first: u64, total: &Total) -> io::Result<()> {
    if let Some(dir) = file.parent().filter(|dir| !dir.as_os_str().is_empty()) {
        fs::create_dir_all(dir)?;
    }
    let mut file = OpenOptions::new().create(true).append(true).open(file)?;
    file.write_all(total.line(members, first).as_bytes())
}

/// What is written down of this source, by members: seeds, violations, simulated seconds, operations, faults; and the
/// first seed that was never run for a size, whatever the source.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// By members.
    pub sums: BTreeMap<usize, Sum>,
    /// By members.
    pub next_seed: BTreeMap<usize, u64>,
}

/// What is written down for one size of a group.
#[derive(Copy, Clone, Debug, Default)]
pub struct Sum {
    /// Runs.
    pub seeds: u64,
    /// Runs that violated something.
    pub violations: u64,
    /// Simulated seconds.
    pub simulated_s: u64,
    /// Calls of clients.
    pub operations: u64,
    /// Faults.
    pub faults: u64,
}

/// Reads what was written down; nothing, if there is no file.
pub fn read(file: &Path) -> Ledger {
    let mut ledger = Ledger::default();
    for line in fs::read_to_string(file).unwrap_or_default().lines() {
        let number = |key: &str| number(line, key).unwrap_or_default();
        let members = number("members") as usize;
        let next = ledger.next_seed.entry(members).or_default();
        *next = (*next).max(number("first") + number("seeds"));
        if line.contains(&format!("\"source\":\"{SOURCE}\"")) {
            let sum = ledger.sums.entry(members).or_default();
            sum.seeds += number("seeds");
            sum.violations += number("violations");
            sum.simulated_s += number("simulated_s");
            sum.operations += number("operations");
            let faults = line.split_once("\"faults\":{").map_or("", |(_, faults)| faults);
            let counts = faults.split(',').filter_map(|pair| pair.split_once(':'));
            let counts = counts.filter_map(|(_, count)| count.trim_end_matches('}').parse::<u64>().ok());
            sum.faults += counts.sum::<u64>();
        }
    }
    ledger
}

fn number(line: &str, key: &str) -> Option<u64> {
    let (_, rest) = line.split_once(&format!("\"{key}\":"))?;
    let end = rest.find(|character: char| !character.is_ascii_digit())?;
    rest[..end].parse().ok()
}
