//! What this member has become, for whoever compares members from outside: `/cetera/state`. etcd has nothing like it.

use cetera_node::published::Published;
use http::StatusCode;

use super::Page;

/// All of one picture. Members with the same applied index and the same finished compaction must have the same hash.
pub(super) fn page(published: &Published) -> Page {
    let hash = published.state_hash;
    let body = format!(
        "{{\"member_id\":\"{:x}\",\"applied_index\":{},\"term\":{},\"revision\":{},\"finished_compaction\":{},\
         \"state_hash\":\"{:016x}\",\"fenced\":{}}}",
        published.member_id,
        published.applied_index,
        published.term,
        published.view.revision(),
        hash.finished,
        hash.sum,
        published.fenced,
    );
    Page::new(StatusCode::OK, "application/json", body)
}

#[cfg(test)]
mod tests {
    use cetera_state::StateHash;
    use http::Method;

    use super::*;
    use crate::front::http1::Serving;
    use crate::http::{Route, route};
    use crate::rpc::NodeAccess as _;
    use crate::rpc::tests::TestNode;

    #[test]
    fn tells_one_picture_as_json() {
        let mut published = (*TestNode::new().published()).clone();
        published.member_id = 0xab;
        (published.applied_index, published.term, published.fenced) = (17, 3, true);
        published.state_hash = StateHash { sum: 0xfeed, finished: -1 };
        let page = page(&published);
        assert_eq!((page.status, page.content_type), (StatusCode::OK, "application/json"));
        let told: serde_json::Value = serde_json::from_str(&page.body).expect("JSON");
        let expected = serde_json::json!({
            "member_id": "ab", "applied_index": 17, "term": 3, "revision": 1, "finished_compaction": -1,
            "state_hash": "000000000000feed", "fenced": true,
        });
        assert_eq!(told, expected);
    }

    #[test]
    fn is_served_beside_the_other_paths_but_not_with_metrics_alone() {
        let at = |method, serving| route(&method, "/cetera/state", "", serving);
        for serving in [Serving::All, Serving::Http] {
            assert!(matches!(at(Method::GET, serving), Route::State));
            assert!(matches!(at(Method::POST, serving), Route::NotAllowed));
        }
        assert!(matches!(at(Method::GET, Serving::Metrics), Route::NotFound));
    }
}
