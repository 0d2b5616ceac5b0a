//! Whole clusters from a seed: see `docs/internals/testing.md`.

use std::process::ExitCode;
use std::time::Instant;

use cetera_sim::{Plan, Report, run};

#[allow(clippy::print_stdout)]
fn main() -> ExitCode {
    let mut first = 0;
    let mut count = 1;
    let mut members = 3;
    let mut trace = false;
    let mut twice = false;
    let mut args = std::env::args().skip(1);
    while let Some(flag) = args.next() {
        match flag.as_str() {
            "--trace" => trace = true,
            "--twice" => twice = true,
            _ => {
                let value = args.next().and_then(|value| value.parse().ok()).unwrap_or(0);
                match flag.as_str() {
                    "--seed" | "--first" => first = value,
                    "--count" => count = value,
                    "--members" => members = value as usize,
                    _ => return ExitCode::FAILURE,
                }
            }
        }
    }
    let started = Instant::now();
    let mut bad = 0;
    let mut sum = Report::default();
    for seed in first..first + count {
        let plan = Plan { trace, ..Plan::new(seed, members) };
        let report = run(&plan);
        if trace {
            for line in &report.text {
                println!("{line}");
            }
        }
        if twice {
            let again = run(&plan);
            if again.trace_hash != report.trace_hash {
                println!("seed {seed}: {:x} and then {:x}", report.trace_hash, again.trace_hash);
                bad += 1;
            }
        }
        if !report.is_clean() {
            bad += 1;
            println!("seed {seed}: {:?}", report.violations);
        }
        if count == 1 {
            let mut short = report.clone();
            short.text.clear();
            println!("{short:#?}");
        }
        sum.simulated_us += report.simulated_us;
        sum.operations += report.operations;
        sum.unknown += report.unknown;
        sum.starts += report.starts;
        sum.recovered_elections = sum.recovered_elections.max(report.recovered_elections);
        for (kind, n) in report.faults {
            *sum.faults.entry(kind).or_default() += n;
        }
    }
    let took = started.elapsed().as_secs_f64();
    println!(
        "{count} seeds, {bad} bad, {took:.1} s, {:.0} simulated seconds per second; {} operations ({} unknown), {} starts, slowest recovery {} elections/1000, faults {:?}",
        sum.simulated_us as f64 / 1e6 / took,
        sum.operations,
        sum.unknown,
        sum.starts,
        sum.recovered_elections,
        sum.faults
    );
    if bad == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
