//! The table of the comparison of clusters: what was measured, beside what was promised.

use std::fmt::Write as _;

use super::cell::{CELLS, Extent, Kind, To};
use crate::machine;
use crate::side_by_side::page::{Target, both, digits, rate};
use crate::side_by_side::record::{Record, Side, median};
use crate::side_by_side::run::{Cell, Measured, Options};

/// What is promised of processor time per operation.
fn cpu_target(cell: &Cell<Kind>) -> Option<Target> {
    match (cell.kind, cell.in_flight) {
        (Kind::Put(To::Leader), 256) => Some(Target::AtMost(1.0 / 3.0, "1/3")),
        (Kind::Get(To::All), 256) => Some(Target::AtMost(1.0 / 5.0, "1/5")),
        _ => None,
    }
}

/// The whole report of one comparison, as Markdown.
pub fn table(measured: &Measured, options: &Options, extent: &Extent) -> String {
    let (Measured { records, peer, .. }, Options { runs, long_runs, window, .. }) = (measured, options);
    let Extent { failovers, snapshot_bytes } = extent;
    let mut text = format!(
        "Peer: {peer}. Date: {}. Command: `cargo xtask bench --cluster --peer PATH --runs {runs} --long-runs {long_runs} \
         --failovers {failovers}`.\n\n{}\n\nThree members on this machine. Medians of {runs} runs of {} s each \
         ({long_runs} of the last two tables, with {failovers} kills and as many orderly ends in each), ours and the \
         peer's in turn, each on a fresh cluster. CPU is summed over the three members.\n",
        machine::today(),
        machine::describe(),
        window.as_secs_f64(),
    );
    text.push_str(&measured.made_again());
    operations(&mut text, records);
    failover(&mut text, records);
    snapshot(&mut text, records, *snapshot_bytes);
    text
}

fn operations(text: &mut String, records: &[Record]) {
    let mut rows = String::new();
    for cell in CELLS.iter().filter(|cell| !cell.is_long()) {
        let rate = |side| rate(records, cell.name, side);
        let (Some(ours), Some(peer)) = (rate(Side::Ours), rate(Side::Peer)) else { continue };
        let both = |figure| both(records, cell.name, figure);
        let (Some(cpu), Some(p50)) = (both("cpu_us_op"), both("p50_us")) else { continue };
        let (cpu_ratio, p50_ratio) = (cpu.0 / cpu.1, p50.0 / p50.1);
        // One at a time, what is promised is the latency.
        let target = match (cell.kind, cell.in_flight) {
            (Kind::Put(To::Leader), 1) => format!("p50 {}", Target::AtMost(0.5, "1/2").shown(p50_ratio)),
            _ => cpu_target(cell).map_or(" | ".to_owned(), |target| format!("CPU {}", target.shown(cpu_ratio))),
        };
        let _ = writeln!(
            rows,
            "| {} | {ours} | {peer} | {} | {} | {cpu_ratio:.3} | {p50_ratio:.2} | {target} |",
            cell.label,
            digits(cpu.0),
            digits(cpu.1)
        );
    }
    if rows.is_empty() {
        return;
    }
    text.push_str(
        "\n| operation | ours: ops/s (p50 / p99 ms) | peer: ops/s (p50 / p99 ms) | ours: CPU us/op | peer: CPU us/op ",
    );
    text.push_str("| CPU ratio | p50 ratio | target | |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- |\n");
    text.push_str(&rows);
}

/// Rows of the table of failovers: label, median, worst, target.
const FAILOVERS: [(&str, &str, &str, Option<Target>); 4] = [
    (
        "no write acknowledged after kill -9 of the leader",
        "kill_ms",
        "kill_worst_ms",
        Some(Target::AtMost(0.125, "1/8")),
    ),
    ("no write acknowledged after SIGTERM to the leader", "term_ms", "term_worst_ms", Some(Target::AtMost(1.0, "1"))),
    ("SIGTERM to the end of the leader's process", "term_end_ms", "term_end_worst_ms", None),
    ("killed leader: start to first linearizable read", "back_ms", "back_worst_ms", None),
];

fn failover(text: &mut String, records: &[Record]) {
    let mut rows = String::new();
    for (label, figure, worst, target) in FAILOVERS {
        let of = |side| {
            let middle = median(records, "failover", side, figure)?;
            let all = records.iter().filter(|record| record.cell == "failover" && record.side == side);
            let most = all.filter_map(|record| record.figures.numbers.get(worst)).copied().fold(0.0, f64::max);
            Some((middle, format!("{} ({})", digits(middle), digits(most))))
        };
        let (Some(ours), Some(peer)) = (of(Side::Ours), of(Side::Peer)) else { continue };
        let ratio = ours.0 / peer.0;
        let target = target.map_or(" | ".to_owned(), |target| target.shown(ratio));
        let _ = writeln!(rows, "| {label} | {} | {} | {} | {target} |", ours.1, peer.1, digits(ratio));
    }
    if rows.is_empty() {
        return;
    }
    text.push_str("\nThe leader goes, with 100,000 keys in the store; ms, median (worst):\n\n");
    text.push_str("| what | ours | peer | ratio | target | |\n| --- | --- | --- | --- | --- | --- |\n");
    text.push_str(&rows);
    text.push_str(
        "\n\"No write acknowledged\": the longest time between two acknowledgements, while the two other members are \
         sent a put every 2 ms each.\n",
    );
}

fn snapshot(text: &mut String, records: &[Record], bytes: u64) {
    let get = |side, figure| median(records, "snapshot", side, figure);
    if get(Side::Ours, "control_p99_us").is_none() {
        return;
    }
    let gib = digits(bytes as f64 / (1u64 << 30) as f64);
    let _ = writeln!(text, "\nA new learner and {gib} GiB of values, under 16 puts in flight at the leader:\n");
    text.push_str("| server | caught up, s | puts/s before -> during | p99 ms before -> during | ratio | target | ");
    text.push_str("| leader's RssAnon grows by, MB | target | |\n");
    text.push_str("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n");
    for side in [Side::Ours, Side::Peer] {
        let number = |figure| get(side, figure).unwrap_or(f64::NAN);
        let pair = |a, b, scale: f64| format!("{} -> {}", digits(number(a) / scale), digits(number(b) / scale));
        let (ratio, growth) = (number("during_p99_us") / number("control_p99_us"), number("rss_growth_mb"));
        let none = || " | ".to_owned();
        let ours = side == Side::Ours;
        let slower = if ours { Target::AtMost(2.0, "2x").shown(ratio) } else { none() };
        let larger = if ours { Target::AtMost(64.0 * 1.048_576, "64 MiB").shown(growth) } else { none() };
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {slower} | {} | {larger} |",
            side.name(),
            digits(number("caught_up_s")),
            pair("control_ops_s", "during_ops_s", 1.0),
            pair("control_p99_us", "during_p99_us", 1e3),
            digits(ratio),
            digits(growth),
        );
    }
    text.push_str("\n\"Grows\": the most while the learner joins, less the most in the ten seconds before.\n");
}
