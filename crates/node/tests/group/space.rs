//! What the disk gets back.

use cetera_proto::etcdserverpb as pb;

use crate::harness::Cluster;

#[test]
fn what_compaction_freed_is_let_go_without_further_writes() {
    const LOG_BYTES: u64 = 128 << 10;
    let mut cluster = Cluster::with_checkpoints(1, LOG_BYTES);
    let only = cluster.elect(None);
    for n in 0..600 {
        cluster.put(only, &format!("key-{}", n % 20), &format!("{n:02000}"));
        cluster.settle();
    }
    let revision = cluster.published(only).view.revision();
    let compaction = Some(Box::new(pb::CompactionRequest { revision, physical: false }));
    cluster.propose(only, pb::InternalRaftRequest { compaction, ..Default::default() });
    cluster.settle();
    let (before, _) = cluster.revision_log_bytes(only);
    cluster.tick(200);
    let (after, retired) = cluster.revision_log_bytes(only);
    assert!(before > 1 << 20, "{before} bytes are not worth a test");
    assert!(retired < LOG_BYTES, "{retired} bytes of {after} wait for a checkpoint that nobody makes");
}
