//! Whole clusters from a seed; see `docs/internals/testing.md`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use cetera_plant::Bug;
use cetera_server::log::{self, Format, Level};
use cetera_sim::evidence::{self, SOURCE, Total};
use cetera_sim::shrink::shrink;
use cetera_sim::{FaultKind, Plan, Report, run};

const HELP: &str = "\
sim [--seed N | --first A --count N] [--members 1..5]
  --trace            the readable trace of each run, to standard output
  --twice            every seed twice: both runs must be the same
  --without KINDS    leave out kinds of faults (a,b,c)
  --clients N        so many clients at most
  --plant NAME       put a bug in; success is that it is found (a build with --features plants)
  --shrink           look for the least that still fails
  --threads N        threads (default: one per core)
  --minutes M        as many new seeds as fit, of 1, 3 and 5 members in turn (or of --members)
  --evidence FILE    where evidence adds up (default: target/sim-evidence.jsonl); with --minutes only, unless given
";

/// Seeds of one batch of a soak.
const SOAK_BATCH: u64 = 100;

#[derive(Debug, Default)]
struct Args {
    first: u64,
    count: u64,
    members: Option<usize>,
    trace: bool,
    twice: bool,
    shrink: bool,
    without: Vec<FaultKind>,
    clients: Option<usize>,
    plant: Option<Bug>,
    threads: usize,
    minutes: Option<u64>,
    evidence: Option<PathBuf>,
}

impl Args {
    fn parse() -> Result<Self, String> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let mut this = Self { count: 1, threads, ..Self::default() };
        let mut args = std::env::args().skip(1);
        while let Some(flag) = args.next() {
            match flag.as_str() {
                "--trace" => this.trace = true,
                "--twice" => this.twice = true,
                "--shrink" => this.shrink = true,
                _ => {
                    let value = args.next().ok_or_else(|| format!("{flag} wants a value\n\n{HELP}"))?;
                    this.set(&flag, &value)?;
                }
            }
        }
        if this.members.is_some_and(|members| !(1..=5).contains(&members)) {
            return Err("--members is 1 to 5".to_owned());
        }
        Ok(this)
    }

    fn set(&mut self, flag: &str, value: &str) -> Result<(), String> {
        let number = || value.parse::<u64>().map_err(|_| format!("{flag} {value}: not a number"));
        match flag {
            "--seed" => (self.first, self.count) = (number()?, 1),
            "--first" => self.first = number()?,
            "--count" => self.count = number()?,
            "--members" => self.members = Some(number()? as usize),
            "--clients" => self.clients = Some(number()? as usize),
            "--threads" => self.threads = number()? as usize,
            "--minutes" => self.minutes = Some(number()?),
            "--evidence" => self.evidence = Some(value.into()),
            "--plant" => self.plant = Some(Bug::from_name(value).ok_or_else(|| format!("no bug is called {value}"))?),
            "--without" => {
                for name in value.split(',') {
                    let kind = FaultKind::from_name(name);
                    self.without.push(kind.ok_or_else(|| format!("no fault is called {name}"))?);
                }
            }
            _ => return Err(format!("unknown argument {flag}\n\n{HELP}")),
        }
        Ok(())
    }

    fn plan(&self, seed: u64, members: usize) -> Plan {
        Plan {
            plant: self.plant,
            without: self.without.clone(),
            clients: self.clients,
            trace: self.trace,
            ..Plan::new(seed, members)
        }
    }
}

#[allow(clippy::print_stdout)]
fn say(text: &str) {
    println!("{text}");
}

fn main() -> ExitCode {
    // What members would log of the faults they meet is in the trace.
    let quiet = Level::parse("fatal").unwrap_or(Level::Error);
    if let Err(error) = log::configure(quiet, Format::Json, &["stderr".to_owned()]) {
        say(&error.to_string());
    }
    let outcome = Args::parse().and_then(|args| match (args.minutes, args.shrink) {
        (Some(minutes), _) => soak(&args, minutes),
        (None, true) => smaller(&args),
        (None, false) => seeds(&args),
    });
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(&error);
            ExitCode::FAILURE
        }
    }
}

/// Some seeds of one size.
fn seeds(args: &Args) -> Result<bool, String> {
    let members = args.members.unwrap_or(3);
    let begun = Instant::now();
    let total = batch(args, members, args.first, args.count, None);
    let usual = args.plant.is_none() && args.without.is_empty() && args.clients.is_none();
    if let Some(file) = args.evidence.as_deref().filter(|_| usual) {
        evidence::write_down(file, members, args.first, &total).map_err(|error| error.to_string())?;
    }
    summary(&total, members, begun.elapsed());
    Ok(match args.plant {
        None => total.violations.is_empty(),
        Some(bug) => {
            let found = total.violations.keys().min();
            say(&match found {
                Some(seed) => format!("{} was found: seed {seed}", bug.name()),
                None => format!("{} was not found in {} seeds", bug.name(), total.seeds),
            });
            found.is_some()
        }
    })
}

/// Runs a batch; tells of every failure, and of single runs.
fn batch(args: &Args, members: usize, first: u64, count: u64, until: Option<Instant>) -> Total {
    let each = |report: &Report| {
        for line in &report.text {
            say(line);
        }
        if args.twice {
            let again = run(&args.plan(report.seed, members));
            if again.trace_hash != report.trace_hash {
                say(&format!(
                    "seed {}: trace {:016x}, and then {:016x}",
                    report.seed, report.trace_hash, again.trace_hash
                ));
                // A run that cannot be repeated is no evidence at all.
                std::process::exit(2);
            }
        }
        if count == 1 {
            single(report);
        }
        if !report.is_clean() {
            failure(args, report);
        }
        (report.is_clean() || args.plant.is_none()) && until.is_none_or(|until| Instant::now() < until)
    };
    evidence::sweep(first..first.saturating_add(count), args.threads, &|seed| args.plan(seed, members), &each)
}

fn failure(args: &Args, report: &Report) {
    say(&format!("seed {} with {} members:", report.seed, report.members));
    for violation in &report.violations {
        say(&format!("  {violation}"));
    }
    if args.trace || args.plant.is_some() {
        return;
    }
    // The same run again, this time to be read.
    let again = run(&Plan { trace: true, ..args.plan(report.seed, report.members) });
    let file = Path::new("target").join(format!("sim-{}-{}.trace", report.members, report.seed));
    let mut text = again.text.join("\n");
    for violation in &again.violations {
        text.push_str(&format!("\nVIOLATION {violation}"));
    }
    match fs::create_dir_all("target").and_then(|()| fs::write(&file, text)) {
        Ok(()) => say(&format!("  trace: {}", file.display())),
        Err(error) => say(&format!("  the trace could not be written to {}: {error}", file.display())),
    }
}

fn single(report: &Report) {
    say(&format!("seed {} with {} members: trace {:016x}", report.seed, report.members, report.trace_hash));
    say(&format!(
        "  {:.1} s simulated, {} things happened, {} calls ({} unknown, {} refused), {} watchers told of {} changes",
        report.simulated_us as f64 / 1e6,
        report.trace_events,
        report.operations,
        report.unknown,
        report.refused,
        report.watchers,
        report.watch_events
    ));
    let faults: Vec<String> = report.faults.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
    say(&format!("  {} faults, {} over others: {}", report.fault_count(), report.overlaps, faults.join(", ")));
    say(&format!(
        "  {} starts, {} leaders; all served again {:.2} s after the last fault ({:.1} election timeouts)",
        report.starts,
        report.leaders,
        report.recovered_us as f64 / 1e6,
        report.recovered_elections as f64 / 1e3
    ));
}

fn summary(total: &Total, members: usize, took: Duration) {
    let faults: Vec<String> = total.faults.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
    say(&format!(
        "{} seeds with {members} members, {} failed; source {SOURCE}, {:.1} s, {:.0} simulated seconds per second",
        total.seeds,
        total.violations.len(),
        took.as_secs_f64(),
        total.simulated_us as f64 / 1e6 / took.as_secs_f64()
    ));
    say(&format!(
        "  {} s simulated, {} calls ({} unknown), {} revisions in order, {} changes told, {} questions undecided",
        total.simulated_us / 1_000_000,
        total.operations,
        total.unknown,
        total.revisions,
        total.watch_events,
        total.undecided
    ));
    say(&format!(
        "  {} faults, {} over others: {}; {} starts, {} comparisons of entries and states, slowest recovery {:.1} election timeouts",
        total.fault_count(),
        total.overlaps,
        faults.join(", "),
        total.starts,
        total.compared,
        total.recovered_elections as f64 / 1e3
    ));
}

/// What time there is.
fn soak(args: &Args, minutes: u64) -> Result<bool, String> {
    if args.plant.is_some() || !args.without.is_empty() || args.clients.is_some() {
        return Err("a soak is of the usual runs: no --plant, --without or --clients".to_owned());
    }
    let until = Instant::now() + Duration::from_secs(60 * minutes);
    let file = args.evidence.clone().unwrap_or_else(|| Path::new("target").join("sim-evidence.jsonl"));
    let sizes = args.members.map_or(vec![1, 3, 5], |members| vec![members]);
    let mut clean = true;
    'time: loop {
        for &members in &sizes {
            if Instant::now() >= until {
                break 'time;
            }
            let first = evidence::read(&file).next_seed.get(&members).copied().unwrap_or(args.first);
            let begun = Instant::now();
            let total = batch(args, members, first, SOAK_BATCH, Some(until));
            evidence::write_down(&file, members, first, &total).map_err(|error| error.to_string())?;
            summary(&total, members, begun.elapsed());
            clean &= total.violations.is_empty();
        }
    }
    say(&format!("evidence for source {SOURCE} in {}:", file.display()));
    for (members, sum) in evidence::read(&file).sums {
        say(&format!(
            "  {members} members: {} seeds, {} failed, {} faults, {} calls, {} s simulated",
            sum.seeds, sum.violations, sum.faults, sum.operations, sum.simulated_s
        ));
    }
    Ok(clean)
}

/// The least of a seed that fails.
fn smaller(args: &Args) -> Result<bool, String> {
    let members = args.members.unwrap_or(3);
    let Some(shrunk) = shrink(&Plan { trace: false, ..args.plan(args.first, members) }) else {
        say("the seed does not fail");
        return Ok(args.plant.is_none());
    };
    let kinds: Vec<&str> = shrunk.kinds.iter().map(|kind| kind.name()).collect();
    let without: Vec<&str> = shrunk.plan.without.iter().map(|kind| kind.name()).collect();
    say(&format!("after {} runs the seed still fails with {}:", shrunk.runs, kinds.join(", ")));
    for violation in &shrunk.report.violations {
        say(&format!("  {violation}"));
    }
    let mut again = format!("--seed {} --members {members}", args.first);
    if !without.is_empty() {
        again.push_str(&format!(" --without {}", without.join(",")));
    }
    if let Some(clients) = shrunk.plan.clients {
        again.push_str(&format!(" --clients {clients}"));
    }
    say(&format!("again: cargo xtask sim {again} --trace"));
    Ok(false)
}
