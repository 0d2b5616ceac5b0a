//! How answers look: one file per output format.

mod fields;
mod humanize;
mod json;
mod protobuf;
mod simple;
mod table;

use crate::exit::{BAD_FEATURE, Exit};
use cetera_proto::etcdserverpb::{
    AlarmResponse, AlarmType, DeleteRangeResponse, HashKvResponse, LeaseGrantResponse, LeaseKeepAliveResponse,
    LeaseLeasesResponse, LeaseRevokeResponse, LeaseTimeToLiveResponse, MemberAddResponse, MemberListResponse,
    MemberPromoteResponse, MemberRemoveResponse, MemberUpdateResponse, MoveLeaderResponse, PutResponse, RangeResponse,
    StatusResponse, TxnResponse, WatchResponse,
};

/// What a command has to tell.
pub(crate) enum Answer<'a> {
    Get(&'a RangeResponse),
    /// `get --print-value-only`.
    Values(&'a RangeResponse),
    Put(&'a PutResponse),
    Delete(&'a DeleteRangeResponse),
    Txn(&'a TxnResponse),
    Watch(&'a WatchResponse),
    Grant(&'a LeaseGrantResponse),
    Revoke(i64, &'a LeaseRevokeResponse),
    KeepAlive(&'a LeaseKeepAliveResponse),
    /// With the keys, if they were asked for.
    TimeToLive(&'a LeaseTimeToLiveResponse, bool),
    Leases(&'a LeaseLeasesResponse),
    MemberAdd(&'a MemberAddResponse),
    MemberRemove(u64, &'a MemberRemoveResponse),
    MemberUpdate(u64, &'a MemberUpdateResponse),
    MemberPromote(u64, &'a MemberPromoteResponse),
    MemberList(&'a MemberListResponse),
    MoveLeader {
        from: u64,
        to: u64,
        response: &'a MoveLeaderResponse,
    },
    Health(&'a [Health]),
    Status(&'a [(String, StatusResponse)]),
    HashKv(&'a [(String, HashKvResponse)]),
    Alarm(&'a AlarmResponse),
}

/// How one endpoint is.
pub(crate) struct Health {
    pub(crate) endpoint: String,
    pub(crate) healthy: bool,
    /// How long the read took, as Go prints durations.
    pub(crate) took: String,
    /// Why it is not healthy.
    pub(crate) error: String,
}

/// An output format.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(crate) enum Format {
    Simple { hex: bool },
    Fields { hex: bool },
    Json { hex: bool },
    Protobuf,
    Table,
}

/// What goes where.
#[derive(Debug, Default)]
pub(crate) struct Text {
    pub(crate) out: Vec<u8>,
    pub(crate) err: Vec<u8>,
}

impl Format {
    pub(crate) fn named(name: &str, hex: bool) -> Option<Format> {
        match name {
            "simple" => Some(Format::Simple { hex }),
            "fields" => Some(Format::Fields { hex }),
            "json" => Some(Format::Json { hex }),
            "protobuf" => Some(Format::Protobuf),
            "table" => Some(Format::Table),
            _ => None,
        }
    }

    pub(crate) fn is_simple(self) -> bool {
        matches!(self, Format::Simple { .. })
    }

    pub(crate) fn is_fields(self) -> bool {
        matches!(self, Format::Fields { .. })
    }

    /// The answer in this format, or that there is none.
    pub(crate) fn text(self, answer: &Answer<'_>) -> Result<Text, Exit> {
        let (name, out) = match self {
            Format::Simple { hex } => return Ok(simple::text(answer, hex)),
            Format::Fields { hex } => ("fields", fields::text(answer, hex)),
            Format::Json { hex } => ("json", json::text(answer, hex)),
            Format::Protobuf => ("protobuf", protobuf::bytes(answer)),
            Format::Table => ("table", table::text(answer)),
        };
        match out {
            Some(out) => Ok(Text { out, err: Vec::new() }),
            None => Err(Exit::new(BAD_FEATURE, format!("{name} not supported as output format"))),
        }
    }
}

/// Header and rows of a list of members.
fn member_rows(list: &MemberListResponse) -> (Vec<&'static str>, Vec<Vec<String>>) {
    let rows = list.members.iter().map(|m| {
        vec![
            format!("{:x}", m.id),
            if m.name.is_empty() { "unstarted" } else { "started" }.to_string(),
            m.name.clone(),
            m.peer_urls.join(","),
            m.client_urls.join(","),
            m.is_learner.to_string(),
        ]
    });
    (vec!["ID", "Status", "Name", "Peer Addrs", "Client Addrs", "Is Learner"], rows.collect())
}

fn health_rows(list: &[Health]) -> (Vec<&'static str>, Vec<Vec<String>>) {
    let row = |h: &Health| vec![h.endpoint.clone(), h.healthy.to_string(), h.took.clone(), h.error.clone()];
    (vec!["endpoint", "health", "took", "error"], list.iter().map(row).collect())
}

fn status_rows(list: &[(String, StatusResponse)]) -> (Vec<&'static str>, Vec<Vec<String>>) {
    let titles = vec![
        "endpoint",
        "ID",
        "version",
        "storage version",
        "db size",
        "in use",
        "percentage not in use",
        "quota",
        "is leader",
        "is learner",
        "raft term",
        "raft index",
        "raft applied index",
        "errors",
        "downgrade target version",
        "downgrade enabled",
    ];
    let row = |(endpoint, s): &(String, StatusResponse)| {
        let member = s.header.map_or(0, |h| h.member_id);
        let downgrade = s.downgrade_info.clone().unwrap_or_default();
        vec![
            endpoint.clone(),
            format!("{member:x}"),
            s.version.clone(),
            s.storage_version.clone(),
            humanize::bytes(s.db_size),
            humanize::bytes(s.db_size_in_use),
            format!("{}%", 100 - (s.db_size_in_use * 100).checked_div(s.db_size).unwrap_or(0)),
            humanize::bytes(s.db_size_quota),
            (s.leader == member).to_string(),
            s.is_learner.to_string(),
            s.raft_term.to_string(),
            s.raft_index.to_string(),
            s.raft_applied_index.to_string(),
            s.errors.join(", "),
            downgrade.target_version,
            downgrade.enabled.to_string(),
        ]
    };
    (titles, list.iter().map(row).collect())
}

fn hash_rows(list: &[(String, HashKvResponse)]) -> (Vec<&'static str>, Vec<Vec<String>>) {
    let row = |(endpoint, h): &(String, HashKvResponse)| {
        vec![endpoint.clone(), h.hash.to_string(), h.hash_revision.to_string()]
    };
    (vec!["endpoint", "hash", "hash_revision"], list.iter().map(row).collect())
}

fn alarm_name(alarm: i32) -> String {
    AlarmType::try_from(alarm).map_or_else(|_| alarm.to_string(), |a| a.as_str_name().to_string())
}
