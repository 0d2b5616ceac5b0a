//! Log lines on stderr: one JSON object each, as etcdctl's logger writes them.

use crate::go;
use cetera_client::FailedAttempt;
use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

/// One line. `fields` follow the message in the given order; their values are JSON already.
pub(crate) fn line(level: &str, logger: Option<&str>, message: &str, fields: &[(&str, String)]) {
    let mut line = format!("{{\"level\":\"{level}\",\"ts\":\"{}\"", timestamp(SystemTime::now()));
    if let Some(logger) = logger {
        line += &format!(",\"logger\":\"{logger}\"");
    }
    line += &format!(",\"msg\":{}", go::json_string(message.as_bytes()));
    for (name, value) in fields {
        line += &format!(",\"{name}\":{value}");
    }
    // Nothing is left to do about a closed stderr.
    let _ = writeln!(std::io::stderr(), "{line}}}");
}

/// What clientv3 says of every attempt that failed.
pub(crate) fn failed_attempt(failed: &FailedAttempt<'_>) {
    let text = |s: &str| go::json_string(s.as_bytes());
    let fields = [
        ("target", text(&format!("etcd-endpoints:///{}", failed.endpoint))),
        ("method", text(failed.method)),
        ("attempt", failed.attempt.to_string()),
        ("error", text(&failed.error.status_text())),
    ];
    line("warn", Some("etcd-client"), "retrying of unary invoker failed", &fields);
}

/// RFC 3339 with microseconds, in UTC.
fn timestamp(now: SystemTime) -> String {
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, seconds) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = civil(days);
    let (h, m, s) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}.{:06}Z", since.subsec_micros())
}

/// The Gregorian date so many days after 1970-01-01, counting years from March so that leap days come last.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn timestamps() {
        let at = |s, micros: u32| timestamp(UNIX_EPOCH + Duration::new(s, micros * 1000));
        assert_eq!(at(0, 0), "1970-01-01T00:00:00.000000Z");
        assert_eq!(at(951_782_399, 5), "2000-02-28T23:59:59.000005Z");
        assert_eq!(at(951_782_400, 0), "2000-02-29T00:00:00.000000Z");
        assert_eq!(at(1_795_410_745, 374_399), "2026-11-23T05:12:25.374399Z");
    }
}
