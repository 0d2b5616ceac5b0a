//! Crash seeds in memory: `seeds --count N [--first S] [--plant none|ack-before-sync|no-sync]`.
//!
//! With a plant, success is that the violation is found.

use std::process::ExitCode;
use std::time::Instant;

use cetera_sim::crash;
use cetera_sim::member::Plant;

#[allow(clippy::print_stdout)]
fn main() -> ExitCode {
    let mut count = 1_000;
    let mut first = 0;
    let mut plant = Plant::None;
    let mut args = std::env::args().skip(1);
    while let Some(flag) = args.next() {
        let value = args.next().unwrap_or_default();
        match (flag.as_str(), value.as_str()) {
            ("--count", number) => count = number.parse().unwrap_or(count),
            ("--first", number) => first = number.parse().unwrap_or(first),
            ("--plant", "none") => plant = Plant::None,
            ("--plant", "ack-before-sync") => plant = Plant::AckBeforeSync,
            ("--plant", "no-sync") => plant = Plant::NoSync,
            _ => {
                println!("unknown argument {flag} {value}");
                return ExitCode::FAILURE;
            }
        }
    }
    let started = Instant::now();
    let mut done = 0u64;
    let result = crash::sweep(first, count, plant, &mut |_, _| done += 1);
    match (result, plant) {
        (Ok(sum), Plant::None) => {
            println!(
                "{count} seeds clean in {:.1} s: {} power losses, {} acknowledged requests, {} entries compared, {} starts from a checkpoint",
                started.elapsed().as_secs_f64(),
                sum.crashes,
                sum.acknowledged,
                sum.entries,
                sum.from_checkpoint
            );
            ExitCode::SUCCESS
        }
        (Err((seed, what)), Plant::None) => {
            println!("seed {seed}: {what}");
            ExitCode::FAILURE
        }
        (Err((seed, what)), plant) => {
            println!("{plant:?} caught after {} seeds (seed {seed}: {what})", done + 1);
            ExitCode::SUCCESS
        }
        (Ok(_), plant) => {
            println!("{plant:?} was not caught in {count} seeds");
            ExitCode::FAILURE
        }
    }
}
