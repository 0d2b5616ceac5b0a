//! What members have become: the hashes of their whole states, which ours tell at `/cetera/state`. Besides the keys
//! that `HashKV` covers they hold leases, members, alarms and versions.

use std::fmt;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::member::Member;
use crate::nemesis::Stage;

/// Where a member tells it.
const PATH: &str = "/cetera/state";
/// Longest that members may take to be at the same index in one look: a leader adds entries of its own meanwhile, as
/// leases end.
const EQUAL_PATIENCE: Duration = Duration::from_secs(20);
/// Pause between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// What a member logs when it finds that its state is not that of the majority. It is given another one then, so that
/// nothing is to be seen in the end.
const FENCED_LINE: &str = "the state of this member differs from that of a majority";

/// What one member told.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Told {
    member: String,
    applied_index: u64,
    /// The compaction that the hash belongs to: the state is trimmed in the background.
    finished_compaction: i64,
    state_hash: String,
    fenced: bool,
}

/// Compares the states of all members at the same applied index. False: there is nothing to compare, for there is one
/// member, or none is ours.
///
/// # Errors
/// States differ, or did during the round; or members do not come to the same index.
pub async fn equal_states(stage: &Stage) -> Result<bool, String> {
    if stage.members.len() < 2 {
        return Ok(false);
    }
    let begun = Instant::now();
    loop {
        let Some(told) = look(stage).await? else { return Ok(false) };
        if are_equal(&told)? {
            break;
        }
        if begun.elapsed() > EQUAL_PATIENCE {
            let told = list(&told);
            return Err(format!("members do not come to the same applied index within {EQUAL_PATIENCE:?}: {told}"));
        }
        sleep(LOOK_EVERY).await;
    }
    stage.members.iter().try_for_each(never_fenced)?;
    Ok(true)
}

/// Asks all; none if none of them knows the question, as it is with other servers.
async fn look(stage: &Stage) -> Result<Option<Vec<Told>>, String> {
    let (mut told, mut unknown) = (Vec::new(), Vec::new());
    for member in &stage.members {
        let name = &member.launch.place.name;
        let answer = member.get(PATH).await.map_err(|what| format!("{name}: {what}"))?;
        match answer.starts_with("HTTP/1.1 404 ") {
            true => unknown.push(name.as_str()),
            false => told.push(read(name, &answer)?),
        }
    }
    if unknown.is_empty() {
        return Ok(Some(told));
    }
    match told.is_empty() && !stage.obeys() {
        true => Ok(None),
        false => Err(format!("{PATH} is not known to {}", unknown.join(", "))),
    }
}

fn read(member: &str, answer: &str) -> Result<Told, String> {
    let field = |name: &str| {
        let (_, rest) = answer.split_once(&format!("\"{name}\":"))?;
        Some(rest.split([',', '}']).next()?.trim_matches('"'))
    };
    let told = || {
        Some(Told {
            member: member.to_owned(),
            applied_index: field("applied_index")?.parse().ok()?,
            finished_compaction: field("finished_compaction")?.parse().ok()?,
            state_hash: field("state_hash")?.to_owned(),
            fenced: field("fenced")?.parse().ok()?,
        })
    };
    told().ok_or_else(|| format!("{member}: {PATH}: not understood: {answer}"))
}

/// Whether all are at the same place, where they are the same then. Those that have met already are compared before.
fn are_equal(told: &[Told]) -> Result<bool, String> {
    if let Some(one) = told.iter().find(|one| one.fenced) {
        return Err(format!("{} has found that its state is wrong: {}", one.member, list(told)));
    }
    let at = |one: &Told| (one.applied_index, one.finished_compaction);
    for (n, one) in told.iter().enumerate() {
        if let Some(other) = told[..n].iter().find(|other| at(other) == at(one) && other.state_hash != one.state_hash) {
            return Err(format!("the states of {} and {} differ: {}", other.member, one.member, list(told)));
        }
    }
    Ok(told.iter().all(|one| at(one) == at(&told[0])))
}

/// No life of the member has found its state wrong.
fn never_fenced(member: &Member) -> Result<(), String> {
    let path = &member.launch.log;
    let log = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    match String::from_utf8_lossy(&log).lines().find(|line| line.contains(FENCED_LINE)) {
        Some(line) => Err(format!("{} had found that its state was wrong: {line}", member.launch.place.name)),
        None => Ok(()),
    }
}

fn list(told: &[Told]) -> String {
    told.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Told { member, applied_index, finished_compaction, state_hash, fenced } = self;
        let fenced = if *fenced { ", fenced" } else { "" };
        write!(f, "{member} at index {applied_index}, compacted {finished_compaction}: {state_hash}{fenced}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(member: &str, applied_index: u64, finished_compaction: i64, state_hash: &str) -> Told {
        let (member, state_hash) = (member.to_owned(), state_hash.to_owned());
        Told { member, applied_index, finished_compaction, state_hash, fenced: false }
    }

    #[test]
    fn an_answer_is_read() {
        let body = r#"{"applied_index":17,"term":3,"finished_compaction":-1,"state_hash":"00fe","fenced":true}"#;
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n{body}");
        assert_eq!(read("m0", &answer), Ok(Told { fenced: true, ..told("m0", 17, -1, "00fe") }));
        assert!(read("m0", "HTTP/1.1 503 Service Unavailable\r\n\r\n").is_err());
        assert!(read("m0", &answer.replace("17", "many")).is_err());
    }

    #[test]
    fn states_are_compared_where_members_have_met() {
        let all = |last: Told| are_equal(&[told("m0", 5, 2, "aa"), told("m1", 5, 2, "aa"), last]);
        assert_eq!(all(told("m2", 5, 2, "aa")), Ok(true));
        // Further behind, or not trimmed yet: another hash is no difference.
        assert_eq!(all(told("m2", 4, 2, "bb")), Ok(false));
        assert_eq!(all(told("m2", 5, 1, "bb")), Ok(false));
        let what = all(told("m2", 5, 2, "bb")).unwrap_err();
        assert_eq!(
            what,
            "the states of m0 and m2 differ: \
             m0 at index 5, compacted 2: aa; m1 at index 5, compacted 2: aa; m2 at index 5, compacted 2: bb"
        );
    }

    #[test]
    fn a_difference_does_not_wait_for_the_last_member() {
        let what = are_equal(&[told("m0", 4, 2, "aa"), told("m1", 5, 2, "aa"), told("m2", 5, 2, "bb")]).unwrap_err();
        assert!(what.starts_with("the states of m1 and m2 differ"), "{what}");
    }

    #[test]
    fn the_line_is_one_that_a_member_logs() {
        assert!(include_str!("../../server/src/node_thread/stepper.rs").contains(FENCED_LINE));
    }

    #[test]
    fn one_that_is_fenced_is_wrong_wherever_it_is() {
        let what = are_equal(&[told("m0", 4, 2, "aa"), Told { fenced: true, ..told("m1", 5, 2, "bb") }]).unwrap_err();
        assert!(what.contains("m1 has found that its state is wrong"), "{what}");
    }
}
