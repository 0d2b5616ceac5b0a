//! The lease commands.

use super::{DEADLINE, Session, decode, error_text, has_flag, receive, send};
use crate::render::{self, Place};
use crate::request::Args;
use crate::script::Line;
use cetera_proto::etcdserverpb as pb;
use prost::Message;
use std::time::Duration;
use tokio::time::Instant;

impl Session {
    pub(super) async fn run_lease(&mut self, line: &Line) -> Result<String, String> {
        match line.name() {
            "grant" => self.grant(line).await,
            "revoke" => self.revoke(line).await,
            "keepalive" => self.keep_alive(line).await,
            "ttl" => self.time_to_live(line).await,
            "leases" => self.leases().await,
            "past" => self.past(line).await,
            other => unreachable!("{other} is dispatched here"),
        }
    }

    async fn grant(&mut self, line: &Line) -> Result<String, String> {
        let mut args = Args::new(line, 1, &[], &self.names);
        let request = pb::LeaseGrantRequest { id: args.required_number("id")?, ttl: args.number("ttl")? };
        let name = args.named_text("as")?;
        args.finish()?;
        let body = request.encode_to_vec();
        let result = self.call::<pb::LeaseGrantResponse>("/etcdserverpb.Lease/LeaseGrant", body).await?;
        if let Ok(response) = &result {
            if let Some(name) = name {
                self.names.insert(name, response.id);
            }
            self.note_deadline(response.id, response.ttl);
        }
        let lease = result.as_ref().map(|r| self.lease_name(r.id)).unwrap_or_default();
        self.show(result, |r| {
            let header = render::header(r.header.as_ref(), Place::Top);
            let mut text = format!("grant {header} id={lease} ttl={}", r.ttl);
            if !r.error.is_empty() {
                text.push_str(&format!(" error={}", r.error));
            }
            (r.header.as_ref(), text + "\n")
        })
    }

    async fn revoke(&mut self, line: &Line) -> Result<String, String> {
        let request = pb::LeaseRevokeRequest { id: self.only_id(line)? };
        let body = request.encode_to_vec();
        let result = self.call::<pb::LeaseRevokeResponse>("/etcdserverpb.Lease/LeaseRevoke", body).await?;
        self.show(result, |r| {
            let header = render::header(r.header.as_ref(), Place::Top);
            (r.header.as_ref(), format!("revoke {header}\n"))
        })
    }

    /// One request and its reply, all on one stream; a new one after the server ended it.
    async fn keep_alive(&mut self, line: &Line) -> Result<String, String> {
        let request = pb::LeaseKeepAliveRequest { id: self.only_id(line)? };
        let mut stream = match self.keepalive.take() {
            Some(stream) => stream,
            None => self.open("/etcdserverpb.Lease/LeaseKeepAlive"),
        };
        send(&mut stream, request.encode_to_vec()).await?;
        let bytes = match receive(&mut stream, Instant::now() + DEADLINE).await? {
            Ok(bytes) => bytes,
            Err(status) => return Ok(format!("ended {}", error_text(&status))),
        };
        self.keepalive = Some(stream);
        let response: pb::LeaseKeepAliveResponse = decode(&bytes)?;
        self.see(response.header.as_ref())?;
        if response.ttl > 0 {
            self.note_deadline(response.id, response.ttl);
        }
        let header = render::header(response.header.as_ref(), Place::Top);
        Ok(format!("keepalive {header} id={} ttl={}\n", self.lease_name(response.id), response.ttl))
    }

    async fn time_to_live(&mut self, line: &Line) -> Result<String, String> {
        let mut args = Args::new(line, 1, &["keys"], &self.names);
        let request = pb::LeaseTimeToLiveRequest { id: args.required_number("id")?, keys: has_flag(line, "keys") };
        args.flag("keys");
        args.finish()?;
        let body = request.encode_to_vec();
        let path = "/etcdserverpb.Lease/LeaseTimeToLive";
        let result = self.call::<pb::LeaseTimeToLiveResponse>(path, body).await?;
        let lease = result.as_ref().map(|r| self.lease_name(r.id)).unwrap_or_default();
        self.show(result, |r| {
            let header = render::header(r.header.as_ref(), Place::Top);
            let left = remaining(r.ttl, r.granted_ttl);
            let mut text = format!("ttl {header} id={lease} ttl={left} granted={}", r.granted_ttl);
            if !r.keys.is_empty() {
                // The order is nobody's promise.
                let mut keys: Vec<_> = r.keys.iter().map(|k| crate::words::show(k)).collect();
                keys.sort();
                text.push_str(&format!(" keys={}", keys.join(",")));
            }
            (r.header.as_ref(), text + "\n")
        })
    }

    async fn leases(&mut self) -> Result<String, String> {
        let path = "/etcdserverpb.Lease/LeaseLeases";
        let result = self.call::<pb::LeaseLeasesResponse>(path, Vec::new()).await?;
        let ids = result.as_ref().map(|r| r.leases.iter().map(|l| self.lease_name(l.id)).collect());
        let ids: Vec<String> = ids.unwrap_or_default();
        self.show(result, |r| {
            let header = render::header(r.header.as_ref(), Place::Top);
            (r.header.as_ref(), format!("leases {header} {}\n", ids.join(" ")).replace(" \n", "\n"))
        })
    }

    /// Waits until the deadline of a lease has passed on any clock: the server's began earlier.
    async fn past(&mut self, line: &Line) -> Result<String, String> {
        let id = self.only_id(line)?;
        let deadline = self.deadlines.get(&id).ok_or_else(|| format!("lease {id} was not granted"))?;
        if *deadline > Instant::now() + DEADLINE {
            return Err(format!("lease {id} has too long to live"));
        }
        tokio::time::sleep_until(*deadline).await;
        Ok(String::new())
    }

    fn only_id(&self, line: &Line) -> Result<i64, String> {
        let mut args = Args::new(line, 1, &[], &self.names);
        let id = args.required_number("id")?;
        args.finish().map(|()| id)
    }

    fn note_deadline(&mut self, id: i64, ttl_seconds: i64) {
        let seconds = u64::try_from(ttl_seconds).unwrap_or(0);
        if let Some(deadline) = Instant::now().checked_add(Duration::from_secs(seconds)) {
            self.deadlines.insert(id, deadline);
        }
    }

    /// `$name` for an id the server chose, with a word on a bad choice; else the number.
    fn lease_name(&self, id: i64) -> String {
        let name = self.names.iter().find(|(_, known)| **known == id).map(|(name, _)| name);
        match name {
            Some(name) if id > 0 => format!("${name}"),
            Some(name) => format!("${name}-not-positive"),
            None => id.to_string(),
        }
    }
}

/// Seconds left, without the clock: `just-under` is at most 5 below what was granted.
fn remaining(ttl: i64, granted: i64) -> String {
    const SLACK_SECONDS: i64 = 5;
    match ttl {
        _ if granted == 0 || ttl >= granted || ttl < 0 => ttl.to_string(),
        _ if ttl >= granted - SLACK_SECONDS => "just-under".to_owned(),
        _ => "well-under".to_owned(),
    }
}
