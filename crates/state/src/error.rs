//! The two ways a request can fail: with a reply that is the same on all members, or by stopping the node. The type
//! says which; nothing else may leave apply.

use std::fmt;

use cetera_mvcc::MvccError;
use cetera_storage::revlog::LogError;

/// A refusal that follows from the log and the replicated state alone, so every member reaches it. Names are those of
/// contract 1.10, where code and text of each stand. It costs a log index and no revision (D-9).
#[derive(Copy, Clone, Debug, Eq, Hash, PartialEq)]
pub enum ApplyError {
    /// KV-1: no key given.
    EmptyKey,
    /// KV-15, TX-2: a key that must exist does not; or an empty operation in a transaction.
    KeyNotFound,
    /// KV-15: `ignore_value` together with a value.
    ValueProvided,
    /// KV-15: `ignore_lease` together with a lease.
    LeaseProvided,
    /// TX-1.
    TooManyOps,
    /// TX-3.
    DuplicateKey,
    /// KV-6.
    InvalidSortOption,
    /// KV-2, KV-18.
    Compacted,
    /// KV-2, KV-18.
    FutureRevision,
    /// an alarm NOSPACE is active.
    NoSpace,
    /// an alarm CORRUPT is active.
    Corrupt,
    /// KV-16, L-4.
    LeaseNotFound,
    /// L-1.
    LeaseExist,
    /// L-3.
    LeaseTtlTooLarge,
    /// The id of a member to be added is taken.
    MemberExist,
    /// C-1: another member has one of the peer URLs.
    PeerUrlExist,
    /// C-4: unknown, or removed earlier; a removed id never returns.
    MemberNotFound,
    /// C-6.
    MemberNotLearner,
    /// C-3.
    TooManyLearners,
    /// C-4: the change would leave no voter.
    MemberNotEnoughStarted,
}

impl fmt::Display for ApplyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::EmptyKey => "no key given",
            Self::KeyNotFound => "key not found",
            Self::ValueProvided => "a value was given although it is to be ignored",
            Self::LeaseProvided => "a lease was given although it is to be ignored",
            Self::TooManyOps => "too many operations in a transaction",
            Self::DuplicateKey => "a transaction changes a key twice",
            Self::InvalidSortOption => "unknown sort order or target",
            Self::Compacted => "the revision has been compacted",
            Self::FutureRevision => "the revision is in the future",
            Self::NoSpace => "out of space: an alarm is active",
            Self::Corrupt => "corruption: an alarm is active",
            Self::LeaseNotFound => "lease not found",
            Self::LeaseExist => "lease exists",
            Self::LeaseTtlTooLarge => "lease time to live is too large",
            Self::MemberExist => "member exists",
            Self::PeerUrlExist => "peer URL in use",
            Self::MemberNotFound => "member not found",
            Self::MemberNotLearner => "member is not a learner",
            Self::TooManyLearners => "too many learners",
            Self::MemberNotEnoughStarted => "no voter would be left",
        })
    }
}

impl std::error::Error for ApplyError {}

/// The member cannot go on applying: going on would make it differ from the others.
#[derive(Debug)]
pub enum Fatal {
    /// The bytes of a committed entry are not what they must be.
    Malformed {
        /// Log index of the entry.
        index: u64,
        /// What is wrong.
        what: String,
    },
    /// A committed entry holds a request this build does not know: it is older than the log it follows.
    UnknownRequest {
        /// Log index of the entry.
        index: u64,
        /// Its field number in `InternalRaftRequest`.
        field: u32,
    },
    /// The group raised the feature level above what this build knows.
    FeatureLevel {
        /// The level in the log, or in the checkpoint.
        level: u64,
        /// The highest this build knows.
        known: u64,
    },
    /// The cluster's version is above this server's (V-2).
    ClusterVersion {
        /// The cluster's.
        cluster: crate::version::Version,
        /// This server's.
        server: crate::version::Version,
    },
    /// The revision log failed.
    Log(LogError),
}

impl fmt::Display for Fatal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed { index, what } => write!(f, "entry {index} is malformed: {what}"),
            Self::UnknownRequest { index, field } => {
                write!(f, "entry {index} holds request {field}, which this version does not know")
            }
            Self::FeatureLevel { level, known } => {
                write!(f, "the cluster is at feature level {level}, this version knows {known}")
            }
            Self::ClusterVersion { cluster, server } => {
                write!(
                    f,
                    "invalid downgrade; server version is lower than determined cluster version \
                     (server {server}, cluster {cluster})"
                )
            }
            Self::Log(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Fatal {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Log(error) => Some(error),
            _ => None,
        }
    }
}

impl From<LogError> for Fatal {
    fn from(error: LogError) -> Self {
        Self::Log(error)
    }
}

/// Inside apply: either kind. [`split`] sorts them at its edge.
#[derive(Debug)]
pub(crate) enum Failure {
    Refused(ApplyError),
    Fatal(Fatal),
}

impl From<ApplyError> for Failure {
    fn from(error: ApplyError) -> Self {
        Self::Refused(error)
    }
}

impl From<Fatal> for Failure {
    fn from(error: Fatal) -> Self {
        Self::Fatal(error)
    }
}

impl From<LogError> for Failure {
    fn from(error: LogError) -> Self {
        Self::Fatal(Fatal::Log(error))
    }
}

impl From<MvccError> for Failure {
    fn from(error: MvccError) -> Self {
        match error {
            MvccError::Compacted => Self::Refused(ApplyError::Compacted),
            MvccError::FutureRevision => Self::Refused(ApplyError::FutureRevision),
            MvccError::Log(error) => Self::Fatal(Fatal::Log(error)),
        }
    }
}

/// Sorts a result into what is replied and what stops the node.
pub(crate) fn split<T>(result: Result<T, Failure>) -> Result<Result<T, ApplyError>, Fatal> {
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(Failure::Refused(error)) => Ok(Err(error)),
        Err(Failure::Fatal(fatal)) => Err(fatal),
    }
}
