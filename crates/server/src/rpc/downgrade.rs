//! Downgrade (M-8): whether the cluster could go one minor version back, and the replicated word that it is to. Nothing
//! here changes a version; deciding that is the leader's work (V-4).

use bytes::Bytes;
use cetera_proto::etcdserverpb::{DowngradeRequest, DowngradeResponse, downgrade_request::DowngradeAction};
use cetera_proto::membershippb::DowngradeInfoSetRequest;
use cetera_state::{Applied, ApplyError, version::Version};
use prost::Message as _;

use super::propose::field;
use super::status::{Code, Error, other};
use super::{NodeAccess, RpcServices, Wait, decode};
use crate::log;
use crate::seam::{CallId, Outbound, Status};

/// What was asked, read and of good form.
#[derive(Copy, Clone, Debug)]
pub(super) enum Downgrade {
    Validate(Version),
    Enable(Version),
    Cancel,
}

impl<N: NodeAccess> RpcServices<N> {
    /// Every answer rests on a confirmed read: an older picture may know an older downgrade.
    pub(super) fn downgrade(&mut self, call: CallId, body: Bytes) -> Result<(), Status> {
        let request: DowngradeRequest = decode(body)?;
        let target = || target(&request.version).ok_or(Error::WrongDowngradeVersionFormat);
        let asked = match DowngradeAction::try_from(request.action) {
            Ok(DowngradeAction::Validate) => Downgrade::Validate(target()?),
            Ok(DowngradeAction::Enable) => Downgrade::Enable(target()?),
            Ok(DowngradeAction::Cancel) => Downgrade::Cancel,
            Err(_) => return Err(other(Code::Unknown, "etcdserver: unknown method")),
        };
        self.confirm(call, Wait::Downgrade(asked));
        Ok(())
    }

    /// The read is confirmed.
    pub(super) fn serve_downgrade(
        &mut self,
        call: CallId,
        asked: Downgrade,
        out: &mut Vec<Outbound>,
    ) -> Result<(), Status> {
        let under_way = self.published.downgrade_target.is_some();
        let set = match asked {
            Downgrade::Validate(target) => {
                self.check_downgrade(target)?;
                return self.respond_downgrade(call, out);
            }
            Downgrade::Enable(target) => {
                self.check_downgrade(target)?;
                DowngradeInfoSetRequest { enabled: true, ver: target.to_string() }
            }
            Downgrade::Cancel if under_way => DowngradeInfoSetRequest::default(),
            Downgrade::Cancel => {
                // As in 3.7, which used to refuse this.
                log::warning!("failed to cancel downgrade", "error" = Error::NoInflightDowngrade.row().1);
                return self.respond_downgrade(call, out);
            }
        };
        self.propose_for(call, field::DOWNGRADE_INFO_SET, &set.encode_to_vec(), Wait::DowngradeSet)
    }

    /// The word is in the log.
    pub(super) fn downgrade_set(
        &mut self,
        call: CallId,
        result: Result<Applied, ApplyError>,
        out: &mut Vec<Outbound>,
    ) -> Result<(), Status> {
        result?;
        self.respond_downgrade(call, out)
    }

    /// Exactly one minor version below the cluster's, and only one at a time.
    fn check_downgrade(&self, target: Version) -> Result<(), Error> {
        let cluster = Version::parse(&self.published.cluster_version).ok_or(Error::ClusterVersionUnavailable)?;
        let allowed = cluster.minor.checked_sub(1).map(|minor| Version { minor, patch: 0, ..cluster });
        if allowed != Some(target) {
            return Err(Error::InvalidDowngradeTargetVersion);
        }
        if self.published.downgrade_target.is_some() {
            return Err(Error::DowngradeInProcess);
        }
        Ok(())
    }

    fn respond_downgrade(&mut self, call: CallId, out: &mut Vec<Outbound>) -> Result<(), Status> {
        let cluster = &*self.published.cluster_version;
        let version = cluster.rsplit_once('.').map_or(cluster, |(minor, _)| minor).to_string();
        self.respond_message(call, &DowngradeResponse { header: None, version }, out);
        Ok(())
    }
}

/// A version as a cluster has one: without its patch number.
fn target(text: &str) -> Option<Version> {
    Version::parse(text).map(|version| Version { patch: 0, ..version })
}
