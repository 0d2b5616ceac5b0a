//! Compiles `proto/*.proto` to Rust, without protoc.

use std::error::Error;

const FILES: &[&str] = &[
    "proto/authpb.proto",
    "proto/etcdserver.proto",
    "proto/health.proto",
    "proto/leasepb.proto",
    "proto/membershippb.proto",
    "proto/mvccpb.proto",
    "proto/peer.proto",
    "proto/raft_internal.proto",
    "proto/raftpb.proto",
    "proto/rpc.proto",
    "proto/v3electionpb.proto",
    "proto/v3lockpb.proto",
];

/// Message fields of `InternalRaftRequest`. It is made and matched once per entry and one of them is set, so it is
/// kept small. The header stays inline: every entry of a cluster with auth has one.
const BOXED: &[&str] = &[
    "range",
    "put",
    "delete_range",
    "txn",
    "compaction",
    "lease_grant",
    "lease_revoke",
    "alarm",
    "lease_checkpoint",
    "authenticate",
    "auth_user_add",
    "auth_user_delete",
    "auth_user_get",
    "auth_user_change_password",
    "auth_user_grant_role",
    "auth_user_revoke_role",
    "auth_role_add",
    "auth_role_delete",
    "auth_role_get",
    "auth_role_grant_permission",
    "auth_role_revoke_permission",
    "cluster_version_set",
    "cluster_member_attr_set",
    "downgrade_info_set",
    "downgrade_version_test",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(FILES, ["proto"])?;
    let mut config = prost_build::Config::new();
    config.bytes(["."]);
    for field in BOXED {
        config.boxed(format!(".etcdserverpb.InternalRaftRequest.{field}"));
    }
    config.compile_fds(descriptors)?;
    Ok(())
}
