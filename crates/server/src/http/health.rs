//! `/health`, `/livez` and `/readyz` (H-1 to H-3).

use std::collections::BTreeSet;
use std::fmt::Write as _;

use bytes::Bytes;
use cetera_proto::etcdserverpb::{AlarmType, RangeRequest};
use cetera_proto::services::MethodId;
use http::StatusCode;
use prost::Message as _;

use super::{Page, Source};
use crate::front::Front;
use crate::metrics::METRICS;
use crate::rpc::status::Error;

/// How much longer a range is waited for than it may take.
const GRACE_MS: u64 = 500;
/// The reason told by a member whose write-ahead log failed: only a new start can help it.
const LOG_FAILED: &str = "WRITE-AHEAD LOG FAILED";
/// Checks of `/livez`.
const LIVE: &[&str] = &["serializable_read"];
/// Checks of `/readyz`.
const READY: &[&str] = &["data_corruption", "serializable_read", "linearizable_read", "non_learner"];

/// One request for somebody's health.
pub(super) enum Check {
    /// `/health`.
    Health { serializable: bool, exclude: BTreeSet<String> },
    /// `/livez`, `/readyz`, or one of their checks alone.
    Probe { checks: Vec<&'static str>, verbose: bool, single: bool },
}

impl Check {
    /// The check that a path asks for.
    pub(super) fn of(path: &str, query: &str) -> Option<Check> {
        let pairs = || query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        let exclude: BTreeSet<String> =
            pairs().filter(|(name, _)| *name == "exclude").map(|(_, value)| value.to_string()).collect();
        if path == "/health" {
            let serializable = pairs().any(|pair| pair == ("serializable", "true"));
            return Some(Check::Health { serializable, exclude });
        }
        let (all, rest) = match path {
            _ if path.starts_with("/livez") => (LIVE, &path["/livez".len()..]),
            _ if path.starts_with("/readyz") => (READY, &path["/readyz".len()..]),
            _ => return None,
        };
        let verbose = pairs().any(|(name, _)| name == "verbose");
        match rest.strip_prefix('/') {
            None if rest.is_empty() => {
                let checks = all.iter().copied().filter(|name| !exclude.contains(*name)).collect();
                Some(Check::Probe { checks, verbose, single: false })
            }
            Some(name) => {
                let check = all.iter().copied().find(|known| *known == name)?;
                Some(Check::Probe { checks: vec![check], verbose, single: true })
            }
            None => None,
        }
    }

    /// `timeout_ms` is for each range that is asked for.
    pub(super) async fn run(self, front: &Front, published: &Source, timeout_ms: u64) -> Page {
        // The node's word that it took too long is to come before the front's.
        let asked = Asked { front, published, timeout_ms: timeout_ms + GRACE_MS };
        match self {
            Check::Health { serializable, exclude } => {
                let reason = asked.unhealthy(serializable, &exclude).await.err();
                METRICS.health(reason.is_none());
                health_page(reason)
            }
            Check::Probe { checks, verbose, single } => asked.probe(&checks, verbose, single).await,
        }
    }
}

/// A check under way.
struct Asked<'a> {
    front: &'a Front,
    published: &'a Source,
    timeout_ms: u64,
}

fn health_page(reason: Option<String>) -> Page {
    let mut body = format!("{{\"health\":\"{}\",\"reason\":", reason.is_none());
    crate::log::quote(reason.as_deref().unwrap_or(""), &mut body);
    body.push('}');
    match reason {
        None => Page::text(StatusCode::OK, body),
        Some(_) => Page::text(StatusCode::SERVICE_UNAVAILABLE, body + "\n"),
    }
}

impl Asked<'_> {
    /// Alarms, leader, then one range, as H-1 says. `Err` is the reason told.
    async fn unhealthy(&self, serializable: bool, exclude: &BTreeSet<String>) -> Result<(), String> {
        let published = (self.published)();
        if published.log_failed {
            return Err(LOG_FAILED.to_string());
        }
        for alarm in published.alarms.iter() {
            let kind = AlarmType::try_from(alarm.alarm).map_or("", |kind| kind.as_str_name());
            if !exclude.contains(kind) {
                return Err(match AlarmType::try_from(alarm.alarm) {
                    Ok(AlarmType::Nospace) => "ALARM NOSPACE".to_string(),
                    Ok(AlarmType::Corrupt) => "ALARM CORRUPT".to_string(),
                    _ => "ALARM UNKNOWN".to_string(),
                });
            }
        }
        if !serializable && published.leader == 0 {
            return Err("RAFT NO LEADER".to_string());
        }
        self.range(serializable).await.map_err(|error| format!("RANGE ERROR:{error}"))
    }

    /// One key of the store, read as a client would read it; on a learner, too, which refuses clients more than that.
    async fn range(&self, serializable: bool) -> Result<(), String> {
        let request = RangeRequest { key: Bytes::from_static(b"health"), limit: 1, serializable, ..Default::default() };
        let method = MethodId::Range.method();
        let (_, status) = self.front.call_local(method, request.encode_to_vec().into(), self.timeout_ms).await;
        if status.code == 0 { Ok(()) } else { Err(status.message) }
    }

    async fn probe(&self, checks: &[&str], verbose: bool, single: bool) -> Page {
        let mut lines = String::new();
        let mut failed = false;
        // Not among the checks, so that a member which is well answers as etcd does.
        if (self.published)().log_failed {
            failed = true;
            let _ = writeln!(lines, "[-]write_ahead_log failed: {LOG_FAILED}");
        }
        for name in checks {
            match self.check(name).await {
                Ok(()) => {
                    let _ = writeln!(lines, "[+]{name} ok");
                }
                Err(error) => {
                    failed = true;
                    let _ = writeln!(lines, "[-]{name} failed: {error}");
                }
            }
        }
        match (failed, verbose && !single) {
            (true, _) => Page::probe(StatusCode::SERVICE_UNAVAILABLE, lines),
            (false, true) => Page::probe(StatusCode::OK, lines + "ok\n"),
            (false, false) => Page::probe(StatusCode::OK, "ok\n"),
        }
    }

    async fn check(&self, name: &str) -> Result<(), String> {
        let published = (self.published)();
        match name {
            "serializable_read" => self.range(true).await,
            "linearizable_read" => self.range(false).await,
            "non_learner" if published.is_learner => Err(Error::NotSupportedForLearner.row().1.to_string()),
            "data_corruption" if published.alarms.iter().any(|alarm| alarm.alarm == AlarmType::Corrupt as i32) => {
                Err("alarm activated: CORRUPT".to_string())
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_queries() {
        let probe = |path: &str, query: &str| match Check::of(path, query) {
            Some(Check::Probe { checks, verbose, single }) => Some((checks.join(","), verbose, single)),
            _ => None,
        };
        assert_eq!(probe("/livez", "verbose"), Some(("serializable_read".into(), true, false)));
        assert_eq!(
            probe("/readyz", "exclude=linearizable_read&exclude=non_learner"),
            Some(("data_corruption,serializable_read".into(), false, false))
        );
        assert_eq!(probe("/readyz/non_learner", ""), Some(("non_learner".into(), false, true)));
        for path in ["/livez/linearizable_read", "/livezz", "/", "/v3/kv/range"] {
            assert!(Check::of(path, "").is_none(), "{path}");
        }
        let Some(Check::Health { serializable, exclude }) = Check::of("/health", "serializable=true&exclude=NOSPACE")
        else {
            panic!("not a health check")
        };
        assert!(serializable && exclude.contains("NOSPACE"));
    }
}
