//! The page of the tables: numbers as they are written, promises, and the place of each peer.

use std::path::Path;

use super::record::{Record, Side, median};

/// A promise about ours divided by the peer's.
#[derive(Copy, Clone, Debug)]
pub enum Target {
    /// It is at most this, written so.
    AtMost(f64, &'static str),
    /// It is at least this, written so.
    AtLeast(f64, &'static str),
}

impl Target {
    /// The cells of a row that say what was promised and whether it was kept.
    pub fn shown(self, ratio: f64) -> String {
        match self {
            Target::AtMost(limit, text) => format!("<= {text} | {}", met(ratio <= limit)),
            Target::AtLeast(limit, text) => format!(">= {text} | {}", met(ratio >= limit)),
        }
    }
}

/// In words, loud if not.
pub fn met(is: bool) -> &'static str {
    if is { "met" } else { "**not met**" }
}

/// A server's operations per second and latencies under one load, None if it was not measured.
pub fn rate(records: &[Record], cell: &str, side: Side) -> Option<String> {
    let get = |figure| median(records, cell, side, figure);
    let (rate, p50, p99) = (get("ops_s")?, get("p50_us")?, get("p99_us")?);
    Some(format!("{} ({} / {})", grouped(rate), digits(p50 / 1e3), digits(p99 / 1e3)))
}

/// The medians of one figure, ours and the peer's, None if it was not measured for both.
pub fn both(records: &[Record], cell: &str, figure: &str) -> Option<(f64, f64)> {
    Some((median(records, cell, Side::Ours, figure)?, median(records, cell, Side::Peer, figure)?))
}

/// Three digits that say something.
pub fn digits(number: f64) -> String {
    match number.abs() {
        n if n >= 1000.0 => grouped(number),
        n if n >= 100.0 => format!("{number:.0}"),
        n if n >= 10.0 => format!("{number:.1}"),
        _ => format!("{number:.2}"),
    }
}

/// A whole number with commas.
pub fn grouped(number: f64) -> String {
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
