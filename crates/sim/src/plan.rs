//! What a run is to be, and what it was. Everything else follows from the seed.

use std::collections::BTreeMap;

use cetera_node::watch::HubOptions;
use cetera_plant::Bug;

use crate::dice::{Dice, Stream};

/// A run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Of everything.
    pub seed: u64,
    /// Members, 1 to 5.
    pub members: usize,
    /// A bug to be found; needs a build with the feature `plants`.
    pub plant: Option<Bug>,
    /// Simulated seconds at least.
    pub seconds: u64,
    /// Client operations at least.
    pub operations: u64,
    /// Kinds of faults left out, to find which ones a failure needs.
    pub without: Vec<FaultKind>,
    /// Clients at most, for the same purpose.
    pub clients: Option<usize>,
    /// Whether a readable trace is wanted.
    pub trace: bool,
}

impl Plan {
    /// The plan of a seed: 60 seconds and 500 operations at least.
    pub fn new(seed: u64, members: usize) -> Self {
        let (seconds, operations) = (60, 500);
        Self { seed, members, plant: None, seconds, operations, without: Vec::new(), clients: None, trace: false }
    }
}

macro_rules! faults {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal,)+) => {
        /// A kind of fault.
        #[derive(Copy, Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub enum FaultKind {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl FaultKind {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// Its name on a command line and in reports.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }

            /// The kind of this name.
            pub fn from_name(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|kind| kind.name() == name)
            }
        }
    };
}

faults! {
    /// A process is killed; its disk keeps what was written.
    Kill = "kill",
    /// A machine loses power; unsynced writes are lost, kept or torn.
    PowerLoss = "power-loss",
    /// A machine loses power at a disk operation, of a start too.
    PowerLossAtOp = "power-loss-at-op",
    /// All machines lose power at once.
    Blackout = "blackout",
    /// A process is stopped; everything for it waits, and comes at once when it goes on.
    Pause = "pause",
    /// Members are cut into two sides.
    Split = "split",
    /// One member is cut from all others.
    Isolate = "isolate",
    /// Some directed links are cut.
    OneWay = "one-way",
    /// Messages are lost.
    Loss = "loss",
    /// Messages are late.
    Delay = "delay",
    /// Messages overtake each other.
    Reorder = "reorder",
    /// Messages come twice.
    Duplicate = "duplicate",
    /// A member's clock runs fast or slow.
    ClockPace = "clock-pace",
    /// A member's clock jumps forward.
    ClockJump = "clock-jump",
    /// Syncs are slow.
    SlowDisk = "slow-disk",
    /// Syncs stand still.
    StalledDisk = "stalled-disk",
    /// An operation of the disk fails.
    DiskError = "disk-error",
    /// The disk has no room.
    FullDisk = "full-disk",
    /// A machine's disk is emptied: its member must not come back, and is replaced.
    DiskLost = "disk-lost",
    /// Stored bytes have changed when a member starts.
    BitRot = "bit-rot",
    /// Connections of clients to a member break.
    ConnectionsBreak = "connections-break",
    /// Connections of clients to a member stand still.
    ConnectionsStall = "connections-stall",
    /// A client takes nothing and says nothing.
    SlowClient = "slow-client",
}

impl FaultKind {
    /// Whether it can happen to a group of this size.
    pub fn fits(self, members: usize) -> bool {
        use FaultKind::*;
        match self {
            Split | Isolate | OneWay | Loss | Delay | Reorder | Duplicate => members > 1,
            // A member alone that finds damage is right to stay down, and nothing is left to look at; its disk is
            // damaged at the end of the run.
            BitRot | DiskLost => members > 2,
            _ => true,
        }
    }
}

/// Of a thousand runs, those whose members change.
const MOVES_PER_MILLE: u64 = 500;

/// How the group of a run is configured, drawn from its seed.
#[derive(Clone, Debug)]
pub struct Options {
    /// Founding members.
    pub members: usize,
    /// Machines: those of the founders, and spare ones.
    pub machines: usize,
    /// Milliseconds between ticks.
    pub tick_ms: u64,
    /// Milliseconds without a leader before an election.
    pub election_ms: u64,
    /// Whether members ask before an election.
    pub pre_vote: bool,
    /// Length of the write-ahead log's segments.
    pub wal_segment_bytes: u64,
    /// Bytes of the write-ahead log at most.
    pub wal_max_bytes: u64,
    /// Bytes of it that are kept for members that lag, if not the usual share: with few they are sent snapshots.
    pub laggard_log_bytes: Option<u64>,
    /// Applied entries, and their bytes, that are kept in memory for members that lag.
    pub keep: (usize, usize),
    /// Length of the revision log's segments.
    pub log_segment_bytes: u64,
    /// Log bytes between checkpoints.
    pub checkpoint_log_bytes: u64,
    /// Front threads of a member.
    pub fronts: usize,
    /// The watch hubs.
    pub hub: HubOptions,
    /// Unsent bytes of a watch stream that make it full.
    pub stream_budget_bytes: usize,
    /// Shortest and longest time of a sync, mostly near the shortest.
    pub sync_us: (u64, u64),
    /// Shortest and longest time of a job, mostly near the shortest.
    pub job_us: (u64, u64),
    /// Delays between members.
    pub delay_us: (u64, u64),
    /// Delays between members and clients.
    pub client_delay_us: (u64, u64),
    /// Of a thousand pieces of a snapshot, those at which its line breaks.
    pub line_breaks_per_mille: u64,
    /// Shortest and longest time of a start.
    pub start_us: (u64, u64),
}

impl Options {
    /// The options of a plan.
    pub fn draw(plan: &Plan) -> Self {
        let dice = &mut Dice::new(plan.seed, Stream::Options);
        let tick_ms = dice.pick(&[20, 50, 100, 100, 100]);
        let far = dice.chance(200);
        let spare = dice.pick(&[2, 3, 4]);
        let moves = dice.chance(MOVES_PER_MILLE);
        // A small log, or much that is kept for members that lag: a log that cannot hold what is kept is full for good.
        // Where next to nothing is kept, whoever was cut off for a moment is sent a snapshot.
        let (keep, wal_max_bytes, laggard_log_bytes) = dice.pick(&[
            ((5, 1 << 10), 2 << 20, Some(0)),
            ((5, 1 << 10), 2 << 20, Some(4 << 10)),
            ((30, 8 << 10), 2 << 20, Some(16 << 10)),
            ((30, 8 << 10), 2 << 20, None),
            ((200, 64 << 10), 4 << 20, None),
            ((200, 64 << 10), 1 << 30, None),
            ((5_000, 16 << 20), 1 << 30, None),
        ]);
        Self {
            members: plan.members,
            machines: plan.members + if moves { spare } else { 0 },
            tick_ms,
            election_ms: tick_ms * dice.pick(&[5, 10, 10, 10, 20]),
            pre_vote: dice.chance(900),
            wal_segment_bytes: dice.pick(&[8 << 10, 16 << 10, 64 << 10, 256 << 10]),
            wal_max_bytes,
            laggard_log_bytes,
            keep,
            log_segment_bytes: dice.pick(&[8 << 10, 32 << 10, 128 << 10]),
            checkpoint_log_bytes: dice.pick(&[8 << 10, 16 << 10, 32 << 10, 128 << 10]),
            fronts: dice.pick(&[1, 1, 2, 3]),
            hub: HubOptions {
                ring_bytes: dice.pick(&[1 << 10, 16 << 10, 1 << 20]),
                ring_batches: dice.pick(&[2, 16, 1_000]),
                slice_bytes: dice.pick(&[256, 4 << 10, 64 << 10]),
                response_bytes: dice.pick(&[512, 4 << 10, 64 << 10]),
                stream_turn_bytes: dice.pick(&[512, 16 << 10, 1 << 20]),
                fragment_bytes: dice.pick(&[600, 4 << 10, 2 << 20]),
                notify_ms: dice.pick(&[500, 2_000, 10_000]),
                seed: dice.bits(),
            },
            stream_budget_bytes: dice.pick(&[512, 4 << 10, 1 << 20]),
            sync_us: dice.pick(&[(20, 200), (100, 5_000), (500, 30_000)]),
            job_us: dice.pick(&[(100, 5_000), (1_000, 200_000), (10_000, 3_000_000)]),
            delay_us: if far { (10_000, 25_000) } else { dice.pick(&[(50, 200), (100, 1_000), (200, 3_000)]) },
            client_delay_us: dice.pick(&[(20, 100), (50, 1_000), (1_000, 20_000)]),
            line_breaks_per_mille: dice.pick(&[0, 0, 10, 50]),
            start_us: dice.pick(&[(1_000, 50_000), (50_000, 500_000)]),
        }
    }
}

/// What a run was.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// Members.
    pub members: usize,
    /// The same for the same seed and build.
    pub trace_hash: u64,
    /// Things that were delivered.
    pub trace_events: u64,
    /// Simulated time.
    pub simulated_us: u64,
    /// Calls of clients.
    pub operations: u64,
    /// Those of unknown outcome.
    pub unknown: u64,
    /// Those that were refused.
    pub refused: u64,
    /// Watchers created.
    pub watchers: u64,
    /// Changes that watchers were told of.
    pub watch_events: u64,
    /// Revisions whose order the checkers rebuilt.
    pub revisions: u64,
    /// Questions that the checkers' time did not suffice for.
    pub undecided: u64,
    /// Faults by kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// Faults that began while another one lasted.
    pub overlaps: u64,
    /// Starts of members.
    pub starts: u64,
    /// Members that found damage and stayed down.
    pub refused_starts: u64,
    /// Terms that had a leader.
    pub leaders: u64,
    /// Entries whose equality over the members was checked.
    pub entries: u64,
    /// Comparisons of state hashes at equal applied index.
    pub hashes: u64,
    /// From the end of the faults until every living member had served a write and a linearizable read.
    pub recovered_us: u64,
    /// The same in election timeouts of this run, in thousandths.
    pub recovered_elections: u64,
    /// What must not have happened.
    pub violations: Vec<String>,
    /// The readable trace, if the plan asked for it.
    pub text: Vec<String>,
}

impl Report {
    /// Whether nothing was violated.
    pub fn is_clean(&self) -> bool {
        self.violations.is_empty()
    }

    /// Faults in all.
    pub fn fault_count(&self) -> u64 {
        self.faults.values().sum()
    }
}
