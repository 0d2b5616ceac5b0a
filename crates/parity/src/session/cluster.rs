//! Cluster calls. Ids of members are made of the time and never shown; a script gives them names.

use super::Session;
use super::maintenance::simple;
use crate::request::Args;
use crate::script::Line;
use cetera_proto::etcdserverpb as pb;
use prost::Message;

impl Session {
    pub(super) async fn run_cluster(&mut self, line: &Line) -> Result<String, String> {
        match line.name() {
            "memberlist" => self.member_list().await,
            "memberadd" => self.member_add(line).await,
            "memberremove" => {
                let (id, _) = self.target(line)?;
                let path = "/etcdserverpb.Cluster/MemberRemove";
                let result =
                    self.call::<pb::MemberRemoveResponse>(path, pb::MemberRemoveRequest { id }.encode_to_vec()).await?;
                self.show(result, |r| (r.header.as_ref(), told("memberremove", r.header.as_ref(), &r.members)))
            }
            "memberupdate" => {
                let (id, peer_urls) = self.target(line)?;
                let body = pb::MemberUpdateRequest { id, peer_urls }.encode_to_vec();
                let path = "/etcdserverpb.Cluster/MemberUpdate";
                let result = self.call::<pb::MemberUpdateResponse>(path, body).await?;
                self.show(result, |r| (r.header.as_ref(), told("memberupdate", r.header.as_ref(), &r.members)))
            }
            "memberpromote" => {
                let (id, _) = self.target(line)?;
                let body = pb::MemberPromoteRequest { id }.encode_to_vec();
                let path = "/etcdserverpb.Cluster/MemberPromote";
                let result = self.call::<pb::MemberPromoteResponse>(path, body).await?;
                self.show(result, |r| (r.header.as_ref(), told("memberpromote", r.header.as_ref(), &r.members)))
            }
            other => Err(format!("no command {other}")),
        }
    }

    async fn member_list(&mut self) -> Result<String, String> {
        let body = pb::MemberListRequest { linearizable: true }.encode_to_vec();
        let path = "/etcdserverpb.Cluster/MemberList";
        let result = self.call::<pb::MemberListResponse>(path, body).await?;
        self.show(result, |r| (r.header.as_ref(), told("memberlist", r.header.as_ref(), &r.members)))
    }

    async fn member_add(&mut self, line: &Line) -> Result<String, String> {
        let mut args = Args::new(line, 1, &["learner"], &self.names);
        let is_learner = args.flag("learner");
        let name = args.named_text("as")?;
        let peer_urls = urls(&mut args)?;
        args.finish()?;
        let path = "/etcdserverpb.Cluster/MemberAdd";
        let body = pb::MemberAddRequest { peer_urls, is_learner }.encode_to_vec();
        let result = self.call::<pb::MemberAddResponse>(path, body).await?;
        if let (Ok(response), Some(name)) = (&result, name) {
            let id = response.member.as_ref().map_or(0, |member| member.id);
            self.names.insert(name, id as i64);
        }
        self.show(result, |r| {
            let added = r.member.clone().unwrap_or_default();
            let mut text = told("memberadd", r.header.as_ref(), &r.members);
            text.push_str(&format!("  added name={:?} peer-urls={:?}\n", added.name, added.peer_urls));
            (r.header.as_ref(), text)
        })
    }

    /// The member that a line names, and the URLs behind.
    fn target(&self, line: &Line) -> Result<(u64, Vec<String>), String> {
        let mut args = Args::new(line, 1, &["self"], &self.names);
        let id = match args.flag("self") {
            true => self.identity.map(|(_, member)| member).ok_or("no response told this member's id yet")?,
            false => args.required_number("id")? as u64,
        };
        let urls = urls(&mut args)?;
        args.finish()?;
        Ok((id, urls))
    }
}

fn urls(args: &mut Args<'_>) -> Result<Vec<String>, String> {
    let mut urls = Vec::new();
    while let Some(url) = args.optional() {
        urls.push(String::from_utf8(url.to_vec()).map_err(|_| "a URL is text")?);
    }
    Ok(urls)
}

/// The members, this one's own first, then in order of their URLs: ids are different every time.
fn told(name: &str, header: Option<&pb::ResponseHeader>, members: &[pb::Member]) -> String {
    let own = header.map_or(0, |h| h.member_id);
    let mut members: Vec<_> = members.iter().collect();
    members.sort_by_key(|member| (member.id != own, &member.peer_urls));
    let mut text = simple(name, header);
    for member in members {
        let id = if member.id == own { "self" } else { "other" };
        text.push_str(&format!(
            "  id={id} name={} peer-urls={} client-urls={} learner={}\n",
            member.name,
            member.peer_urls.len(),
            member.client_urls.len(),
            member.is_learner
        ));
    }
    text
}
