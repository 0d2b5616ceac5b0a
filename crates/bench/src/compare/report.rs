//! The table: what was measured, beside what was promised.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use super::cell::{CELLS, Cell, Kind};
use super::record::{Record, Side, median};
use crate::machine;

/// A promise about ours divided by the peer's.
#[derive(Copy, Clone, Debug)]
pub(crate) enum Target {
    AtMost(f64, &'static str),
    AtLeast(f64, &'static str),
}

impl Target {
    pub(crate) fn shown(self, ratio: f64) -> String {
        match self {
            Target::AtMost(limit, text) => format!("<= {text} | {}", met(ratio <= limit)),
            Target::AtLeast(limit, text) => format!(">= {text} | {}", met(ratio >= limit)),
        }
    }
}

fn met(is: bool) -> &'static str {
    if is { "met" } else { "**not met**" }
}

/// What is promised of processor time per operation.
fn cpu_target(cell: &Cell) -> Option<Target> {
    match (cell.kind, cell.in_flight) {
        (Kind::Put | Kind::Txn, 256) => Some(Target::AtMost(1.0 / 3.0, "1/3")),
        (Kind::Get, 256) => Some(Target::AtMost(1.0 / 4.0, "1/4")),
        (Kind::Range, _) => Some(Target::AtMost(1.0 / 8.0, "1/8")),
        _ => None,
    }
}

/// The whole report of one comparison, as Markdown.
pub fn table(records: &[Record], peer: &str, runs: usize, long_runs: usize, window: Duration) -> String {
    let mut text = format!(
        "Peer: {peer}. Date: {}. Command: `cargo xtask bench --peer PATH --runs {runs} --long-runs {long_runs}`.\n\n{}\n\n\
         Medians of {runs} runs of {} s each ({long_runs} of the rows with 1 M keys or revisions), ours and the peer's in turn, each \
         on a fresh data directory.\n",
        machine::today(),
        machine::describe(),
        window.as_secs_f64(),
    );
    operations(&mut text, records);
    others(&mut text, records);
    compaction(&mut text, records);
    text
}

fn operations(text: &mut String, records: &[Record]) {
    let mut rows = String::new();
    for cell in CELLS.iter().filter(|cell| !cell.is_long()) {
        let rate = |side| {
            let get = |figure| median(records, cell.name, side, figure);
            let (rate, p50, p99) = (get("ops_s")?, get("p50_us")?, get("p99_us")?);
            Some(format!("{} ({} / {})", grouped(rate), digits(p50 / 1e3), digits(p99 / 1e3)))
        };
        let cpu = |side| median(records, cell.name, side, "cpu_us_op");
        let (Some(ours), Some(peer)) = (rate(Side::Ours), rate(Side::Peer)) else { continue };
        let (Some(our_cpu), Some(peer_cpu)) = (cpu(Side::Ours), cpu(Side::Peer)) else { continue };
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
        let (ours, peer) = (median(records, cell, Side::Ours, figure), median(records, cell, Side::Peer, figure));
        let (Some(ours), Some(peer)) = (ours, peer) else { continue };
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

/// Three digits that say something.
pub(crate) fn digits(number: f64) -> String {
    match number.abs() {
        n if n >= 1000.0 => grouped(number),
        n if n >= 100.0 => format!("{number:.0}"),
        n if n >= 10.0 => format!("{number:.1}"),
        _ => format!("{number:.2}"),
    }
}

/// A whole number with commas.
pub(crate) fn grouped(number: f64) -> String {
    let plain = format!("{:.0}", number.max(0.0));
    let mut text = String::new();
    for (n, digit) in plain.chars().enumerate() {
        if n > 0 && (plain.len() - n).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Replaces what stands between a peer's markers on a page, or appends it.
///
/// # Errors
/// The page cannot be read or written.
pub fn replace(page: &Path, peer: &str, table: &str) -> Result<(), String> {
    let said = |error: std::io::Error| format!("{}: {error}", page.display());
    let old = std::fs::read_to_string(page).map_err(said)?;
    std::fs::write(page, replaced(&old, peer, table)).map_err(said)
}

fn replaced(old: &str, peer: &str, table: &str) -> String {
    let (begin, end) = (format!("<!-- begin {peer} -->"), format!("<!-- end {peer} -->"));
    let block = format!("{begin}\n{table}{end}");
    match (old.find(&begin), old.find(&end)) {
        (Some(from), Some(to)) if from < to => format!("{}{block}{}", &old[..from], &old[to + end.len()..]),
        _ => format!("{}\n\n## Against {peer}\n\n{block}\n", old.trim_end()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        assert_eq!(grouped(1_234_567.4), "1,234,567");
        assert_eq!(grouped(999.6), "1,000");
        assert_eq!((digits(0.333), digits(12.34), digits(123.4)), ("0.33".into(), "12.3".into(), "123".into()));
    }

    #[test]
    fn a_peer_has_one_place_on_the_page() {
        let first = replaced("# Page\n", "etcd 1", "a\n");
        assert_eq!(first, "# Page\n\n## Against etcd 1\n\n<!-- begin etcd 1 -->\na\n<!-- end etcd 1 -->\n");
        let both = replaced(&first, "etcd 2", "b\n");
        let again = replaced(&both, "etcd 1", "c\n");
        assert!(!again.contains("\na\n") && again.contains("\nb\n") && again.contains("\nc\n"));
        assert_eq!(again.matches("## Against").count(), 2);
    }

    #[test]
    fn a_target_is_met_or_not() {
        assert!(Target::AtMost(0.5, "1/2").shown(0.5).ends_with("| met"));
        assert!(Target::AtMost(0.5, "1/2").shown(0.51).ends_with("**not met**"));
        assert!(Target::AtLeast(50.0, "50").shown(49.0).ends_with("**not met**"));
    }
}
