//! All rounds of a crash run.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::ledger::Ledger;
use super::life::{self, Memory, Plan};
use crate::files::FilesSeen;
use crate::process::Launch;
use crate::rng::Rng;

/// Environment variables of our server that make its files small, so that much happens to them. Bytes.
const SMALL: [(&str, u64); 3] = [
    ("CETERA_TEST_WAL_SEGMENT_BYTES", 1 << 20),
    ("CETERA_TEST_LOG_SEGMENT_BYTES", 1 << 20),
    ("CETERA_TEST_CHECKPOINT_BYTES", 2 << 20),
];

/// What to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Loads and kills.
    pub rounds: u64,
    /// Of every choice made here; what the server and the machine make of it differs from run to run.
    pub seed: u64,
    /// The program.
    pub server: PathBuf,
    /// Where its data goes.
    pub dir: PathBuf,
}

/// What happened.
#[derive(Copy, Clone, Debug, Default)]
struct Happened {
    kills: u64,
    kills_in_start: u64,
    quiescent: u64,
    small: u64,
    slowest_start: Duration,
}

/// Runs it. The data directory is removed unless there is a violation.
///
/// # Errors
/// The violation, in words, and where the data is.
pub fn run(options: &Options) -> Result<String, String> {
    let begun = Instant::now();
    let dir = options.dir.join(format!("crash-{}", std::process::id()));
    let mut launch = Launch::new(&options.server, &dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    launch.flags = vec!["--quota-backend-bytes".to_owned(), (8u64 << 30).to_string()];
    let mut happened = Happened::default();
    let mut rng = Rng::new(options.seed);
    let memory =
        rounds(options, &mut launch, &mut happened, &mut rng).map_err(|what| explain(&what, options, &dir, &launch))?;
    // A directory that cannot be removed is no violation.
    let _ = std::fs::remove_dir_all(&dir);
    Ok(summary(options, &happened, &memory, begun.elapsed()))
}

fn rounds(options: &Options, launch: &mut Launch, happened: &mut Happened, rng: &mut Rng) -> Result<Memory, String> {
    let start = Duration::from_millis(100);
    let mut memory = Memory { ledger: Ledger::default(), next_id: 0, killed: None, start, files: FilesSeen::default() };
    for round in 1..=options.rounds {
        let small = rng.chance(80);
        launch.env =
            if small { SMALL.map(|(name, bytes)| (name.to_owned(), bytes.to_string())).to_vec() } else { vec![] };
        happened.small += u64::from(small);
        if rng.chance(25) {
            let kills = rng.within(1, 4);
            kill_in_start(launch, memory.start, kills, rng).map_err(|what| format!("round {round}: {what}"))?;
            happened.kills_in_start += kills;
        }
        let plan = Plan {
            load: Duration::from_millis(if rng.chance(5) { rng.within(2_500, 3_500) } else { rng.within(100, 800) }),
            quiescent: rng.chance(25),
            check_only: false,
        };
        happened.quiescent += u64::from(plan.quiescent);
        memory = life::live(launch, memory, plan, rng).map_err(|what| format!("round {round}: {what}"))?;
        happened.kills += 1;
        happened.slowest_start = happened.slowest_start.max(memory.start);
        if round % 20 == 0 {
            let tally = memory.ledger.tally;
            println!(
                "round {round}: revision {}, {} acknowledged writes checked",
                memory.ledger.settled, tally.acknowledged
            );
        }
    }
    let last = Plan { load: Duration::ZERO, quiescent: true, check_only: true };
    life::live(launch, memory, last, rng).map_err(|what| format!("after the last round: {what}"))
}

/// Starts it and kills it before, or just after, it serves.
fn kill_in_start(launch: &Launch, start: Duration, kills: u64, rng: &mut Rng) -> Result<(), String> {
    for _ in 0..kills {
        let server = launch.start().map_err(|error| format!("the server cannot be started: {error}"))?;
        // Not a wait for anything: the moment of the kill is the point.
        std::thread::sleep(Duration::from_micros(rng.within(0, start.as_micros() as u64 * 5 / 4 + 1)));
        life::kill(server)?;
    }
    Ok(())
}

fn explain(what: &str, options: &Options, dir: &Path, launch: &Launch) -> String {
    let shown: String = what.chars().take(4_000).collect();
    format!(
        "VIOLATION (seed {}): {shown}\nthe data is kept in {}\nlast lines of the server:\n{}",
        options.seed,
        dir.display(),
        launch.last_lines()
    )
}

fn summary(options: &Options, happened: &Happened, memory: &Memory, took: Duration) -> String {
    let Memory { ledger, files, .. } = memory;
    let tally = ledger.tally;
    format!(
        "crash: {} rounds in {:.0} s, seed {}: no violation
kills: {} under load ({} of them after writes had stopped), {} during a start; slowest start {} ms
writes: {} acknowledged and all found; of those in flight at a kill {} had happened, {} had not
compared: {} revisions, {} events of watchers, {} reads; {} revisions were ends of leases; last revision {}, compacted {}
files ({} rounds with small ones): {} write-ahead segments begun, {} checkpoints, {} log segments written, {} rewritten away",
        options.rounds,
        took.as_secs_f64(),
        options.seed,
        happened.kills,
        happened.quiescent,
        happened.kills_in_start,
        happened.slowest_start.as_millis(),
        tally.acknowledged,
        tally.unknown_happened,
        tally.unknown_absent,
        tally.revisions,
        tally.watched,
        tally.reads,
        tally.lease_ends,
        ledger.settled,
        ledger.floor,
        happened.small,
        files.wal_segments,
        files.checkpoints,
        files.log_segments,
        files.log_segments_gone,
    )
}
