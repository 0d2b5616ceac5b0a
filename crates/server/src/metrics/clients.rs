//! Which versions of the client API the callers say they speak (G-7).

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use super::METRICS;

/// Versions counted apart; clients choose the text, so that there must be an end. What comes later counts as [`OTHER`].
const VERSIONS_MAX: usize = 64;
/// The version of a client that does not tell one.
const UNKNOWN: &str = "unknown";
/// All versions beyond [`VERSIONS_MAX`].
const OTHER: &str = "other";

/// The process's numbers.
#[derive(Debug)]
pub(super) struct ClientRequests(Mutex<Vec<Arc<Row>>>);

#[derive(Debug)]
struct Row {
    version: Box<str>,
    unary: AtomicU64,
    stream: AtomicU64,
}

impl ClientRequests {
    pub(super) const fn new() -> Self {
        ClientRequests(Mutex::new(Vec::new()))
    }

    fn row(&self, version: &str) -> Arc<Row> {
        let mut rows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = |version: &str| rows.iter().find(|row| *row.version == *version);
        let full = rows.len() >= VERSIONS_MAX;
        if let Some(row) = known(version).or_else(|| full.then(|| known(OTHER)).flatten()) {
            return Arc::clone(row);
        }
        let version = if full { OTHER } else { version };
        let row = Arc::new(Row { version: version.into(), unary: AtomicU64::new(0), stream: AtomicU64::new(0) });
        rows.push(Arc::clone(&row));
        row
    }

    pub(super) fn render(&self, out: &mut String) {
        const NAME: &str = "etcd_server_client_requests_total";
        let _ = writeln!(out, "# HELP {NAME} The total number of client requests per client version.");
        let _ = writeln!(out, "# TYPE {NAME} counter");
        for row in self.0.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let version = row.version.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            for (kind, count) in [("stream", &row.stream), ("unary", &row.unary)] {
                let count = count.load(Ordering::Relaxed);
                if count > 0 {
                    let _ = writeln!(out, "{NAME}{{client_api_version=\"{version}\",type=\"{kind}\"}} {count}");
                }
            }
        }
    }
}

/// One front thread's way to the numbers: a lock is taken only for a version it has not met.
#[derive(Debug, Default)]
pub(crate) struct ClientCounts {
    met: Vec<(Option<Bytes>, Arc<Row>)>,
}

impl ClientCounts {
    /// Counts a call. `Err` if the version is no text.
    pub(crate) fn count(&mut self, version: Option<&Bytes>, unary: bool) -> Result<(), std::str::Utf8Error> {
        let row = match self.met.iter().find(|(met, _)| met.as_ref() == version) {
            Some((_, row)) => row,
            None => {
                let text = version.map_or(Ok(UNKNOWN), |version| std::str::from_utf8(version))?;
                let row = METRICS.clients.row(text);
                // The first of those that share a row may stay as good as the last: their number is bounded.
                if self.met.len() == VERSIONS_MAX {
                    self.met.pop();
                }
                self.met.push((version.cloned(), row));
                &self.met[self.met.len() - 1].1
            }
        };
        let counter = if unary { &row.unary } else { &row.stream };
        counter.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_counted_to_an_end() {
        let requests = ClientRequests::new();
        requests.row("v\"1\"").unary.fetch_add(1, Ordering::Relaxed);
        for version in 0..2 * VERSIONS_MAX {
            requests.row(&format!("v{version}")).unary.fetch_add(1, Ordering::Relaxed);
        }
        requests.row("v0").stream.fetch_add(1, Ordering::Relaxed);
        let mut text = String::new();
        requests.render(&mut text);
        let name = "etcd_server_client_requests_total";
        for (labels, count) in [
            (r#"client_api_version="v\"1\"",type="unary""#, 1),
            (r#"client_api_version="v0",type="stream""#, 1),
            (r#"client_api_version="other",type="unary""#, VERSIONS_MAX + 1),
        ] {
            assert!(text.contains(&format!("\n{name}{{{labels}}} {count}\n")), "{labels}: {text}");
        }
        assert_eq!(text.lines().count(), 2 + VERSIONS_MAX + 2, "{text}");
    }
}
