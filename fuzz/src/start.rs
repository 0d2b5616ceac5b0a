//! A member started on a data directory that was tampered with: it refuses in words, or it has exactly what was there
//! at some revision, and goes on. A value that cannot be read is an error, never another value.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use bytes::BytesMut;
use cetera_mvcc::RangeQuery;
use cetera_node::{Fatal, Published};
use cetera_proto::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, InternalRaftRequest, LeaseGrantRequest, PutRequest,
};
use cetera_storage::vfs::MemoryVfs;

use crate::disk::Image;
use crate::input::Input;
use crate::member::{Member, start};

const DIRS: &[&str] = &["/data", "/data/member", "/data/member/wal", "/data/member/log", "/data/member/checkpoint"];

struct Base {
    image: Image,
    before: Image,
    /// All keys at each revision.
    truth: BTreeMap<i64, Vec<u8>>,
}

fn everything(published: &Published) -> Option<Vec<u8>> {
    let mut out = BytesMut::new();
    let query = RangeQuery { key: b"\0", end: b"\0", ..Default::default() };
    published.view.range(&query, &mut out).ok().map(|_| out.to_vec())
}

fn base() -> &'static Base {
    static BASE: OnceLock<Base> = OnceLock::new();
    BASE.get_or_init(|| {
        let vfs = MemoryVfs::new();
        let mut member = Member::open(Arc::new(vfs.clone()), start(1), true).expect("an empty disk");
        member.lead().expect("a good disk");
        let mut truth = BTreeMap::new();
        let mut before = Image::default();
        for id in 2..90u64 {
            let key = format!("key-{}", id * 7 % 13);
            let value = vec![b'a' + (id % 26) as u8; (id as usize * 29) % 160].into();
            let mut request = InternalRaftRequest::default();
            match id % 9 {
                0 => {
                    let range = DeleteRangeRequest { key: key.into(), ..Default::default() };
                    request.delete_range = Some(range.into());
                }
                1 => request.lease_grant = Some(LeaseGrantRequest { id: id as i64, ttl: 1_000 }.into()),
                2 if id > 20 => {
                    let compaction = CompactionRequest { revision: id as i64 / 2, physical: false };
                    request.compaction = Some(compaction.into());
                }
                n => {
                    let lease = if n == 3 { (id - 2) as i64 } else { 0 };
                    request.put = Some(PutRequest { key: key.into(), value, lease, ..Default::default() }.into());
                }
            }
            member.propose(id, request);
            member.settle().expect("a good disk");
            truth.insert(member.published.view.revision(), everything(&member.published).expect("a good disk"));
            if id == 50 {
                before = Image::of(&vfs, DIRS);
            }
        }
        truth.entry(1).or_insert_with(Vec::new);
        Base { image: Image::of(&vfs, DIRS), before, truth }
    })
}

/// See the module.
pub(crate) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let base = base();
    let mut image = base.image.clone();
    while !input.is_empty() {
        image.edit(&mut input, &base.before);
    }
    let mut member = match Member::open(image.disk(), cetera_node::recovery::Start { nonce: 2, ..start(1) }, true) {
        Ok(member) => member,
        Err(error) => {
            assert!(image != base.image, "a good directory is refused: {error}");
            return assert!(!error.to_string().is_empty());
        }
    };
    check(base, &member);
    let goes_on = (|| {
        member.lead()?;
        for id in 1_000..1_040u64 {
            let put = PutRequest { key: "more".into(), value: vec![7; 100].into(), ..Default::default() };
            member.propose(id, InternalRaftRequest { put: Some(put.into()), ..Default::default() });
            member.settle()?;
        }
        Ok::<_, Fatal>(())
    })();
    // Damage may show later, when a record is looked at.
    if let Err(Fatal(text)) = goes_on {
        assert!(!text.is_empty() && image != base.image);
    }
}

fn check(base: &Base, member: &Member) {
    let revision = member.published.view.revision();
    let Some(found) = everything(&member.published) else { return };
    match base.truth.get(&revision) {
        Some(truth) => assert!(*truth == found, "revision {revision} is not what it was"),
        None => panic!("revision {revision} never was"),
    }
}
