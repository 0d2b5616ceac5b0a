//! Go's notation of durations.

use std::time::Duration;

/// Reads what Go's `time.ParseDuration` reads, without signs. `None` if malformed or too long for 63 bits of nanoseconds.
pub fn parse_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest.is_empty() {
        return None;
    }
    let mut nanos: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').filter(|at| *at > 0)?;
        let (number, tail) = rest.split_at(digits);
        let unit_end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let scale: u64 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if fraction.contains('.') || (whole.is_empty() && fraction.is_empty()) {
            return None;
        }
        let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        nanos = nanos.checked_add(whole.checked_mul(scale)?)?.checked_add(part_of(fraction, scale))?;
        rest = tail;
    }
    (nanos <= i64::MAX as u64).then(|| Duration::from_nanos(nanos))
}

/// The digits behind a point, as nanoseconds of a unit. Each fraction is rounded down by itself, as in Go: what is
/// printed must read as the same.
fn part_of(fraction: &str, scale: u64) -> u64 {
    let (mut digits, mut power) = (0u64, 1f64);
    for digit in fraction.bytes() {
        // What does not fit any more is too small to count.
        let Some(more) = digits.checked_mul(10).and_then(|n| n.checked_add(u64::from(digit - b'0'))) else { break };
        if more > i64::MAX as u64 {
            break;
        }
        digits = more;
        power *= 10.0;
    }
    (digits as f64 * (scale as f64 / power)) as u64
}

/// Prints as Go's `time.Duration`: `1h0m0s`, `1.5s`, `300ms`, `0s`.
pub fn go_duration(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    if nanos == 0 {
        return "0s".to_string();
    }
    for (scale, unit) in [(1_000u128, "ns"), (1_000_000, "µs"), (1_000_000_000, "ms")] {
        if nanos < scale {
            return format!("{}{unit}", decimal(nanos, scale / 1_000));
        }
    }
    let minutes = nanos / 60_000_000_000;
    let seconds = decimal(nanos % 60_000_000_000, 1_000_000_000);
    match (minutes / 60, minutes % 60) {
        (0, 0) => format!("{seconds}s"),
        (0, minutes) => format!("{minutes}m{seconds}s"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
    }
}

/// `value / scale` with as many decimals as it takes.
fn decimal(value: u128, scale: u128) -> String {
    let width = scale.ilog10() as usize;
    let fraction = value % scale;
    if fraction == 0 {
        return (value / scale).to_string();
    }
    let digits = format!("{fraction:0width$}");
    format!("{}.{}", value / scale, digits.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways() {
        for (text, printed) in [
            ("0", "0s"),
            ("0s", "0s"),
            ("10m", "10m0s"),
            ("2h", "2h0m0s"),
            ("1.5s", "1.5s"),
            ("300ms", "300ms"),
            ("1500us", "1.5ms"),
            ("1h2m3.25s", "1h2m3.25s"),
            ("90s", "1m30s"),
            ("7ns", "7ns"),
            ("3h47m8.274775807s", "3h47m8.274775807s"),
            ("0.5h.5m", "30m30s"),
            ("27m196.857m196.854775807s", "3h47m8.274775807s"),
        ] {
            assert_eq!(parse_duration(text).map(go_duration).as_deref(), Some(printed), "{text}");
        }
        for text in ["", "5", "s", "1x", "-1s", "1s ", "99999999h", "1..5s", ".s", "1.2.3s"] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }
}
