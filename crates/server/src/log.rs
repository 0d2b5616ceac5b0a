//! The program's log: one JSON object a line in the shape of etcd's (zap's) logger, so that what reads etcd's log reads ours.
//!
//! A line is written by one call, whole, to every output. The logger never fails its caller: a line that an output
//! refuses is lost. Nothing here is meant for the hot path.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How grave a line is.
#[derive(Copy, Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Level {
    /// For developers.
    Debug,
    /// Normal life.
    Info,
    /// Worth a look.
    Warn,
    /// Something failed.
    Error,
    /// The process is about to end because of it.
    Fatal,
}

impl Level {
    /// Reads a `--log-level` value. `panic` and `fatal` silence all but the gravest.
    pub fn parse(text: &str) -> Option<Level> {
        Some(match text {
            "debug" => Level::Debug,
            "info" => Level::Info,
            "warn" => Level::Warn,
            "error" => Level::Error,
            "dpanic" | "panic" | "fatal" => Level::Fatal,
            _ => return None,
        })
    }

    fn name(self) -> &'static str {
        match self {
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Warn => "warn",
            Level::Error => "error",
            Level::Fatal => "fatal",
        }
    }
}

/// How a line is laid out.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Format {
    /// One JSON object.
    Json,
    /// Tab-separated: time, level, caller, message, fields as JSON.
    Console,
}

enum Output {
    Stderr,
    Stdout,
    File(File),
}

struct Logger {
    level: Level,
    format: Format,
    outputs: Vec<Output>,
}

static LOGGER: OnceLock<Mutex<Logger>> = OnceLock::new();

fn logger() -> &'static Mutex<Logger> {
    LOGGER
        .get_or_init(|| Mutex::new(Logger { level: Level::Info, format: Format::Json, outputs: vec![Output::Stderr] }))
}

/// Sets level, format and outputs: `default`, `stderr`, `stdout`, `systemd/journal` (written to stderr, which the journal
/// collects) or file paths, which are appended to. Until then lines go to stderr at level info.
///
/// # Errors
/// A file cannot be opened.
pub fn configure(level: Level, format: Format, outputs: &[String]) -> io::Result<()> {
    let mut opened = Vec::new();
    for output in outputs {
        opened.push(match output.as_str() {
            "default" | "stderr" | "systemd/journal" => Output::Stderr,
            "stdout" => Output::Stdout,
            path => Output::File(OpenOptions::new().create(true).append(true).open(path)?),
        });
    }
    *logger().lock().unwrap_or_else(|e| e.into_inner()) = Logger { level, format, outputs: opened };
    Ok(())
}

/// Writes one line. Use the macros `debug!`, `info!`, `warning!`, `error!`, `fatal!` of this module.
pub fn write(level: Level, file: &str, line: u32, message: &str, fields: &[(&str, &dyn Field)]) {
    let mut logger = logger().lock().unwrap_or_else(|e| e.into_inner());
    if level < logger.level {
        return;
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let text = render(logger.format, level, now, file, line, message, fields);
    for output in &mut logger.outputs {
        let _ = match output {
            Output::Stderr => io::stderr().write_all(text.as_bytes()),
            Output::Stdout => io::stdout().write_all(text.as_bytes()),
            Output::File(file) => file.write_all(text.as_bytes()),
        };
    }
}

fn render(
    format: Format,
    level: Level,
    now: Duration,
    file: &str,
    line: u32,
    message: &str,
    fields: &[(&str, &dyn Field)],
) -> String {
    let mut out = String::with_capacity(160);
    match format {
        Format::Json => {
            out.push_str("{\"level\":\"");
            out.push_str(level.name());
            out.push_str("\",\"ts\":\"");
            timestamp(now, &mut out);
            let _ = write!(out, "\",\"caller\":\"{}:{line}\",\"msg\":", short(file));
            quote(message, &mut out);
            for (name, value) in fields {
                out.push(',');
                quote(name, &mut out);
                out.push(':');
                value.render(&mut out);
            }
            out.push_str("}\n");
        }
        Format::Console => {
            timestamp(now, &mut out);
            let _ = write!(out, "\t{}\t{}:{line}\t{message}", level.name(), short(file));
            for (at, (name, value)) in fields.iter().enumerate() {
                out.push_str(if at == 0 { "\t{" } else { ", " });
                quote(name, &mut out);
                out.push_str(": ");
                value.render(&mut out);
            }
            if !fields.is_empty() {
                out.push('}');
            }
            out.push('\n');
        }
    }
    out
}

/// The last two components of a path, as zap's short caller: `src/front.rs` of this crate is `server/front.rs`.
fn short(file: &str) -> String {
    let parts: Vec<&str> = file.split('/').filter(|part| *part != "src").collect();
    parts[parts.len().saturating_sub(2)..].join("/")
}

/// `2006-01-02T15:04:05.999999Z`: UTC, microseconds, trailing zeros dropped.
/// A moment as Go's JSON writes it, in UTC.
pub fn rfc3339(since_epoch: Duration) -> String {
    let mut out = String::new();
    timestamp(since_epoch, &mut out);
    out
}

fn timestamp(since_epoch: Duration, out: &mut String) {
    let seconds = since_epoch.as_secs();
    let (year, month, day) = civil(seconds / 86_400);
    let of_day = seconds % 86_400;
    let _ =
        write!(out, "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}", of_day / 3_600, of_day / 60 % 60, of_day % 60);
    let micros = since_epoch.subsec_micros();
    if micros != 0 {
        let digits = format!("{micros:06}");
        out.push('.');
        out.push_str(digits.trim_end_matches('0'));
    }
    out.push('Z');
}

/// Year, month and day of a day number counted from 1970-01-01, in the proleptic Gregorian calendar.
fn civil(day: u64) -> (u64, u64, u64) {
    // Counted from 0000-03-01 the leap day is the last day of a year, which makes every step a plain division.
    let day = day + 719_468;
    let era = day / 146_097;
    let of_era = day % 146_097;
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, month, of_year - (153 * shifted + 2) / 5 + 1)
}

/// A value of a log line.
pub trait Field {
    /// Appends the value as JSON.
    fn render(&self, out: &mut String);
}

/// Appends a JSON string.
pub fn quote(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if (c as u32) < 0x20 => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

impl Field for str {
    fn render(&self, out: &mut String) {
        quote(self, out);
    }
}

impl Field for String {
    fn render(&self, out: &mut String) {
        quote(self, out);
    }
}

impl<T: Field + ?Sized> Field for &T {
    fn render(&self, out: &mut String) {
        (**self).render(out);
    }
}

impl<T: Field> Field for [T] {
    fn render(&self, out: &mut String) {
        out.push('[');
        for (at, item) in self.iter().enumerate() {
            if at > 0 {
                out.push(',');
            }
            item.render(out);
        }
        out.push(']');
    }
}

impl<T: Field> Field for Vec<T> {
    fn render(&self, out: &mut String) {
        self.as_slice().render(out);
    }
}

/// As Go prints a duration.
impl Field for Duration {
    fn render(&self, out: &mut String) {
        quote(&crate::flags::go_duration(*self), out);
    }
}

/// Anything printable, as a string: errors, addresses.
pub struct Shown<T>(pub T);

impl<T: std::fmt::Display> Field for Shown<T> {
    fn render(&self, out: &mut String) {
        quote(&self.0.to_string(), out);
    }
}

/// An id, as etcd prints members and clusters: lower-case hex without padding (ID-4).
pub struct Hex(pub u64);

impl Field for Hex {
    fn render(&self, out: &mut String) {
        let _ = write!(out, "\"{:x}\"", self.0);
    }
}

macro_rules! plain_fields {
    ($($kind:ty),*) => {$(
        impl Field for $kind {
            fn render(&self, out: &mut String) {
                let _ = write!(out, "{self}");
            }
        }
    )*};
}

plain_fields!(bool, u16, u32, u64, usize, i32, i64);

macro_rules! line {
    ($level:ident, $message:expr $(, $name:literal = $value:expr)* $(,)?) => {
        $crate::log::write(
            $crate::log::Level::$level,
            file!(),
            line!(),
            $message,
            &[$(($name, &$value as &dyn $crate::log::Field)),*],
        )
    };
}
macro_rules! debug { ($($rest:tt)*) => { $crate::log::line!(Debug, $($rest)*) }; }
macro_rules! info { ($($rest:tt)*) => { $crate::log::line!(Info, $($rest)*) }; }
macro_rules! warning { ($($rest:tt)*) => { $crate::log::line!(Warn, $($rest)*) }; }
macro_rules! error { ($($rest:tt)*) => { $crate::log::line!(Error, $($rest)*) }; }
macro_rules! fatal { ($($rest:tt)*) => { $crate::log::line!(Fatal, $($rest)*) }; }
pub(crate) use {debug, error, fatal, info, line, warning};

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64, micros: u32) -> String {
        let mut out = String::new();
        timestamp(Duration::new(seconds, micros * 1_000), &mut out);
        out
    }

    #[test]
    fn timestamps_are_go_layout() {
        assert_eq!(at(0, 0), "1970-01-01T00:00:00Z");
        assert_eq!(at(1_795_410_361, 993_640), "2026-11-23T05:06:01.99364Z");
        assert_eq!(at(951_782_400, 1), "2000-02-29T00:00:00.000001Z");
        assert_eq!(at(4_107_542_399, 0), "2100-02-28T23:59:59Z");
    }

    #[test]
    fn a_line_is_one_json_object() {
        let urls = vec!["http://a".to_string()];
        let line = render(
            Format::Json,
            Level::Info,
            Duration::from_secs(1),
            "crates/server/src/front/http2.rs",
            7,
            "say \"hi\"\n",
            &[("n", &3u64), ("urls", &urls), ("id", &Hex(255)), ("took", &Duration::from_millis(100)), ("up", &true)],
        );
        assert_eq!(
            line,
            "{\"level\":\"info\",\"ts\":\"1970-01-01T00:00:01Z\",\"caller\":\"front/http2.rs:7\",\"msg\":\"say \\\"hi\\\"\\n\",\
             \"n\":3,\"urls\":[\"http://a\"],\"id\":\"ff\",\"took\":\"100ms\",\"up\":true}\n"
        );
        let line = render(Format::Console, Level::Warn, Duration::ZERO, "src/a.rs", 1, "m", &[("k", &"v")]);
        assert_eq!(line, "1970-01-01T00:00:00Z\twarn\ta.rs:1\tm\t{\"k\": \"v\"}\n");
    }
}
