//! Where workloads keep what: key prefixes whose meaning checkers know.

/// Keys of the general workload.
pub const KV: &[u8] = b"/kv/";

/// Marks: a transaction whose other changes carry no unique value (deletes, kept values) puts one here, under a key of
/// its client's own, so that its outcome can be recognised.
pub const MARK: &[u8] = b"/mark/";

/// Keys that live as long as their lease, `/leased/<client>/<n>`: nobody else writes them.
pub const LEASED: &[u8] = b"/leased/";

/// Mutexes as etcd's `concurrency.Mutex` makes them: `/lock/<name>/<lease in hex>`. The owner of the mutex is the
/// key with the lowest create revision under `/lock/<name>/`; that revision is its fencing revision.
pub const LOCK: &[u8] = b"/lock/";

/// What mutexes protect: `/resource/<name>`. Written only by who believes to hold the mutex `<name>`, by a transaction
/// that succeeds only if the writer's lock key has the fencing revision, with the value `<fencing revision>/<unique>`.
/// At most one holder means: over the changes of such a key the fencing revision never goes back.
pub const RESOURCE: &[u8] = b"/resource/";

/// Elections as etcd's `concurrency.Election` makes them: `/election/<name>/<lease in hex>`; the leader is the key with
/// the lowest create revision. Values are `<candidate>/<unique>`; a leader proclaims by changing its own key, guarded
/// by the key's create revision.
pub const ELECTION: &[u8] = b"/election/";

/// What an election's leader writes, `/term/<name>`, by the same rules as [`RESOURCE`].
pub const TERM: &[u8] = b"/term/";

/// Jobs that several schedulers want to run once each: `/cron/jobs/<job>`, with the value `<fencing revision>/<unique>`,
/// put while the scheduler holds the job's lock; the fencing revision never goes back.
pub const CRON_JOBS: &[u8] = b"/cron/jobs/";

/// Locks of the schedulers: `/cron/lock/<job>`, put with a lease by a transaction that finds no such key. Its create
/// revision is the fencing revision.
pub const CRON_LOCK: &[u8] = b"/cron/lock/";

/// The fencing revision in a value `<fencing revision>/<unique>`.
pub fn fencing_revision(value: &[u8]) -> Option<i64> {
    let end = value.iter().position(|byte| *byte == b'/')?;
    std::str::from_utf8(&value[..end]).ok()?.parse().ok()
}

/// Where a prefix ends: the first key after all that begin with it (KV-1).
pub fn prefix_end(prefix: &[u8]) -> bytes::Bytes {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return end.into();
        }
    }
    bytes::Bytes::from_static(b"\0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_where_the_next_begins() {
        assert_eq!(&prefix_end(b"/kv/")[..], b"/kv0");
        assert_eq!(&prefix_end(b"a\xff")[..], b"b");
        assert_eq!(&prefix_end(b"\xff\xff")[..], b"\0");
    }

    #[test]
    fn a_fencing_revision_is_read_back() {
        assert_eq!(fencing_revision(b"17/4"), Some(17));
        assert_eq!(fencing_revision(b"17"), None);
        assert_eq!(fencing_revision(b"x/4"), None);
    }
}
