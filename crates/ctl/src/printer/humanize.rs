//! Sizes for people: `4.1 kB`.

const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];

/// A size in bytes, to two or three digits, in powers of 1000. A negative one counts as nothing.
pub(super) fn bytes(size: i64) -> String {
    let size = u64::try_from(size).unwrap_or(0);
    if size < 10 {
        return format!("{size} B");
    }
    let unit = size.ilog(1000) as usize;
    let value = (size as f64 / 1000f64.powi(unit as i32) * 10.0 + 0.5).floor() / 10.0;
    let places = usize::from(value < 10.0);
    format!("{value:.places$} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn sizes() {
        let sizes = [(0, "0 B"), (9, "9 B"), (10, "10 B"), (999, "999 B"), (1000, "1.0 kB"), (20480, "20 kB")];
        for (size, text) in sizes {
            assert_eq!(bytes(size), text);
        }
        assert_eq!(bytes(2_147_483_648), "2.1 GB");
        assert_eq!(bytes(i64::MAX), "9.2 EB");
    }
}
