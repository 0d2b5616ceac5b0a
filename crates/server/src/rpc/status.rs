//! Every error a client can get from a service: code and text as etcd 3.7 sends them (contract 1.10), in one table.

use cetera_mvcc::MvccError;
use cetera_node::event::Refusal;
use cetera_state::{ApplyError, ReadError};

use crate::seam::Status;

macro_rules! errors {
    ($($(#[$doc:meta])* $name:ident $code:ident $text:literal,)*) => {
        /// An error by the name etcd gives it (`rpctypes.ErrGRPC…`).
        #[derive(Copy, Clone, Debug, Eq, PartialEq)]
        pub enum Error {
            $($(#[$doc])* #[doc = $text] $name,)*
        }

        impl Error {
            /// gRPC code and text on the wire.
            pub fn row(self) -> (Code, &'static str) {
                match self {
                    $(Error::$name => (Code::$code, $text),)*
                }
            }

            /// Every error with its name, for tests and documentation.
            pub const ALL: &[(&str, Error)] = &[$((stringify!($name), Error::$name),)*];
        }
    };
}

/// gRPC's status codes.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
#[repr(u32)]
pub enum Code {
    /// Success.
    Ok = 0,
    /// The caller left.
    Canceled = 1,
    /// No better code; also where etcd fails to map one (finding 0.2).
    Unknown = 2,
    /// The request is wrong whatever the state.
    InvalidArgument = 3,
    /// Too late.
    DeadlineExceeded = 4,
    /// Not there.
    NotFound = 5,
    /// Not allowed.
    PermissionDenied = 7,
    /// Out of something.
    ResourceExhausted = 8,
    /// The state does not allow it.
    FailedPrecondition = 9,
    /// Past the valid range.
    OutOfRange = 11,
    /// No such call here.
    Unimplemented = 12,
    /// Broken.
    Internal = 13,
    /// Try again elsewhere.
    Unavailable = 14,
    /// Corrupt.
    DataLoss = 15,
    /// Not known who.
    Unauthenticated = 16,
}

errors! {
    EmptyKey InvalidArgument "etcdserver: key is not provided",
    KeyNotFound InvalidArgument "etcdserver: key not found",
    ValueProvided InvalidArgument "etcdserver: value is provided",
    LeaseProvided InvalidArgument "etcdserver: lease is provided",
    TooManyOps InvalidArgument "etcdserver: too many operations in txn request",
    DuplicateKey InvalidArgument "etcdserver: duplicate key given in txn request",
    InvalidClientApiVersion InvalidArgument "etcdserver: invalid client api version",
    InvalidSortOption InvalidArgument "etcdserver: invalid sort option",
    Compacted OutOfRange "etcdserver: mvcc: required revision has been compacted",
    FutureRev OutOfRange "etcdserver: mvcc: required revision is a future revision",
    NoSpace ResourceExhausted "etcdserver: mvcc: database space exceeded",
    LeaseNotFound NotFound "etcdserver: requested lease not found",
    LeaseExist FailedPrecondition "etcdserver: lease already exists",
    LeaseTtlTooLarge OutOfRange "etcdserver: too large lease TTL",
    WatchCanceled Canceled "etcdserver: watch canceled",
    MemberExist FailedPrecondition "etcdserver: member ID already exist",
    PeerUrlExist FailedPrecondition "etcdserver: Peer URLs already exists",
    /// Declared FailedPrecondition, sent as Unknown (finding 0.2).
    MemberNotEnoughStarted Unknown "etcdserver: re-configuration failed due to not enough started members",
    MemberBadUrls InvalidArgument "etcdserver: given member URLs are invalid",
    MemberNotFound NotFound "etcdserver: member not found",
    MemberNotLearner FailedPrecondition "etcdserver: can only promote a learner member",
    LearnerNotReady FailedPrecondition "etcdserver: can only promote a learner member which is in sync with leader",
    TooManyLearners FailedPrecondition "etcdserver: too many learner members in cluster",
    ClusterIdMismatch FailedPrecondition "etcdserver: cluster ID mismatch",
    RequestTooLarge InvalidArgument "etcdserver: request is too large",
    /// Declared ResourceExhausted, sent as Unknown (finding 0.2).
    RequestTooManyRequests Unknown "etcdserver: too many requests",
    RootUserNotExist FailedPrecondition "etcdserver: root user does not exist",
    RootRoleNotExist FailedPrecondition "etcdserver: root user does not have root role",
    UserAlreadyExist FailedPrecondition "etcdserver: user name already exists",
    UserEmpty InvalidArgument "etcdserver: user name is empty",
    UserNotFound FailedPrecondition "etcdserver: user name not found",
    RoleAlreadyExist FailedPrecondition "etcdserver: role name already exists",
    RoleNotFound FailedPrecondition "etcdserver: role name not found",
    RoleEmpty InvalidArgument "etcdserver: role name is empty",
    AuthFailed InvalidArgument "etcdserver: authentication failed, invalid user ID or password",
    PermissionNotGiven InvalidArgument "etcdserver: permission not given",
    PermissionDenied PermissionDenied "etcdserver: permission denied",
    RoleNotGranted FailedPrecondition "etcdserver: role is not granted to the user",
    PermissionNotGranted FailedPrecondition "etcdserver: permission is not granted to the role",
    AuthNotEnabled FailedPrecondition "etcdserver: authentication is not enabled",
    InvalidAuthToken Unauthenticated "etcdserver: invalid auth token",
    InvalidAuthMgmt InvalidArgument "etcdserver: invalid auth management",
    AuthOldRevision InvalidArgument "etcdserver: revision of auth store is old",
    NoLeader Unavailable "etcdserver: no leader",
    NotLeader FailedPrecondition "etcdserver: not leader",
    LeaderChanged Unavailable "etcdserver: leader changed",
    NotCapable FailedPrecondition "etcdserver: not capable",
    Stopped Unavailable "etcdserver: server stopped",
    Timeout Unavailable "etcdserver: request timed out",
    TimeoutDueToLeaderFail Unavailable "etcdserver: request timed out, possibly due to previous leader failure",
    TimeoutDueToConnectionLost Unavailable "etcdserver: request timed out, possibly due to connection lost",
    TimeoutWaitAppliedIndex Unavailable "etcdserver: request timed out, waiting for the applied index took too long",
    Unhealthy Unavailable "etcdserver: unhealthy cluster",
    Corrupt DataLoss "etcdserver: corrupt cluster",
    NotSupportedForLearner FailedPrecondition "etcdserver: rpc not supported for learner",
    BadLeaderTransferee FailedPrecondition "etcdserver: bad leader transferee",
    WrongDowngradeVersionFormat InvalidArgument "etcdserver: wrong downgrade target version format",
    InvalidDowngradeTargetVersion InvalidArgument "etcdserver: invalid downgrade target version",
    ClusterVersionUnavailable FailedPrecondition "etcdserver: cluster version not found during downgrade",
    DowngradeInProcess FailedPrecondition "etcdserver: cluster has a downgrade job in progress",
    NoInflightDowngrade FailedPrecondition "etcdserver: no inflight downgrade job",
    Canceled Canceled "etcdserver: request canceled",
    DeadlineExceeded DeadlineExceeded "etcdserver: context deadline exceeded",
    /// Not in etcd's table: it escapes unmapped (M-7, finding 0.2).
    TimeoutLeaderTransfer Unknown "etcdserver: request timed out, leader transfer took too long",
    /// Not in etcd's table: it escapes unmapped (L-8, finding 0.2).
    NotPrimaryLessor Unknown "not a primary lessor",
}

impl From<Error> for Status {
    fn from(error: Error) -> Status {
        let (code, text) = error.row();
        Status { code: code as u32, message: text.to_string() }
    }
}

impl From<ApplyError> for Error {
    fn from(error: ApplyError) -> Error {
        match error {
            ApplyError::EmptyKey => Error::EmptyKey,
            ApplyError::KeyNotFound => Error::KeyNotFound,
            ApplyError::ValueProvided => Error::ValueProvided,
            ApplyError::LeaseProvided => Error::LeaseProvided,
            ApplyError::TooManyOps => Error::TooManyOps,
            ApplyError::DuplicateKey => Error::DuplicateKey,
            ApplyError::InvalidSortOption => Error::InvalidSortOption,
            ApplyError::Compacted => Error::Compacted,
            ApplyError::FutureRevision => Error::FutureRev,
            ApplyError::NoSpace => Error::NoSpace,
            ApplyError::Corrupt => Error::Corrupt,
            ApplyError::LeaseNotFound => Error::LeaseNotFound,
            ApplyError::LeaseExist => Error::LeaseExist,
            ApplyError::LeaseTtlTooLarge => Error::LeaseTtlTooLarge,
            ApplyError::MemberExist => Error::MemberExist,
            ApplyError::PeerUrlExist => Error::PeerUrlExist,
            ApplyError::MemberNotFound => Error::MemberNotFound,
            ApplyError::MemberNotLearner => Error::MemberNotLearner,
            ApplyError::TooManyLearners => Error::TooManyLearners,
            ApplyError::MemberNotEnoughStarted => Error::MemberNotEnoughStarted,
        }
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Error {
        match refusal {
            Refusal::NoLeader => Error::NoLeader,
            Refusal::LeaderChanged => Error::LeaderChanged,
            Refusal::Timeout => Error::Timeout,
            Refusal::Stopped => Error::Stopped,
            Refusal::TooManyRequests => Error::RequestTooManyRequests,
            Refusal::NoSpace => Error::NoSpace,
            Refusal::NotPrimaryLessor => Error::NotPrimaryLessor,
            Refusal::DeadlineExceeded => Error::DeadlineExceeded,
            Refusal::NotLeader => Error::NotLeader,
            Refusal::LearnerNotReady => Error::LearnerNotReady,
            // etcd lets such a request wait until its time is up.
            Refusal::ChangeUnderWay => Error::Timeout,
            Refusal::BadLeaderTransferee => Error::BadLeaderTransferee,
            Refusal::Corrupt => Error::Corrupt,
        }
    }
}

impl From<ApplyError> for Status {
    fn from(error: ApplyError) -> Status {
        Error::from(error).into()
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Status {
        match refusal {
            // Not etcd's words but those of Go's gRPC for a context that ended (G-11).
            Refusal::DeadlineExceeded => other(Code::DeadlineExceeded, "context deadline exceeded"),
            refusal => Error::from(refusal).into(),
        }
    }
}

impl From<MvccError> for Status {
    fn from(error: MvccError) -> Status {
        match error {
            MvccError::Compacted => Error::Compacted.into(),
            MvccError::FutureRevision => Error::FutureRev.into(),
            // What is on this member's disk cannot be read: another member may still have it.
            MvccError::Log(error) => Status { code: Code::DataLoss as u32, message: error.to_string() },
        }
    }
}

impl From<ReadError> for Status {
    fn from(error: ReadError) -> Status {
        match error {
            ReadError::Refused(error) => error.into(),
            ReadError::Log(error) => MvccError::Log(error).into(),
        }
    }
}

/// Success.
pub fn ok() -> Status {
    Status { code: Code::Ok as u32, message: String::new() }
}

/// A status that is not in etcd's table.
pub fn other(code: Code, message: impl Into<String>) -> Status {
    Status { code: code as u32, message: message.into() }
}

/// grpc-go's answer to a call without a handler.
pub fn unimplemented(method: &cetera_proto::services::Method) -> Status {
    other(Code::Unimplemented, format!("unknown method {} for service {}", method.name, method.service))
}

/// grpc-go's answer to a message that is not one.
pub fn malformed(_: &prost::DecodeError) -> Status {
    other(Code::Internal, "grpc: error unmarshalling request: proto: cannot parse invalid wire-format data".to_owned())
}

#[cfg(test)]
mod tests;
