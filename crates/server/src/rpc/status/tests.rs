//! The table, row by row against the contract.

use super::*;

/// Contract 1.10 as it stands there: name, declared code, text.
const CONTRACT: &str = "
EmptyKey | InvalidArgument | etcdserver: key is not provided
KeyNotFound | InvalidArgument | etcdserver: key not found
ValueProvided | InvalidArgument | etcdserver: value is provided
LeaseProvided | InvalidArgument | etcdserver: lease is provided
TooManyOps | InvalidArgument | etcdserver: too many operations in txn request
DuplicateKey | InvalidArgument | etcdserver: duplicate key given in txn request
InvalidClientAPIVersion | InvalidArgument | etcdserver: invalid client api version
InvalidSortOption | InvalidArgument | etcdserver: invalid sort option
Compacted | OutOfRange | etcdserver: mvcc: required revision has been compacted
FutureRev | OutOfRange | etcdserver: mvcc: required revision is a future revision
NoSpace | ResourceExhausted | etcdserver: mvcc: database space exceeded
LeaseNotFound | NotFound | etcdserver: requested lease not found
LeaseExist | FailedPrecondition | etcdserver: lease already exists
LeaseTTLTooLarge | OutOfRange | etcdserver: too large lease TTL
WatchCanceled | Canceled | etcdserver: watch canceled
MemberExist | FailedPrecondition | etcdserver: member ID already exist
PeerURLExist | FailedPrecondition | etcdserver: Peer URLs already exists
MemberNotEnoughStarted | FailedPrecondition¹ | etcdserver: re-configuration failed due to not enough started members
MemberBadURLs | InvalidArgument | etcdserver: given member URLs are invalid
MemberNotFound | NotFound | etcdserver: member not found
MemberNotLearner | FailedPrecondition | etcdserver: can only promote a learner member
LearnerNotReady | FailedPrecondition | etcdserver: can only promote a learner member which is in sync with leader
TooManyLearners | FailedPrecondition | etcdserver: too many learner members in cluster
ClusterIDMismatch | FailedPrecondition | etcdserver: cluster ID mismatch
RequestTooLarge | InvalidArgument | etcdserver: request is too large
RequestTooManyRequests | ResourceExhausted¹ | etcdserver: too many requests
RootUserNotExist | FailedPrecondition | etcdserver: root user does not exist
RootRoleNotExist | FailedPrecondition | etcdserver: root user does not have root role
UserAlreadyExist | FailedPrecondition | etcdserver: user name already exists
UserEmpty | InvalidArgument | etcdserver: user name is empty
UserNotFound | FailedPrecondition | etcdserver: user name not found
RoleAlreadyExist | FailedPrecondition | etcdserver: role name already exists
RoleNotFound | FailedPrecondition | etcdserver: role name not found
RoleEmpty | InvalidArgument | etcdserver: role name is empty
AuthFailed | InvalidArgument | etcdserver: authentication failed, invalid user ID or password
PermissionNotGiven | InvalidArgument | etcdserver: permission not given
PermissionDenied | PermissionDenied | etcdserver: permission denied
RoleNotGranted | FailedPrecondition | etcdserver: role is not granted to the user
PermissionNotGranted | FailedPrecondition | etcdserver: permission is not granted to the role
AuthNotEnabled | FailedPrecondition | etcdserver: authentication is not enabled
InvalidAuthToken | Unauthenticated | etcdserver: invalid auth token
InvalidAuthMgmt | InvalidArgument | etcdserver: invalid auth management
AuthOldRevision | InvalidArgument | etcdserver: revision of auth store is old
NoLeader | Unavailable | etcdserver: no leader
NotLeader | FailedPrecondition | etcdserver: not leader
LeaderChanged | Unavailable | etcdserver: leader changed
NotCapable | FailedPrecondition | etcdserver: not capable
Stopped | Unavailable | etcdserver: server stopped
Timeout | Unavailable | etcdserver: request timed out
TimeoutDueToLeaderFail | Unavailable | etcdserver: request timed out, possibly due to previous leader failure
TimeoutDueToConnectionLost | Unavailable | etcdserver: request timed out, possibly due to connection lost
TimeoutWaitAppliedIndex | Unavailable | etcdserver: request timed out, waiting for the applied index took too long
Unhealthy | Unavailable | etcdserver: unhealthy cluster
Corrupt | DataLoss | etcdserver: corrupt cluster
NotSupportedForLearner | FailedPrecondition | etcdserver: rpc not supported for learner
BadLeaderTransferee | FailedPrecondition | etcdserver: bad leader transferee
WrongDowngradeVersionFormat | InvalidArgument | etcdserver: wrong downgrade target version format
InvalidDowngradeTargetVersion | InvalidArgument | etcdserver: invalid downgrade target version
ClusterVersionUnavailable | FailedPrecondition | etcdserver: cluster version not found during downgrade
DowngradeInProcess | FailedPrecondition | etcdserver: cluster has a downgrade job in progress
NoInflightDowngrade | FailedPrecondition | etcdserver: no inflight downgrade job
Canceled | Canceled | etcdserver: request canceled
DeadlineExceeded | DeadlineExceeded | etcdserver: context deadline exceeded
";

#[test]
fn every_row_of_the_contract() {
    let mut rows = 0;
    for row in CONTRACT.lines().filter(|line| !line.is_empty()) {
        let [name, code, text] = row.split(" | ").collect::<Vec<_>>()[..] else { panic!("not a row: {row}") };
        let wanted = name.to_lowercase();
        let (_, error) = Error::ALL
            .iter()
            .find(|(ours, _)| ours.to_lowercase() == wanted)
            .unwrap_or_else(|| panic!("{name} is not in the table"));
        let (our_code, our_text) = error.row();
        // Finding 0.2: the two marked ones lose their code on the wire.
        let code = if code.ends_with('¹') { "Unknown" } else { code };
        assert_eq!((format!("{our_code:?}").as_str(), our_text), (code, text), "{name}");
        rows += 1;
    }
    // Two of ours are not rows of that table: they escape etcd's mapping.
    assert_eq!(rows + 2, Error::ALL.len());
}

#[test]
fn codes_are_grpcs_numbers() {
    let status = Status::from(Error::LeaderChanged);
    assert_eq!((status.code, status.message.as_str()), (14, "etcdserver: leader changed"));
    assert_eq!(Status::from(Error::Corrupt).code, 15);
    assert_eq!(Status::from(Error::InvalidAuthToken).code, 16);
    assert_eq!(Status::from(Error::Compacted).code, 11);
}
