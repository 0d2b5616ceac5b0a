//! Random lives of a log on a disk that loses power, fails and restarts, against a model that is just a list.
//!
//! The model keeps the whole log after every batch. After each stop the log must equal one of these, none older than
//! the last whose sync returned. That covers lost, invented, reordered and stale entries and hard states at once.

use super::{
    tests::{entry, options},
    *,
};
use crate::vfs::{
    MemoryVfs,
    memory::{Fault, FaultError, Op, rng::Rng},
};

const DIR: &str = "/wal";

#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct Moment {
    entries: Vec<WalEntry>,
    state: Option<Bytes>,
}

impl Moment {
    fn apply(&self, batch: &WalBatch) -> Self {
        let mut next = self.clone();
        if let Some(first) = batch.entries.first() {
            next.entries.retain(|entry| entry.index < first.index);
            next.entries.extend(batch.entries.iter().cloned());
        }
        if batch.state.is_some() {
            next.state = batch.state.clone();
        }
        next
    }
}

struct Life {
    vfs: MemoryVfs,
    rng: Rng,
    term: u64,
    /// The durable checkpoint.
    after: u64,
    /// `moments[0]` and up to `synced` are durable; the last may include a batch whose append failed.
    moments: Vec<Moment>,
    synced: usize,
    lying: bool,
}

impl Life {
    fn new(seed: u64, lying: bool) -> Self {
        let vfs = MemoryVfs::new();
        vfs.create_dir_all(Path::new(DIR)).unwrap();
        vfs.sync_dir(Path::new("/")).unwrap();
        if lying {
            vfs.ignore_syncs();
        }
        Self { vfs, rng: Rng::new(seed), term: 1, after: 0, moments: vec![Moment::default()], synced: 0, lying }
    }

    /// Opens (or creates) the log and holds it against the model.
    fn open(&mut self) -> Result<Option<Wal>, String> {
        let vfs: Arc<dyn Vfs> = Arc::new(self.vfs.clone());
        let dir = Path::new(DIR);
        let opened = match Wal::exists(&*vfs, dir) {
            Ok(true) => Wal::open(vfs, dir, options(), self.after),
            Ok(false) if self.moments[self.synced..].contains(&Moment::default()) => {
                return match Wal::create(vfs, dir, options(), Bytes::from_static(b"meta")) {
                    Ok(wal) => {
                        self.settle(Moment::default());
                        Ok(Some(wal))
                    }
                    Err(error) => stopped(&error),
                };
            }
            Ok(false) => return Err("the log is gone".into()),
            Err(error) => Err(error),
        };
        let (wal, recovered) = match opened {
            Ok(opened) => opened,
            Err(error) => return stopped(&error),
        };
        if recovered.metadata != "meta" {
            return Err(format!("metadata is {:?}", recovered.metadata));
        }
        let found = Moment { entries: recovered.entries, state: recovered.state };
        let fits = |moment: &&Moment| {
            let above = moment.entries.iter().filter(|entry| entry.index > self.after);
            moment.state == found.state && above.eq(found.entries.iter())
        };
        let Some(moment) = self.moments[self.synced..].iter().rfind(fits).cloned() else {
            let shape = |m: &Moment| m.entries.iter().map(|e| (e.index, e.term)).collect::<Vec<_>>();
            return Err(format!(
                "found {:?} {:?}, which is no moment since the last sync {:?}",
                found.state,
                shape(&found),
                self.moments[self.synced..].iter().map(|m| (m.state.clone(), shape(m))).collect::<Vec<_>>()
            ));
        };
        // What is below the checkpoint is that of the log too, without a gap, up to the bounds.
        let below: Vec<_> = moment.entries.iter().filter(|entry| entry.index <= self.after).collect();
        let kept = &recovered.kept;
        if kept.len() > below.len() || !below[below.len() - kept.len()..].iter().copied().eq(kept) {
            return Err(format!("entries below the checkpoint at {} are wrong: {kept:?}", self.after));
        }
        let bytes: usize = kept.iter().map(|entry| entry.data.len()).sum();
        if kept.len() > options().keep_entries || (bytes > options().keep_bytes && kept.len() > 1) {
            return Err(format!("{} entries of {bytes} bytes are kept below the checkpoint", kept.len()));
        }
        self.settle(moment);
        let files = self.vfs.list(dir).map_err(|error| error.to_string())?;
        if files.len() != wal.segments.len() + wal.spares.len() || wal.spares.len() > MAX_SPARES {
            return Err(format!("files nobody needs were left: {files:?}"));
        }
        Ok(Some(wal))
    }

    fn settle(&mut self, moment: Moment) {
        self.moments = vec![moment];
        self.synced = 0;
    }

    fn batch(&mut self) -> WalBatch {
        let last = self.moments[self.moments.len() - 1].entries.last().map_or(self.after, |entry| entry.index);
        let mut batch = WalBatch::default();
        if self.rng.below(4) > 0 {
            let mut first = last + 1;
            if self.rng.below(4) == 0 {
                first -= self.rng.below(last - self.after + 1);
                self.term += 1;
            }
            for index in first..first + self.rng.below(5) {
                let len = match self.rng.below(40) {
                    0 => self.rng.below(12_000),
                    1..8 => self.rng.below(1500),
                    _ => self.rng.below(60),
                };
                batch.entries.push(entry(index, self.term, len as usize));
            }
        }
        if self.rng.below(3) == 0 {
            batch.state = Some(Bytes::from(format!("{}/{}", self.term, self.rng.below(100))));
        }
        batch
    }

    /// Some random steps. Ends early when the machine or the log stops.
    fn steps(&mut self, wal: &mut Wal, steps: u64) -> Result<(), String> {
        let mut jobs = Vec::new();
        for _ in 0..steps {
            let done = match self.rng.below(20) {
                0..10 => self.append(wal),
                10..15 => wal.sync().map(|()| self.synced = self.moments.len() - 1),
                15..17 => {
                    jobs.extend(wal.prepare_job());
                    Ok(())
                }
                17 => jobs.pop().map_or(Ok(()), |job| wal.install(job.run())),
                18 => self.checkpoint(wal),
                _ => {
                    self.fault();
                    Ok(())
                }
            };
            match done {
                Ok(()) | Err(WalError::NoSpace) => {}
                Err(WalError::Failed | WalError::Io { .. }) => break,
                Err(error) => return Err(format!("unexpected: {error}")),
            }
        }
        self.vfs.clear_faults();
        Ok(())
    }

    fn append(&mut self, wal: &mut Wal) -> Result<(), WalError> {
        let batch = self.batch();
        let next = self.moments[self.moments.len() - 1].apply(&batch);
        let done = wal.append(&batch);
        // A batch that was refused for want of space must never be seen again; any other failure leaves it open.
        if !matches!(done, Err(WalError::NoSpace)) {
            self.moments.push(next);
        }
        done
    }

    fn checkpoint(&mut self, wal: &mut Wal) -> Result<(), WalError> {
        wal.sync()?;
        self.synced = self.moments.len() - 1;
        if let Some(last) = self.moments[self.synced].entries.last().map(|entry| entry.index) {
            self.after += self.rng.below(last.saturating_sub(self.after) + 1);
        }
        wal.release(self.after)
    }

    fn fault(&mut self) {
        let on = [Op::Sync, Op::Write, Op::Create, Op::Rename, Op::SyncDir, Op::Allocate][self.rng.below(6) as usize];
        let error = if self.rng.coin() { FaultError::Eio } else { FaultError::Enospc };
        self.vfs.fail(Fault::once(on, error).after(self.rng.below(4)));
    }

    /// The machine loses power, or only the process ends.
    fn stop(&mut self, power: bool) {
        if power {
            self.vfs = self.vfs.crash(self.rng.next());
            if self.lying {
                self.vfs.ignore_syncs();
            }
        }
    }
}

/// A machine that stopped is no fault of the log.
fn stopped<T>(error: &WalError) -> Result<Option<T>, String> {
    match error {
        WalError::Io { error, .. } if MemoryVfs::is_crash(error) => Ok(None),
        error => Err(error.to_string()),
    }
}

/// Four lives of one log; each may end at a random operation.
fn run(seed: u64, lying: bool) -> Result<(), String> {
    let mut life = Life::new(seed, lying);
    for _ in 0..4 {
        if life.rng.coin() {
            life.vfs.crash_after(life.vfs.ops() + life.rng.below(120));
        }
        let wal = life.open()?;
        if let Some(mut wal) = wal {
            let steps = 10 + life.rng.below(60);
            life.steps(&mut wal, steps)?;
        }
        // A machine that has stopped lost power; else both can happen.
        let dead = life.vfs.has_stopped();
        let power = dead || life.rng.coin();
        life.stop(power);
    }
    life.vfs.crash_after(u64::MAX);
    // Reading twice, with a power failure in between, is the same as reading once.
    life.open()?.ok_or("stopped")?;
    life.stop(true);
    life.open()?.ok_or("stopped")?;
    Ok(())
}

#[test]
fn no_seed_loses_or_invents_anything() {
    for seed in 0..3000 {
        if let Err(error) = run(seed, false) {
            panic!("seed {seed}: {error}");
        }
    }
}

#[test]
fn no_operation_is_a_bad_one_to_stop_at() {
    for seed in 0..6 {
        let script = |stop_after: Option<u64>, crash: u64| -> Result<u64, String> {
            let mut life = Life::new(seed, false);
            let begun = life.vfs.ops();
            life.vfs.crash_after(stop_after.map_or(u64::MAX, |ops| begun + ops));
            // Two processes, so that opening is stopped at each of its operations too.
            for _ in 0..2 {
                if let Some(mut wal) = life.open()? {
                    life.steps(&mut wal, 50)?;
                }
            }
            let ops = life.vfs.ops() - begun;
            life.rng = Rng::new(crash);
            life.stop(true);
            life.open()?.ok_or("stopped")?;
            life.stop(true);
            life.open()?.ok_or("stopped")?;
            Ok(ops)
        };
        let total = script(None, 0).unwrap();
        assert!(total > 20, "seed {seed} does too little: {total}");
        for stop_after in 0..total {
            for crash in 0..8 {
                if let Err(error) = script(Some(stop_after), crash) {
                    panic!("seed {seed}, stopped after {stop_after} of {total}, crash {crash}: {error}");
                }
            }
        }
    }
}

#[test]
fn a_disk_that_lies_about_syncs_is_caught() {
    let caught = (0..20).filter(|seed| run(*seed, true).is_err()).count();
    assert!(caught >= 10, "only {caught} of 20 seeds noticed that nothing was synced");
}
