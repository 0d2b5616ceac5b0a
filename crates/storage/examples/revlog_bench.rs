//! What the revision log costs: CPU per append, per read by location, per scanned row, per rewritten record.
//!
//! ```text
//! cargo run --release -p cetera-storage --example revlog_bench [records] [payload bytes] [directory]
//! ```
//!
//! Files go to a temporary directory below `directory` (default: the system's). Reads are warm: everything was just
//! written. Times are wall clock of one thread that does nothing else.

use std::{hint::black_box, io::Write, ops::ControlFlow, path::PathBuf, sync::Arc, time::Instant};

use cetera_storage::{
    revision::Revision,
    revlog::{Location, RevLog, RevLogOptions},
    vfs::RealVfs,
};

/// Records appended between two flushes.
const BATCH: u64 = 100;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let records: u64 = arguments.next().map_or(1_000_000, |a| a.parse().expect("a number of records"));
    let payload_bytes: usize = arguments.next().map_or(317, |a| a.parse().expect("a payload size"));
    let base = arguments.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let temp = tempfile::tempdir_in(base).expect("a temporary directory");
    let mut log = RevLog::create(Arc::new(RealVfs), temp.path(), RevLogOptions::default()).expect("a new log");
    let mut out = std::io::stdout().lock();
    let mut report = |what: &str, count: u64, start: Instant| {
        let each = start.elapsed().as_secs_f64() * 1e6 / count as f64;
        writeln!(out, "{what:<44} {each:>8.3} us").expect("stdout");
    };

    let key = &[b'k'; 17][..];
    let value = vec![b'v'; payload_bytes.saturating_sub(key.len())];
    let mut locations: Vec<Location> = Vec::with_capacity(records as usize);
    let start = Instant::now();
    for at in 0..records {
        locations.push(log.append(Revision::new(at as i64 + 2, 0), false, &[key, &value]));
        if at % BATCH == BATCH - 1 {
            log.flush().expect("flush");
        }
    }
    log.flush().expect("flush");
    report("append, flushed each 100", records, start);

    let start = Instant::now();
    log.sync_job().run().expect("sync");
    report("sync of all of it, per record", records, start);

    let mut state = 1u64;
    let mut random = move |bound: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % bound
    };
    let reader = log.reader();
    let picks: Vec<Location> = (0..records).map(|_| locations[random(records) as usize]).collect();
    for what in ["read, random, first touch of the map", "read, random, warm"] {
        let start = Instant::now();
        for location in &picks {
            reader.read(*location, |record| black_box(record.payload.len())).expect("read");
        }
        report(what, records, start);
    }
    let hot = &picks[..1000.min(picks.len())];
    let start = Instant::now();
    for _ in 0..1000 {
        for location in hot {
            reader.read(*location, |record| black_box(record.payload.len())).expect("read");
        }
    }
    report("read, 1,000 records in the CPU's cache", 1000 * hot.len() as u64, start);
    let start = Instant::now();
    for location in &locations {
        reader.read(*location, |record| black_box(record.payload.len())).expect("read");
    }
    report("read, in log order", records, start);

    for _ in 0..2 {
        let start = Instant::now();
        let mut rows = 0;
        let count = &mut |_: Location, record: cetera_storage::revlog::Record<'_>| {
            rows += 1;
            black_box(record.payload.len());
            ControlFlow::Continue(())
        };
        reader.scan(Revision::default(), count).expect("scan");
        assert_eq!(rows, records);
        report("scan, per row", records, start);
    }

    let manifest = log.manifest();
    drop((reader, log));
    let start = Instant::now();
    let mut log =
        RevLog::open(Arc::new(RealVfs), temp.path(), RevLogOptions::default(), &manifest).expect("open again");
    report("open, per segment", manifest.segments.len() as u64, start);
    let start = Instant::now();
    for _ in 0..1000 {
        let from = Revision::new(random(records) as i64 + 2, 0);
        log.reader().scan(from, &mut |_, _| ControlFlow::Break(())).expect("scan");
    }
    report("scan of one row, sparse index built lazily", 1000, start);
    let start = Instant::now();
    for _ in 0..10_000 {
        let from = Revision::new(random(records) as i64 + 2, 0);
        log.reader().scan(from, &mut |_, _| ControlFlow::Break(())).expect("scan");
    }
    report("scan of one row, warm", 10_000, start);

    let start = Instant::now();
    for location in locations.iter().skip(1).step_by(2) {
        log.release(*location);
    }
    report("release", records / 2, start);
    let before = log.disk_bytes();
    let start = Instant::now();
    let mut kept = 0;
    let mut installing = std::time::Duration::ZERO;
    let dead = |revision: Revision| revision.main % 2 == 1;
    while let Some(plan) = log.plan_rewrite(u64::MAX) {
        let done = plan.run(&mut |revision, _, _, _| !dead(revision)).expect("rewrite");
        kept += done.moved() as u64;
        let install = Instant::now();
        log.install_rewrite(done);
        log.finish_relocation();
        log.sync_job().run().expect("sync");
        let durable = log.manifest();
        log.remove_retired(&durable).expect("remove");
        installing += install.elapsed();
    }
    report("rewrite with syncs, per record kept", kept.max(1), start);
    let after = log.disk_bytes();
    writeln!(out, "disk {} MB -> {} MB; install and unlink {installing:?} in all", before >> 20, after >> 20)
        .expect("stdout");
}
