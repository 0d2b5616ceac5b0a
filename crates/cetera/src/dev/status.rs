//! Asking the members how they are, over etcd's API.

use std::time::Duration;

use cetera_client::proto::etcdserverpb::StatusResponse;
use cetera_client::{Client, Config};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

/// How long a member may take to answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// What a member says of itself.
#[derive(Clone, Debug, Default)]
pub(super) struct Said {
    pub(super) member_id: u64,
    /// 0: it knows none.
    pub(super) leader: u64,
    pub(super) is_learner: bool,
    pub(super) term: u64,
    pub(super) revision: i64,
    pub(super) applied_index: u64,
    pub(super) version: String,
}

/// Asks.
#[derive(Debug)]
pub(super) struct Asker(Runtime);

impl Asker {
    pub(super) fn new() -> Result<Asker, String> {
        Ok(Asker(Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?))
    }

    /// Asks all of these at once; None where no answer came.
    pub(super) fn ask(&self, endpoints: &[Option<String>]) -> Vec<Option<Said>> {
        let mut answers: Vec<Option<Said>> = vec![None; endpoints.len()];
        self.0.block_on(async {
            let mut asked = JoinSet::new();
            for (n, endpoint) in endpoints.iter().enumerate() {
                if let Some(endpoint) = endpoint.clone() {
                    asked.spawn(async move { (n, one(endpoint).await) });
                }
            }
            while let Some(ended) = asked.join_next().await {
                if let Ok((n, answer)) = ended {
                    answers[n] = answer;
                }
            }
        });
        answers
    }
}

async fn one(endpoint: String) -> Option<Said> {
    let mut config = Config::new([endpoint]);
    (config.dial_timeout, config.timeout) = (PATIENCE, Some(PATIENCE));
    let answer = Client::new(config).ok()?.status().await.ok()?;
    let StatusResponse { header, leader, is_learner, raft_applied_index, raft_term, version, .. } = answer;
    let header = header?;
    Some(Said {
        member_id: header.member_id,
        leader,
        is_learner,
        term: raft_term,
        revision: header.revision,
        applied_index: raft_applied_index,
        version,
    })
}
