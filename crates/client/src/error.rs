//! Why a call failed: a gRPC code and etcd's text.

use std::fmt;
pub use tonic::Code;

/// A failed call.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Error {
    code: Code,
    message: String,
    /// Made here, before anything was sent.
    local: bool,
}

impl Error {
    /// An error with this code and text.
    pub fn new(code: Code, message: impl Into<String>) -> Error {
        Error { code, message: message.into(), local: false }
    }

    pub(crate) fn deadline() -> Error {
        Error::new(Code::DeadlineExceeded, "context deadline exceeded")
    }

    /// What the client itself refuses to send; shown as it is.
    pub(crate) fn refused(text: impl Into<String>) -> Error {
        Error { code: Code::InvalidArgument, message: text.into(), local: true }
    }

    pub(crate) fn lease_not_found() -> Error {
        Error::new(Code::NotFound, "etcdserver: requested lease not found")
    }

    /// The gRPC code.
    pub fn code(&self) -> Code {
        self.code
    }

    /// The server's text, e.g. `etcdserver: key not found`.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The form in which gRPC libraries print a status: `rpc error: code = NotFound desc = …`.
    pub fn status_text(&self) -> String {
        format!("rpc error: code = {} desc = {}", code_name(self.code), self.message)
    }

    /// True if a stream that ended so should be opened again: the connection broke or the server is going away. A
    /// lost leader is news to the caller, as in clientv3.
    pub(crate) fn is_transient(&self) -> bool {
        match self.code {
            Code::Unavailable => self.message != "etcdserver: no leader",
            Code::Unknown | Code::Internal | Code::Cancelled | Code::Aborted => !self.is_etcd(),
            _ => false,
        }
    }

    /// True for errors etcd itself made, whose text is part of its contract.
    fn is_etcd(&self) -> bool {
        self.message.starts_with("etcdserver:")
    }
}

/// As Go's clientv3 (`toErr`): etcd's own errors and an expired or cancelled call show their text alone.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code {
            _ if self.local => f.write_str(&self.message),
            Code::DeadlineExceeded if !self.is_etcd() => f.write_str("context deadline exceeded"),
            Code::Cancelled if !self.is_etcd() => f.write_str("context canceled"),
            _ if self.is_etcd() || self.code == Code::Ok => f.write_str(&self.message),
            _ => f.write_str(&self.status_text()),
        }
    }
}

impl std::error::Error for Error {}

impl From<tonic::Status> for Error {
    fn from(status: tonic::Status) -> Error {
        Error::new(status.code(), status.message())
    }
}

/// gRPC's names of its codes.
fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "Canceled",
        Code::Unknown => "Unknown",
        Code::InvalidArgument => "InvalidArgument",
        Code::DeadlineExceeded => "DeadlineExceeded",
        Code::NotFound => "NotFound",
        Code::AlreadyExists => "AlreadyExists",
        Code::PermissionDenied => "PermissionDenied",
        Code::ResourceExhausted => "ResourceExhausted",
        Code::FailedPrecondition => "FailedPrecondition",
        Code::Aborted => "Aborted",
        Code::OutOfRange => "OutOfRange",
        Code::Unimplemented => "Unimplemented",
        Code::Internal => "Internal",
        Code::Unavailable => "Unavailable",
        Code::DataLoss => "DataLoss",
        Code::Unauthenticated => "Unauthenticated",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shown_as_go_shows_them() {
        let shown = |code, text: &str| Error::new(code, text).to_string();
        assert_eq!(
            shown(Code::NotFound, "etcdserver: requested lease not found"),
            "etcdserver: requested lease not found"
        );
        assert_eq!(
            shown(Code::Unavailable, "connection refused"),
            "rpc error: code = Unavailable desc = connection refused"
        );
        assert_eq!(shown(Code::DeadlineExceeded, "whatever"), "context deadline exceeded");
        assert_eq!(shown(Code::Cancelled, "x"), "context canceled");
    }
}
