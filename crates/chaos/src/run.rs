//! All rounds of a run.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use cetera_bench::rng::Rng;
use cetera_check::Limits;
use cetera_check::history::Outcome;
use tokio::task::LocalSet;

use crate::kind::Kind;
use crate::round::{self, Round};
use crate::world::World;

/// Violations shown of a round; the rest is in its dump.
const SHOWN: usize = 5;
/// Characters shown of each.
const SHOWN_CHARS: usize = 6_000;
/// How long the general search of one round may take.
const SEARCH_BUDGET: Duration = Duration::from_secs(20);

/// What to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long.
    pub duration: Duration,
    /// Of each round's load and faults; none: the seed picks.
    pub round: Option<Duration>,
    /// Of every choice made here; what the servers and the machine make of it differs from run to run.
    pub seed: u64,
    /// Members.
    pub members: usize,
    /// The program.
    pub binary: PathBuf,
    /// Where data goes.
    pub dir: PathBuf,
    /// Only these kinds of faults, all of them in each round; none: the seed picks.
    pub faults: Vec<Kind>,
}

/// Sums over all rounds.
#[derive(Debug, Default)]
struct Totals {
    rounds: u64,
    invalid: u64,
    calls: u64,
    answered: u64,
    refused: u64,
    unknown: u64,
    watchers: u64,
    told: u64,
    undecided: u64,
    starts: u64,
    leaders: u64,
    recovered: Duration,
    equal: u64,
    states_equal: u64,
    faults: BTreeMap<Kind, u64>,
    notes: BTreeMap<String, u64>,
    left_out: Vec<&'static str>,
    spared: bool,
    violations: Vec<String>,
    kept: Vec<PathBuf>,
    checking: Duration,
}

/// Runs it.
///
/// # Errors
/// The violations, in words, and where histories and data are; or why it could not run.
pub fn run(options: &Options) -> Result<String, String> {
    let begun = Instant::now();
    // Before there is any thread.
    let world = Rc::new(World::enter(options.members)?);
    for missing in &world.missing {
        println!("*** {missing} ***");
    }
    let dir = options.dir.join(format!("chaos-{}", std::process::id()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
    let mut totals = Totals::default();
    let ended = LocalSet::new().block_on(&runtime, async {
        tokio::select! {
            ended = rounds(options, &world, &dir, &mut totals) => ended,
            _ = tokio::signal::ctrl_c() => Err("interrupted".to_owned()),
        }
    });
    // What is left of clients must not wait for anything.
    runtime.shutdown_timeout(Duration::from_secs(2));
    if totals.kept.is_empty() {
        // A directory that cannot be removed is no violation.
        let _ = std::fs::remove_dir_all(&dir);
    }
    let summary = totals.summary(options, begun.elapsed());
    ended.map_err(|what| format!("{what}\n{summary}"))?;
    if totals.violations.is_empty() { Ok(summary) } else { Err(totals.explain(&summary)) }
}

async fn rounds(options: &Options, world: &Rc<World>, dir: &Path, totals: &mut Totals) -> Result<(), String> {
    let end = Instant::now() + options.duration;
    let mut rng = Rng::new(options.seed);
    while Instant::now() < end || totals.rounds == 0 {
        let number = totals.rounds + 1;
        let left = end.saturating_duration_since(Instant::now()).as_secs().max(5);
        let seconds = options.round.map_or_else(|| rng.within(15, 41), |round| round.as_secs());
        let plan = round::Plan {
            binary: options.binary.clone(),
            dir: round::dir_of(dir, number),
            members: options.members,
            duration: Duration::from_secs(seconds.min(left)),
            seed: rng.next_u64(),
            faults: options.faults.clone(),
        };
        let round = round::live(&plan, world).await.map_err(|what| format!("round {number}: {what}"))?;
        totals.take(number, &plan, round)?;
    }
    Ok(())
}

impl Totals {
    /// Judges a round and adds it.
    fn take(&mut self, number: u64, plan: &round::Plan, round: Round) -> Result<(), String> {
        let begun = Instant::now();
        let usual = Limits::default();
        let limits = Limits {
            faults_end_us: round.faults_end_us,
            clock_slack_us: usual.clock_slack_us + round.clock_slack_us,
            clock_drift_ppm: round.clock_drift_ppm,
            budget: SEARCH_BUDGET,
            ..usual
        };
        let judged = cetera_check::check(&round.history, &limits);
        let took = begun.elapsed();
        self.checking += took;
        self.rounds += 1;
        self.invalid += u64::from(!round.valid);
        self.answered += round.answered;
        self.starts += round.starts;
        self.leaders += round.leaders;
        if let Some(ending) = round.ending {
            self.recovered = self.recovered.max(ending.recovered);
            self.equal += 1;
            self.states_equal += u64::from(ending.states_compared);
        }
        let calls = &round.history.calls;
        self.calls += calls.len() as u64;
        self.refused += calls.iter().filter(|call| matches!(call.outcome, Outcome::Refused(_))).count() as u64;
        self.unknown += calls.iter().filter(|call| matches!(call.outcome, Outcome::Unknown(_))).count() as u64;
        self.watchers += round.history.watchers.len() as u64;
        self.told += round.history.watchers.iter().map(|watcher| watcher.told.len() as u64).sum::<u64>();
        for (kind, count) in &round.faults {
            *self.faults.entry(*kind).or_default() += count;
        }
        if self.rounds == 1 {
            self.spared = round.stage.spares();
            self.left_out = round.stage.left_out().into_iter().map(Kind::name).collect();
        }
        for (note, count) in &round.notes {
            *self.notes.entry(note.clone()).or_default() += count;
        }
        let mut wrong: Vec<String> = round.findings.clone();
        match judged {
            Ok(summary) => self.undecided += summary.undecided,
            Err(violations) => wrong.extend(violations.iter().map(ToString::to_string)),
        }
        let faults: Vec<String> = round.faults.iter().map(|(kind, count)| format!("{count} {}", kind.name())).collect();
        println!(
            "round {number} (seed {}): {} s, {} calls, {} answered, {} watchers; {}; {}; checked in {} ms: {}",
            plan.seed,
            plan.duration.as_secs(),
            calls.len(),
            round.answered,
            round.history.watchers.len(),
            round.shape,
            faults.join(", "),
            took.as_millis(),
            match (wrong.is_empty(), round.valid) {
                (false, _) => "VIOLATION",
                (true, true) => "clean",
                (true, false) => "INVALID, too little traffic",
            }
        );
        if wrong.is_empty() {
            // A directory that cannot be removed is no violation.
            let _ = std::fs::remove_dir_all(&plan.dir);
            return Ok(());
        }
        round.keep_disks().map_err(|error| format!("{}: {error}", plan.dir.display()))?;
        let dump = plan.dir.join("history.txt");
        let written = std::fs::File::create(&dump)
            .and_then(|file| cetera_check::dump(&round.history, &limits, &mut std::io::BufWriter::new(file)));
        written.map_err(|error| format!("{}: {error}", dump.display()))?;
        self.kept.push(plan.dir.clone());
        self.violations.extend(wrong.into_iter().map(|what| format!("round {number} (seed {}): {what}", plan.seed)));
        Ok(())
    }

    fn summary(&self, options: &Options, took: Duration) -> String {
        let mut text = format!(
            "chaos: {} rounds of {} in {:.0} s, seed {}, {} member(s): {}\n",
            self.rounds,
            options.binary.display(),
            took.as_secs_f64(),
            options.seed,
            options.members,
            match self.violations.len() {
                0 => "no violation".to_owned(),
                count => format!("{count} violations"),
            }
        );
        let faults: Vec<String> = self.faults.iter().map(|(kind, count)| format!("{count} {}", kind.name())).collect();
        let total: u64 = self.faults.values().sum();
        let _ = writeln!(text, "faults: {total} ({}); {} starts", faults.join(", "), self.starts);
        let _ = writeln!(
            text,
            "leaders: {}; after the last fault of a round all members served and took writes within {} ms",
            self.leaders,
            self.recovered.as_millis()
        );
        if options.members > 1 {
            let _ = writeln!(
                text,
                "equal on all members: HashKV after {} rounds, the hash of the state after {}",
                self.equal, self.states_equal
            );
        }
        let _ = writeln!(
            text,
            "calls: {}, of them {} answered, {} refused, {} unknown; {} undecided",
            self.calls, self.answered, self.refused, self.unknown, self.undecided
        );
        if !self.left_out.is_empty() {
            let _ = writeln!(
                text,
                "NOT DONE, for want of rights, of `nft`, or of a server built with fault hooks: {}",
                self.left_out.join(", ")
            );
        }
        if self.spared {
            text += "NOT ASKED, for etcd 3.5 is known to fail at it: transactions that read at a revision\n";
        }
        for (note, count) in &self.notes {
            let _ = writeln!(text, "members that {note}: {count}");
        }
        let _ = writeln!(text, "watchers: {}, told {} things", self.watchers, self.told);
        let _ = write!(
            text,
            "rounds with too little traffic: {}; checking took {:.1} s",
            self.invalid,
            self.checking.as_secs_f64()
        );
        text
    }

    fn explain(&self, summary: &str) -> String {
        let mut text = String::new();
        for what in self.violations.iter().take(SHOWN) {
            let _ = writeln!(text, "VIOLATION {}", what.chars().take(SHOWN_CHARS).collect::<String>());
        }
        for dir in &self.kept {
            let _ = writeln!(text, "history and data are kept in {}", dir.display());
        }
        text + summary
    }
}
