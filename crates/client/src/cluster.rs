//! Calls on the membership.

use crate::call::Repeat;
use crate::{Client, Error};
use cetera_proto::etcdserverpb::{
    MemberAddRequest, MemberAddResponse, MemberListRequest, MemberListResponse, MemberPromoteRequest,
    MemberPromoteResponse, MemberRemoveRequest, MemberRemoveResponse, MemberUpdateRequest, MemberUpdateResponse,
};
use cetera_proto::services::MethodId;

impl Client {
    /// The members. `linearizable`: confirmed by a majority, not just known to the member asked.
    pub async fn member_list(&self, linearizable: bool) -> Result<MemberListResponse, Error> {
        self.unary(MethodId::MemberList, Repeat::Yes, MemberListRequest { linearizable }).await
    }

    /// Adds a member that will be reached at these URLs.
    pub async fn member_add(&self, peer_urls: Vec<String>, is_learner: bool) -> Result<MemberAddResponse, Error> {
        check_urls(&peer_urls)?;
        self.unary(MethodId::MemberAdd, Repeat::No, MemberAddRequest { peer_urls, is_learner }).await
    }

    /// Removes a member for good.
    pub async fn member_remove(&self, id: u64) -> Result<MemberRemoveResponse, Error> {
        self.unary(MethodId::MemberRemove, Repeat::No, MemberRemoveRequest { id }).await
    }

    /// Changes the URLs at which its peers reach a member.
    pub async fn member_update(&self, id: u64, peer_urls: Vec<String>) -> Result<MemberUpdateResponse, Error> {
        check_urls(&peer_urls)?;
        self.unary(MethodId::MemberUpdate, Repeat::No, MemberUpdateRequest { id, peer_urls }).await
    }

    /// Makes a learner a voter.
    pub async fn member_promote(&self, id: u64) -> Result<MemberPromoteResponse, Error> {
        self.unary(MethodId::MemberPromote, Repeat::No, MemberPromoteRequest { id }).await
    }
}

/// What clientv3 refuses to send (`types.NewURLs`): servers before 3.8 do not survive such a URL in their log.
fn check_urls(urls: &[String]) -> Result<(), Error> {
    if urls.is_empty() {
        return Err(Error::refused("no valid URLs given"));
    }
    for url in urls {
        let url = url.trim();
        let address = match url.split_once("://") {
            Some(("http" | "https", address)) => address,
            Some(("unix" | "unixs", _)) => continue,
            _ => {
                let text = format!("URL scheme must be http, https, unix, or unixs: {url}");
                return Err(Error::refused(text));
            }
        };
        let (authority, path) = address.split_at(address.find('/').unwrap_or(address.len()));
        let port = authority.rsplit_once(':').map(|(_, port)| port);
        if port.is_none_or(|p| p.is_empty() || !p.bytes().all(|b| b.is_ascii_digit())) {
            let text = format!("URL address does not have the form \"host:port\": {url}");
            return Err(Error::refused(text));
        }
        if !path.is_empty() {
            return Err(Error::refused(format!("URL must not contain a path: {url}")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_that_are_never_sent() {
        let refused = |url: &str| check_urls(&[url.to_string()]).unwrap_err().to_string();
        assert_eq!(refused("nonsense"), "URL scheme must be http, https, unix, or unixs: nonsense");
        assert_eq!(refused("http://a"), "URL address does not have the form \"host:port\": http://a");
        assert_eq!(refused("http://a:1/b"), "URL must not contain a path: http://a:1/b");
        assert_eq!(check_urls(&[]).unwrap_err().to_string(), "no valid URLs given");
        let good = ["http://127.0.0.1:2380", " https://[::1]:2380", "unix:///run/x"].map(str::to_string);
        assert_eq!(check_urls(&good), Ok(()));
    }
}
