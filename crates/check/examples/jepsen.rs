//! Judges Jepsen's histories of an etcd register by the general search: `jepsen DIR`, with `etcd_000.log` to
//! `etcd_102.log` as porcupine's repositories ship them under `test_data/jepsen`. Ends with 1 if a verdict is not the
//! known one.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use cetera_check::linear::{Model, Operation, Verdict, search};

/// Numbers of the histories that are linearizable; the others are not. In 95 the cluster did not come up.
const LEGAL: [u32; 23] = [2, 5, 7, 18, 25, 31, 38, 45, 48, 49, 51, 53, 56, 67, 75, 76, 80, 87, 92, 98, 100, 101, 102];
const LEFT_OUT: u32 = 95;
const MOST_STEPS: u64 = 100_000_000;

/// What a process asked of the register, and what it was answered.
#[derive(Copy, Clone, Debug)]
enum Op {
    Read(Option<u32>),
    Write(u32),
    /// Whether it took place; `None` if that is unknown.
    Swap(u32, u32, Option<bool>),
}

struct Register(Vec<Op>);

impl Model for Register {
    type State = Option<u32>;

    fn step(&self, state: &Option<u32>, operation: usize) -> Option<Option<u32>> {
        match self.0[operation] {
            Op::Read(seen) => (seen == *state).then_some(seen),
            Op::Write(value) => Some(Some(value)),
            Op::Swap(from, to, done) => {
                let does = *state == Some(from);
                done.is_none_or(|done| done == does).then_some(if does { Some(to) } else { *state })
            }
        }
    }
}

/// Lines are `INFO  jepsen.util - <process> <:invoke|:ok|:fail|:info> <:read|:write|:cas> <value>`.
fn read(path: &Path) -> std::io::Result<(Register, Vec<Operation>)> {
    let text = std::fs::read_to_string(path)?;
    let mut ops: Vec<(Op, Operation)> = Vec::new();
    // By process: the operation under way, a read before its answer being none.
    let mut under_way: BTreeMap<u32, (Option<Op>, u64)> = BTreeMap::new();
    for (at, line) in text.lines().enumerate() {
        let line = line.replace(['[', ']'], " ");
        let words: Vec<&str> = line.split_whitespace().collect();
        let ["INFO", "jepsen.util", "-", process, kind, what, values @ ..] = &words[..] else { continue };
        let (kind, what) = (*kind, *what);
        let Ok(process) = process.parse::<u32>() else { continue };
        let value = |index: usize| values.get(index).and_then(|value| value.parse::<u32>().ok());
        let (at, done) = (at as u64, kind == ":ok");
        if kind == ":invoke" {
            let op = match (what, value(0), value(1)) {
                (":write", Some(value), _) => Some(Op::Write(value)),
                (":cas", Some(from), Some(to)) => Some(Op::Swap(from, to, None)),
                _ => None,
            };
            under_way.insert(process, (op, at));
            continue;
        }
        if !done && (kind != ":fail" || what == ":write") {
            continue;
        }
        let Some((op, start)) = under_way.remove(&process) else { continue };
        let op = match op {
            None if done => Op::Read(value(0)),
            // A read that timed out says nothing.
            None => continue,
            Some(Op::Swap(from, to, _)) => Op::Swap(from, to, Some(done)),
            Some(op) => op,
        };
        ops.push((op, Operation { start, end: Some(at) }));
    }
    // Never answered: it happened at some time or never.
    ops.extend(under_way.into_values().filter_map(|(op, start)| Some((op?, Operation { start, end: None }))));
    let (ops, operations) = ops.into_iter().unzip();
    Ok((Register(ops), operations))
}

fn main() -> ExitCode {
    let Some(directory) = std::env::args().nth(1) else {
        eprintln!("usage: jepsen DIR");
        return ExitCode::from(2);
    };
    let began = Instant::now();
    let (mut right, mut wrong, mut legal) = (0, 0, 0);
    for number in (0..=102).filter(|number| *number != LEFT_OUT) {
        let path = Path::new(&directory).join(format!("etcd_{number:03}.log"));
        let (register, operations) = match read(&path) {
            Ok(read) => read,
            Err(error) => {
                eprintln!("{}: {error}", path.display());
                return ExitCode::from(2);
            }
        };
        let verdict = match search(&register, None, &operations, MOST_STEPS) {
            Verdict::Legal(_) => Some(true),
            Verdict::Illegal { .. } => Some(false),
            Verdict::Undecided => None,
        };
        legal += u32::from(verdict == Some(true));
        if verdict == Some(LEGAL.contains(&number)) {
            right += 1;
        } else {
            wrong += 1;
            println!("{number}: {verdict:?} of {} operations", operations.len());
        }
    }
    println!("{right} judged right ({legal} of them legal), {wrong} wrong, in {:?}", began.elapsed());
    if wrong == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
