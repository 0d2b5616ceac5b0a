//! The token of a user with a password: earned before the first call, and again when a server no longer knows it.

use crate::call::before;
use crate::{Client, Code, Error};
use cetera_proto::etcdserverpb::{AuthenticateRequest, AuthenticateResponse};
use cetera_proto::services::MethodId;
use tokio::time::Instant;

impl Client {
    /// Earns a token if there is a password and no token yet.
    pub(crate) async fn earn_token(&self, deadline: Option<Instant>) -> Result<(), Error> {
        if self.shared.config.user.is_none() || self.shared.token().is_some() {
            return Ok(());
        }
        self.authenticate(deadline).await
    }

    /// After a failed attempt: true if it failed for want of a valid token and may be repeated (contract A-12).
    pub(crate) async fn refresh_token(&self, error: &Error, deadline: Option<Instant>) -> Result<bool, Error> {
        let known = matches!(
            error.message(),
            "etcdserver: invalid auth token"
                | "etcdserver: revision of auth store is old"
                | "etcdserver: user name is empty"
        );
        if !known || self.shared.config.user.is_none() {
            return Ok(false);
        }
        self.authenticate(deadline).await?;
        Ok(true)
    }

    async fn authenticate(&self, deadline: Option<Instant>) -> Result<(), Error> {
        let Some((name, password)) = self.shared.config.user.clone() else { return Ok(()) };
        // Asked without a token: an old one would be refused.
        self.shared.set_token(None);
        let request = AuthenticateRequest { name, password };
        let mut last = None;
        for _ in 0..self.shared.connections.len() {
            let connection = self.shared.pick();
            let call = self.unary_once(connection, MethodId::Authenticate, deadline, request.clone());
            let answer: Result<AuthenticateResponse, _> = before(deadline, call).await?;
            match answer.map_err(Error::from) {
                Ok(response) => {
                    self.shared.set_token(Some(response.token));
                    return Ok(());
                }
                Err(e) if e.message() == "etcdserver: authentication is not enabled" => {
                    self.shared.set_token(Some(String::new()));
                    return Ok(());
                }
                Err(e) if e.code() == Code::Unavailable => last = Some(e),
                Err(e) => return Err(e),
            }
        }
        Err(last.unwrap_or_else(Error::deadline))
    }
}
