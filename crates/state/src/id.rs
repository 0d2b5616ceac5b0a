//! Ids as etcd computes them: members, clusters, requests. Pure functions of their arguments; never reads a clock.

use sha1::{Digest, Sha1};

/// A member's id (ID-1; etcd `membership.computeMemberID`): the first eight bytes of the SHA-1 of the sorted peer URLs,
/// the cluster token and, for `member add` only, the time. `member add` passes an empty token (ID-2).
pub fn member_id(peer_urls: &[String], token: &str, unix_seconds: Option<i64>) -> u64 {
    let mut urls: Vec<&str> = peer_urls.iter().map(String::as_str).collect();
    urls.sort_unstable();
    let mut sha = Sha1::new();
    for url in urls {
        sha.update(url);
    }
    sha.update(token);
    if let Some(seconds) = unix_seconds {
        sha.update(seconds.to_string());
    }
    first_eight(sha)
}

/// A cluster's id (ID-3): the first eight bytes of the SHA-1 of the founding members' ids in ascending order.
pub fn cluster_id(member_ids: &[u64]) -> u64 {
    let mut ids = member_ids.to_vec();
    ids.sort_unstable();
    let mut sha = Sha1::new();
    for id in ids {
        sha.update(id.to_be_bytes());
    }
    first_eight(sha)
}

fn first_eight(sha: Sha1) -> u64 {
    let sum: [u8; 20] = sha.finalize().into();
    u64::from_be_bytes(sum[..8].try_into().expect("eight of twenty bytes"))
}

/// Gives out request ids (ID-5; etcd `idutil.Generator`): 16 bits of the member, 40 bits of the time at which the
/// generator was made, an 8-bit counter that runs over into the time. Unique over members and restarts as long as a
/// member takes fewer than 256 ids per millisecond on average.
#[derive(Clone, Debug)]
pub struct RequestIds {
    prefix: u64,
    suffix: u64,
}

const SUFFIX_BITS: u32 = 48;
const COUNTER_BITS: u32 = 8;
const SUFFIX_MASK: u64 = (1 << SUFFIX_BITS) - 1;

impl RequestIds {
    /// A generator for the member, started at `now_ms` milliseconds of Unix time.
    pub fn new(member_id: u64, now_ms: u64) -> Self {
        Self { prefix: member_id << SUFFIX_BITS, suffix: (now_ms << COUNTER_BITS) & SUFFIX_MASK }
    }

    /// The next request id.
    pub fn next_id(&mut self) -> u64 {
        self.suffix = self.suffix.wrapping_add(1) & SUFFIX_MASK;
        self.prefix | self.suffix
    }

    /// The next lease id (L-1): a request id without its top bit, never 0.
    pub fn next_lease_id(&mut self) -> i64 {
        loop {
            let id = (self.next_id() & (i64::MAX as u64)) as i64;
            if id != 0 {
                return id;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn urls(list: &[&str]) -> Vec<String> {
        list.iter().map(|s| s.to_string()).collect()
    }

    /// ID-1, ID-3, recorded from an etcd 3.5.30 started with token `tok`.
    #[test]
    fn ids_recorded_from_etcd() {
        let member = member_id(&urls(&["http://127.0.0.1:42380"]), "tok", None);
        assert_eq!(member, 3517084396909456240);
        assert_eq!(cluster_id(&[member]), 5414723697397369249);
    }

    /// ID-1: the order in which URLs and members are given does not matter.
    #[test]
    fn order_does_not_matter() {
        let a = member_id(&urls(&["http://b:2380", "http://a:2380"]), "t", None);
        assert_eq!(a, member_id(&urls(&["http://a:2380", "http://b:2380"]), "t", None));
        assert_eq!(cluster_id(&[3, 1, 2]), cluster_id(&[1, 2, 3]));
    }

    /// ID-2: the time makes ids of repeated additions differ.
    #[test]
    fn time_makes_added_members_differ() {
        let url = urls(&["http://a:2380"]);
        assert_ne!(member_id(&url, "", Some(1)), member_id(&url, "", Some(2)));
    }

    /// ID-5, L-1.
    #[test]
    fn request_ids_count_up_inside_their_member() {
        let mut ids = RequestIds::new(0xabcd_1234_5678_9abc, 0x0123_4567_89ab);
        assert_eq!(ids.next_id(), 0x9abc_2345_6789_ab01);
        assert_eq!(ids.next_id(), 0x9abc_2345_6789_ab02);
        assert_eq!(ids.next_lease_id(), 0x1abc_2345_6789_ab03);
        // The counter runs over into the time, and the time wraps without touching the member.
        let mut ids = RequestIds::new(1, (1 << 40) - 1);
        for _ in 0..255 {
            ids.next_id();
        }
        assert_eq!(ids.next_id(), 1 << 48);
    }

    #[test]
    fn no_lease_has_id_zero() {
        let mut ids = RequestIds { prefix: 1 << 63, suffix: SUFFIX_MASK };
        assert_eq!(ids.next_lease_id(), 1);
    }
}
