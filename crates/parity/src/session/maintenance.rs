//! Compaction and maintenance.

use super::Session;
use crate::render::{self, Place};
use crate::request::Args;
use crate::script::Line;
use cetera_proto::etcdserverpb as pb;
use prost::Message;

impl Session {
    pub(super) async fn run_maintenance(&mut self, line: &Line) -> Result<String, String> {
        match line.name() {
            "compact" => self.compact(line).await,
            "hashkv" => self.hash_kv(line).await,
            "hash" => self.hash().await,
            "status" => self.status().await,
            "alarm" => self.alarm(line).await,
            "downgrade" => self.downgrade(line).await,
            "defragment" => {
                let path = "/etcdserverpb.Maintenance/Defragment";
                let result = self.call::<pb::DefragmentResponse>(path, Vec::new()).await?;
                self.show(result, |r| (None, simple("defragment", r.header.as_ref())))
            }
            "moveleader" => self.move_leader(line).await,
            _ => self.run_cluster(line).await,
        }
    }

    async fn compact(&mut self, line: &Line) -> Result<String, String> {
        let mut args = Args::new(line, 1, &["physical"], &self.names);
        let request =
            pb::CompactionRequest { revision: args.required_number("revision")?, physical: args.flag("physical") };
        args.finish()?;
        let path = "/etcdserverpb.KV/Compact";
        let result = self.call::<pb::CompactionResponse>(path, request.encode_to_vec()).await?;
        self.show(result, |r| (r.header.as_ref(), simple("compact", r.header.as_ref())))
    }

    async fn hash_kv(&mut self, line: &Line) -> Result<String, String> {
        let mut args = Args::new(line, 1, &[], &self.names);
        let request = pb::HashKvRequest { revision: args.number("rev")? };
        args.finish()?;
        let path = "/etcdserverpb.Maintenance/HashKV";
        let result = self.call::<pb::HashKvResponse>(path, request.encode_to_vec()).await?;
        self.show(result, |r| {
            let text = format!(
                "hashkv {} hash={:08x} compact={} hash-revision={}\n",
                render::header(r.header.as_ref(), Place::Top),
                r.hash,
                r.compact_revision,
                r.hash_revision
            );
            (r.header.as_ref(), text)
        })
    }

    /// The hash of a whole database depends on its format: only that there is one is told.
    async fn hash(&mut self) -> Result<String, String> {
        let result = self.call::<pb::HashResponse>("/etcdserverpb.Maintenance/Hash", Vec::new()).await?;
        self.show(result, |r| {
            let hash = if r.hash == 0 { "zero" } else { "some" };
            let header = render::header(r.header.as_ref(), Place::Top);
            (r.header.as_ref(), format!("hash {header} hash={hash}\n"))
        })
    }

    async fn status(&mut self) -> Result<String, String> {
        let path = "/etcdserverpb.Maintenance/Status";
        let result = self.call::<pb::StatusResponse>(path, Vec::new()).await?;
        self.show(result, |r| {
            let header = r.header.unwrap_or_default();
            let relation = |ok: bool, name: &str| format!("{name}={}", if ok { "yes" } else { "no" });
            let mut text = format!("status {}\n", render::header(r.header.as_ref(), Place::Top));
            let mut say = |line: String| text.push_str(&format!("  {line}\n"));
            say(relation(r.version.split('.').count() == 3, "version-has-three-parts"));
            say(relation(r.db_size >= r.db_size_in_use && r.db_size_in_use > 0, "size-in-use-within-size"));
            say(format!("quota={}", r.db_size_quota));
            say(relation(r.leader == header.member_id, "leader-is-self"));
            say(relation(r.raft_term == header.raft_term, "term-as-in-header"));
            say(relation(r.raft_index >= r.raft_applied_index && r.raft_applied_index > 0, "applied-within-index"));
            say(format!("learner={}", r.is_learner));
            say(format!("storage={}", r.storage_version));
            say(match &r.downgrade_info {
                Some(info) => format!("downgrade enabled={} target={:?}", info.enabled, info.target_version),
                None => "downgrade none".to_owned(),
            });
            for error in &r.errors {
                // How many spaces Go puts between the fields of a printed message is left to chance.
                let error = error.split_whitespace().collect::<Vec<_>>().join(" ");
                say(format!("error {}", error.replace(&header.member_id.to_string(), "SELF")));
            }
            (r.header.as_ref(), text)
        })
    }

    /// `alarm get|activate|deactivate [none|nospace|corrupt] [member=self|ID]`
    async fn alarm(&mut self, line: &Line) -> Result<String, String> {
        let mut args = Args::new(line, 1, &[], &self.names);
        let action = match args.required_text("action")?.as_str() {
            "get" => 0,
            "activate" => 1,
            "deactivate" => 2,
            other => return Err(format!("no alarm action {other}")),
        };
        let alarm = match args.optional().as_deref() {
            None | Some(b"none") => 0,
            Some(b"nospace") => 1,
            Some(b"corrupt") => 2,
            Some(_) => return Err("no such alarm".to_owned()),
        };
        let own = self.identity.map(|(_, member)| member);
        let member_id = match args.named_text("member")?.as_deref() {
            None => 0,
            Some("self") => own.ok_or("no response told this member's id yet")?,
            Some(number) => number.parse().map_err(|_| "member wants a number")?,
        };
        args.finish()?;
        let request = pb::AlarmRequest { action, member_id, alarm };
        let path = "/etcdserverpb.Maintenance/Alarm";
        let result = self.call::<pb::AlarmResponse>(path, request.encode_to_vec()).await?;
        self.show(result, |r| {
            let own = own.or(r.header.map(|h| h.member_id));
            let mut text = simple("alarm", r.header.as_ref());
            for alarm in &r.alarms {
                let member = if Some(alarm.member_id) == own { "self".to_owned() } else { alarm.member_id.to_string() };
                text.push_str(&format!("  alarm={} member={member}\n", alarm.alarm().as_str_name()));
            }
            (r.header.as_ref(), text)
        })
    }

    async fn downgrade(&mut self, line: &Line) -> Result<String, String> {
        let mut args = Args::new(line, 1, &[], &self.names);
        let action = match args.required_text("action")?.as_str() {
            "validate" => 0,
            "enable" => 1,
            "cancel" => 2,
            other => return Err(format!("no downgrade action {other}")),
        };
        let version = args.required_text("version")?;
        args.finish()?;
        let request = pb::DowngradeRequest { action, version };
        let path = "/etcdserverpb.Maintenance/Downgrade";
        let result = self.call::<pb::DowngradeResponse>(path, request.encode_to_vec()).await?;
        self.show(result, |r| {
            let header = render::header(r.header.as_ref(), Place::Top);
            (r.header.as_ref(), format!("downgrade {header} version={}\n", r.version))
        })
    }

    async fn move_leader(&mut self, line: &Line) -> Result<String, String> {
        let mut args = Args::new(line, 1, &[], &self.names);
        let target = args.required_number("id")?;
        args.finish()?;
        let target_id = u64::try_from(target).map_err(|e| e.to_string())?;
        let body = pb::MoveLeaderRequest { target_id }.encode_to_vec();
        let path = "/etcdserverpb.Maintenance/MoveLeader";
        let result = self.call::<pb::MoveLeaderResponse>(path, body).await?;
        self.show(result, |r| (None, simple("moveleader", r.header.as_ref())))
    }
}

/// A response that is only a header.
pub(super) fn simple(name: &str, header: Option<&pb::ResponseHeader>) -> String {
    format!("{name} {}\n", render::header(header, Place::Top))
}
