//! The table: what was measured, beside what was promised.

use std::fmt::Write as _;

use super::cell::{CELLS, Kind};
use crate::machine;
use crate::side_by_side::page::{Target, both, digits, grouped, met, rate};
use crate::side_by_side::record::{Record, Side, median};
use crate::side_by_side::run::{Cell, Measured, Options};

/// What is promised of processor time per operation.
fn cpu_target(cell: &Cell<Kind>) -> Option<Target> {
    match (cell.kind, cell.in_flight) {
        (Kind::Put | Kind::Txn, 256) => Some(Target::AtMost(1.0 / 3.0, "1/3")),
        (Kind::Get, 256) => Some(Target::AtMost(1.0 / 4.0, "1/4")),
        (Kind::Range, _) => Some(Target::AtMost(1.0 / 8.0, "1/8")),
        _ => None,
    }
}

/// The whole report of one comparison, as Markdown.
pub fn table(measured: &Measured, options: &Options) -> String {
    let (Measured { records, peer, .. }, Options { runs, long_runs, window, .. }) = (measured, options);
    let mut text = format!(
        "Peer: {peer}. Date: {}. Command: `cargo xtask bench --peer PATH --runs {runs} --long-runs {long_runs}`.\n\n{}\n\n\
         Medians of {runs} runs of {} s each ({long_runs} of the rows with 1 M keys or revisions), ours and the peer's in turn, each \
         on a fresh data directory.\n",
        machine::today(),
        machine::describe(),
        window.as_secs_f64(),
    );
    text.push_str(&measured.made_again());
    operations(&mut text, records);
    others(&mut text, records);
    compaction(&mut text, records);
    text
}

fn operations(text: &mut String, records: &[Record]) {
    let mut rows = String::new();
    for cell in CELLS.iter().filter(|cell| !cell.is_long()) {
        let rate = |side| rate(records, cell.name, side);
        let (Some(ours), Some(peer)) = (rate(Side::Ours), rate(Side::Peer)) else { continue };
        let Some((our_cpu, peer_cpu)) = both(records, cell.name, "cpu_us_op") else { continue };
        let ratio = our_cpu / peer_cpu;
        let target = cpu_target(cell).map_or(" | ".to_owned(), |target| target.shown(ratio));
        let (our_cpu, peer_cpu) = (digits(our_cpu), digits(peer_cpu));
        let _ = writeln!(rows, "| {} | {ours} | {peer} | {our_cpu} | {peer_cpu} | {ratio:.3} | {target} |", cell.label);
    }
    if rows.is_empty() {
        return;
    }
    text.push_str(
        "\n| operation | ours: ops/s (p50 / p99 ms) | peer: ops/s (p50 / p99 ms) | ours: CPU us/op | peer: CPU us/op ",
    );
    text.push_str("| CPU ratio | target | |\n| --- | --- | --- | --- | --- | --- | --- | --- |\n");
    text.push_str(&rows);
}

/// Rows that are one number each: label, cell, figure, target.
const OTHERS: [(&str, &str, &str, Option<Target>); 5] = [
    ("watch: events/s, 100 watchers on one stream", "watch", "ops_s", Some(Target::AtLeast(50.0, "50"))),
    ("1 M keys: puts/s while filling", "memory", "fill_ops_s", None),
    ("1 M keys: RssAnon, MB", "memory", "anonymous_mb", Some(Target::AtMost(0.5, "1/2"))),
    ("1 M keys: RssAnon after a restart, MB", "memory", "anonymous_after_restart_mb", None),
    ("1 M keys: kill -9, start to first read, ms", "memory", "restart_ms", Some(Target::AtMost(0.25, "1/4"))),
];

fn others(text: &mut String, records: &[Record]) {
    let mut rows = String::new();
    for (label, cell, figure, target) in OTHERS {
        let Some((ours, peer)) = both(records, cell, figure) else { continue };
        let ratio = ours / peer;
        let target = target.map_or(" | ".to_owned(), |target| target.shown(ratio));
        let _ = writeln!(rows, "| {label} | {} | {} | {} | {target} |", grouped(ours), grouped(peer), digits(ratio));
    }
    if rows.is_empty() {
        return;
    }
    text.push_str("\n| what | ours | peer | ratio | target | |\n| --- | --- | --- | --- | --- | --- |\n");
    text.push_str(&rows);
    if let Some(puts) = median(records, "memory", Side::Ours, "puts_before_kill") {
        let _ = writeln!(
            text,
            "\nBefore the kill ours took {} more random puts, up to nine tenths of the way from one checkpoint to the \
             next, so that its start replays nearly the longest log there can be. The peer was killed after the fill.",
            grouped(puts)
        );
    }
}

fn compaction(text: &mut String, records: &[Record]) {
    let get = |side, figure| median(records, "compaction", side, figure);
    if get(Side::Ours, "control_ops_s").is_none() {
        return;
    }
    text.push_str("\nPuts, 16 in flight, while 1 M revisions of 500,000 keys are compacted (physical):\n\n");
    text.push_str(
        "| server | compaction, s | puts/s before -> during | worst second | p99 ms before -> during | worst second ",
    );
    text.push_str("| target | |\n| --- | --- | --- | --- | --- | --- | --- | --- |\n");
    for side in [Side::Ours, Side::Peer] {
        let number = |figure| get(side, figure).unwrap_or(f64::NAN);
        let pair = |a, b, scale: f64| format!("{} -> {}", digits(number(a) / scale), digits(number(b) / scale));
        let rates = number("control_ops_s") / number("during_ops_s");
        let tails = number("during_p99_us") / number("control_p99_us");
        let worst_rates = number("control_least_ops_s") / number("during_least_ops_s");
        let worst_tails = number("during_most_p99_us") / number("control_most_p99_us");
        let all = [rates, tails, worst_rates, worst_tails].iter().all(|ratio| *ratio <= 2.0);
        let target = if side == Side::Ours { format!("no worse than 2x | {}", met(all)) } else { " | ".to_owned() };
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} | {target} |",
            side.name(),
            digits(number("compaction_s")),
            pair("control_ops_s", "during_ops_s", 1.0),
            pair("control_least_ops_s", "during_least_ops_s", 1.0),
            pair("control_p99_us", "during_p99_us", 1e3),
            pair("control_most_p99_us", "during_most_p99_us", 1e3),
        );
    }
    text.push_str(
        "\n\"Worst second\": the whole second with the fewest puts, or with the highest p99, before and during.\n",
    );
}
