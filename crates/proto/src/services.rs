//! The table of all gRPC calls a member answers, and the lookup of a call by its path.

use std::fmt;

/// Which sides of a call send a stream of messages.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Kind {
    /// One request, one response.
    Unary,
    /// One request, many responses.
    ServerStream,
    /// Many requests, one response.
    ClientStream,
    /// Many requests, many responses, in any order.
    Bidi,
}

/// One call.
#[derive(Debug)]
pub struct Method {
    /// The call, for a `match`.
    pub id: MethodId,
    /// `/<service>/<name>`, as in HTTP/2's `:path`.
    pub path: &'static str,
    /// The full service name, e.g. `etcdserverpb.KV`.
    pub service: &'static str,
    /// The name within the service, e.g. `Range`.
    pub name: &'static str,
    /// Who streams.
    pub kind: Kind,
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.path)
    }
}

macro_rules! methods {
    ($($service:literal { $($id:ident $name:literal $kind:ident,)* })*) => {
        /// Every call, in the order of [`METHODS`].
        #[derive(Copy, Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        #[repr(u8)]
        #[allow(missing_docs)]
        pub enum MethodId { $($($id,)*)* }

        /// Every call; the one with [`MethodId`] `id` stands at `id as usize`.
        pub const METHODS: &[Method] = &[$($(Method {
            id: MethodId::$id,
            path: concat!("/", $service, "/", $name),
            service: $service,
            name: $name,
            kind: Kind::$kind,
        },)*)*];
    };
}

methods! {
    "etcdserverpb.KV" {
        Range "Range" Unary,
        RangeStream "RangeStream" ServerStream,
        Put "Put" Unary,
        DeleteRange "DeleteRange" Unary,
        Txn "Txn" Unary,
        Compact "Compact" Unary,
    }
    "etcdserverpb.Watch" {
        Watch "Watch" Bidi,
    }
    "etcdserverpb.Lease" {
        LeaseGrant "LeaseGrant" Unary,
        LeaseRevoke "LeaseRevoke" Unary,
        LeaseKeepAlive "LeaseKeepAlive" Bidi,
        LeaseTimeToLive "LeaseTimeToLive" Unary,
        LeaseLeases "LeaseLeases" Unary,
    }
    "etcdserverpb.Cluster" {
        MemberAdd "MemberAdd" Unary,
        MemberRemove "MemberRemove" Unary,
        MemberUpdate "MemberUpdate" Unary,
        MemberList "MemberList" Unary,
        MemberPromote "MemberPromote" Unary,
    }
    "etcdserverpb.Maintenance" {
        Alarm "Alarm" Unary,
        Status "Status" Unary,
        Defragment "Defragment" Unary,
        Hash "Hash" Unary,
        HashKv "HashKV" Unary,
        Snapshot "Snapshot" ServerStream,
        MoveLeader "MoveLeader" Unary,
        Downgrade "Downgrade" Unary,
    }
    "etcdserverpb.Auth" {
        AuthEnable "AuthEnable" Unary,
        AuthDisable "AuthDisable" Unary,
        AuthStatus "AuthStatus" Unary,
        Authenticate "Authenticate" Unary,
        UserAdd "UserAdd" Unary,
        UserGet "UserGet" Unary,
        UserList "UserList" Unary,
        UserDelete "UserDelete" Unary,
        UserChangePassword "UserChangePassword" Unary,
        UserGrantRole "UserGrantRole" Unary,
        UserRevokeRole "UserRevokeRole" Unary,
        RoleAdd "RoleAdd" Unary,
        RoleGet "RoleGet" Unary,
        RoleList "RoleList" Unary,
        RoleDelete "RoleDelete" Unary,
        RoleGrantPermission "RoleGrantPermission" Unary,
        RoleRevokePermission "RoleRevokePermission" Unary,
    }
    "v3lockpb.Lock" {
        Lock "Lock" Unary,
        Unlock "Unlock" Unary,
    }
    "v3electionpb.Election" {
        Campaign "Campaign" Unary,
        Proclaim "Proclaim" Unary,
        Leader "Leader" Unary,
        Observe "Observe" ServerStream,
        Resign "Resign" Unary,
    }
    "grpc.health.v1.Health" {
        HealthCheck "Check" Unary,
        HealthList "List" Unary,
        HealthWatch "Watch" ServerStream,
    }
}

impl MethodId {
    /// The call's row.
    pub fn method(self) -> &'static Method {
        &TABLE[self as usize]
    }
}

/// The call at this `:path`, if there is one.
pub fn method(path: &str) -> Option<&'static Method> {
    let mut slot = slot_of(path.as_bytes());
    while SLOTS[slot] != EMPTY {
        let method = &TABLE[SLOTS[slot] as usize];
        if method.path == path {
            return Some(method);
        }
        slot = (slot + 1) % SLOT_COUNT;
    }
    None
}

/// [`METHODS`] at one address.
static TABLE: &[Method] = METHODS;

/// An open hash table over [`METHODS`], made at compile time; at a quarter full most lookups compare one path.
static SLOTS: [u8; SLOT_COUNT] = slots();

const SLOT_COUNT: usize = 256;
const EMPTY: u8 = u8::MAX;

const fn slots() -> [u8; SLOT_COUNT] {
    assert!(METHODS.len() * 4 <= SLOT_COUNT);
    let mut slots = [EMPTY; SLOT_COUNT];
    let mut index = 0;
    while index < METHODS.len() {
        let mut slot = slot_of(METHODS[index].path.as_bytes());
        while slots[slot] != EMPTY {
            slot = (slot + 1) % SLOT_COUNT;
        }
        slots[slot] = index as u8;
        index += 1;
    }
    slots
}

/// FNV-1a, folded to a slot.
const fn slot_of(path: &[u8]) -> usize {
    let mut hash: u32 = 0x811c_9dc5;
    let mut index = 0;
    while index < path.len() {
        hash = (hash ^ path[index] as u32).wrapping_mul(0x0100_0193);
        index += 1;
    }
    ((hash >> 16) ^ hash) as usize % SLOT_COUNT
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_path_finds_its_own_row() {
        for (index, row) in METHODS.iter().enumerate() {
            assert_eq!(row.id as usize, index);
            assert_eq!(row.path, format!("/{}/{}", row.service, row.name));
            let found = method(row.path).expect(row.path);
            assert_eq!(found.id, row.id);
            assert!(std::ptr::eq(found, row.id.method()));
        }
        let paths: BTreeSet<_> = METHODS.iter().map(|m| m.path).collect();
        assert_eq!(paths.len(), METHODS.len());
    }

    #[test]
    fn counts_are_the_contract_g1() {
        let count = |service: &str| METHODS.iter().filter(|m| m.service == service).count();
        let etcd =
            ["KV", "Watch", "Lease", "Cluster", "Maintenance", "Auth"].map(|s| count(&format!("etcdserverpb.{s}")));
        assert_eq!(etcd, [6, 1, 5, 5, 8, 17]);
        assert_eq!(etcd.iter().sum::<usize>(), 42);
        assert_eq!(count("v3lockpb.Lock"), 2);
        assert_eq!(count("v3electionpb.Election"), 5);
    }

    #[test]
    fn unknown_paths_find_nothing() {
        for path in ["", "/", "/etcdserverpb.KV/", "/etcdserverpb.KV/range", "etcdserverpb.KV/Range", "/x/Range"] {
            assert!(method(path).is_none(), "{path}");
        }
    }

    #[test]
    fn who_streams() {
        let streaming: Vec<_> = METHODS.iter().filter(|m| m.kind != Kind::Unary).map(|m| (m.name, m.kind)).collect();
        assert_eq!(
            streaming,
            [
                ("RangeStream", Kind::ServerStream),
                ("Watch", Kind::Bidi),
                ("LeaseKeepAlive", Kind::Bidi),
                ("Snapshot", Kind::ServerStream),
                ("Observe", Kind::ServerStream),
                ("Watch", Kind::ServerStream),
            ]
        );
    }
}
