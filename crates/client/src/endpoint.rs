//! One member's address and its connection, made when first needed and made again when lost.

use crate::{Config, Error};
use std::time::Duration;
use tonic::transport::{Channel, Endpoint};

/// gRPC servers of the Go family close connections that ping more often than this.
const MIN_KEEP_ALIVE: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(crate) struct Connection {
    /// As the user gave it.
    pub(crate) address: String,
    pub(crate) channel: Channel,
}

impl Connection {
    pub(crate) fn new(address: &str, config: &Config) -> Result<Connection, Error> {
        let endpoint = Endpoint::from_shared(uri(address)?)
            .map_err(|e| invalid(address, &e.to_string()))?
            .connect_timeout(config.dial_timeout)
            .http2_keep_alive_interval(config.keep_alive_time.max(MIN_KEEP_ALIVE))
            .keep_alive_timeout(config.keep_alive_timeout)
            .tcp_nodelay(true);
        Ok(Connection { address: address.to_string(), channel: endpoint.connect_lazy() })
    }
}

/// clientv3 takes an address with or without a scheme.
fn uri(address: &str) -> Result<String, Error> {
    match address.split_once("://") {
        Some(("http" | "unix", _)) => Ok(address.to_string()),
        Some((scheme, _)) => Err(invalid(address, &format!("scheme {scheme:?} is not supported"))),
        None if address.is_empty() => Err(invalid(address, "it is empty")),
        None => match address.strip_prefix("unix:") {
            Some(path) => Ok(format!("unix://{path}")),
            None => Ok(format!("http://{address}")),
        },
    }
}

fn invalid(address: &str, why: &str) -> Error {
    Error::refused(format!("endpoint {address:?}: {why}"))
}

/// True if the call never left this process: no connection could be made. Safe to try again whatever the call does.
pub(crate) fn never_sent(status: &tonic::Status) -> bool {
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        source = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_with_and_without_scheme() {
        assert_eq!(uri("127.0.0.1:1").unwrap(), "http://127.0.0.1:1");
        assert_eq!(uri("http://a:1").unwrap(), "http://a:1");
        assert_eq!(uri("unix:/run/e.sock").unwrap(), "unix:///run/e.sock");
        assert_eq!(uri("unix:///run/e.sock").unwrap(), "unix:///run/e.sock");
        assert!(uri("ftp://a").unwrap_err().message().contains("ftp"));
        assert!(uri("").is_err());
    }
}
