//! `/health`, `/livez` and `/readyz` (H-1 to H-3).

use std::collections::BTreeSet;
use std::fmt::Write as _;

use bytes::Bytes;
use cetera_node::published::Published;
use cetera_proto::etcdserverpb::{AlarmType, RangeRequest};
use cetera_proto::services::MethodId;
use http::StatusCode;
use prost::Message as _;

use super::{Page, Source};
use crate::front::Front;
use crate::metrics::METRICS;

/// How long a range of a health check may take, in milliseconds.
const RANGE_TIMEOUT_MS: u64 = 7_000;
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

    pub(super) async fn run(self, front: &Front, published: &Source) -> Page {
        match self {
            Check::Health { serializable, exclude } => {
                let reason = unhealthy(front, &published(), serializable, &exclude).await.err();
                METRICS.health(reason.is_none());
                health_page(reason)
            }
            Check::Probe { checks, verbose, single } => probe(front, published, &checks, verbose, single).await,
        }
    }
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

/// Alarms, leader, then one range, as H-1 says. `Err` is the reason told.
async fn unhealthy(
    front: &Front,
    published: &Published,
    serializable: bool,
    exclude: &BTreeSet<String>,
) -> Result<(), String> {
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
    range(front, serializable).await.map_err(|error| format!("RANGE ERROR:{error}"))
}

/// One key of the store, read as a client would.
async fn range(front: &Front, serializable: bool) -> Result<(), String> {
    let request = RangeRequest { key: Bytes::from_static(b"health"), limit: 1, serializable, ..Default::default() };
    let method = MethodId::Range.method();
    let (_, status) = front.call_local(method, request.encode_to_vec().into(), RANGE_TIMEOUT_MS).await;
    if status.code == 0 { Ok(()) } else { Err(status.message) }
}

async fn probe(front: &Front, published: &Source, checks: &[&str], verbose: bool, single: bool) -> Page {
    let mut lines = String::new();
    let mut failed = false;
    // Not among the checks, so that a member which is well answers as etcd does.
    if published().log_failed {
        failed = true;
        let _ = writeln!(lines, "[-]write_ahead_log failed: {LOG_FAILED}");
    }
    for name in checks {
        match check(front, &published(), name).await {
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
        (true, _) => Page::text(StatusCode::SERVICE_UNAVAILABLE, lines),
        (false, true) => Page::text(StatusCode::OK, lines + "ok\n"),
        (false, false) => Page::text(StatusCode::OK, "ok\n"),
    }
}

async fn check(front: &Front, published: &Published, name: &str) -> Result<(), String> {
    match name {
        "serializable_read" => range(front, true).await,
        "linearizable_read" => range(front, false).await,
        "non_learner" if published.is_learner => Err("etcdserver: rpc not supported for learner".to_string()),
        "data_corruption" if published.alarms.iter().any(|alarm| alarm.alarm == AlarmType::Corrupt as i32) => {
            Err("alarm activated: CORRUPT".to_string())
        }
        _ => Ok(()),
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
