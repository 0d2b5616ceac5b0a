//! What one client sees: the revision of its linearizable answers never goes back.
//!
//! The order of all writes makes the same claim over all clients together; here the two answers of one client stand side
//! by side. Serializable reads may go back: a client is not told when its member was restarted or is behind.

use std::collections::BTreeMap;

use crate::Report;
use crate::history::{History, Outcome, Response};
use crate::replay::is_serializable;
use crate::text;

/// The checker's name in violations.
const NAME: &str = "client";

/// Judges every client by itself.
pub(crate) fn check(history: &History, report: &mut Report) {
    // By client: its answers, by their end.
    let mut answers: BTreeMap<u32, Vec<(u64, i64, usize)>> = BTreeMap::new();
    for (at, call) in history.calls.iter().enumerate() {
        let Outcome::Done(response) = &call.outcome else { continue };
        if is_serializable(&call.request)
            || matches!(response, Response::LeaseKeepAlive(_) | Response::LeaseTimeToLive(_))
        {
            continue;
        }
        answers.entry(call.client).or_default().push((call.end_us, response.revision(), at));
    }
    for answers in answers.values_mut() {
        answers.sort_unstable();
        let mut highest: Option<(i64, usize)> = None;
        for (_, revision, at) in answers.iter() {
            match highest {
                Some((before, earlier))
                    if before > *revision && history.calls[earlier].end_us < history.calls[*at].start_us =>
                {
                    report.add(
                        NAME,
                        format!(
                            "its revision goes back from {before} to {revision}\n  {}\n  {}",
                            text::call(history, earlier),
                            text::call(history, *at)
                        ),
                    );
                }
                Some((before, _)) if before >= *revision => {}
                _ => highest = Some((*revision, *at)),
            }
        }
    }
}
