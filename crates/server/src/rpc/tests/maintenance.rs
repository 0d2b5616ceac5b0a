//! MoveLeader and Downgrade.

use super::*;
use cetera_proto::etcdserverpb::downgrade_request::DowngradeAction;

const MOVE_LEADER: &str = "/etcdserverpb.Maintenance/MoveLeader";
const DOWNGRADE: &str = "/etcdserverpb.Maintenance/Downgrade";

#[test]
fn only_a_voter_can_lead() {
    let mut harness = Harness::new();
    for target_id in [0, 1] {
        let status = harness.fails(MOVE_LEADER, &MoveLeaderRequest { target_id });
        assert_eq!(status, Error::BadLeaderTransferee.into());
    }
    // The leader has not far to go.
    let moved: MoveLeaderResponse = harness.ok(MOVE_LEADER, &MoveLeaderRequest { target_id: MEMBER });
    assert_eq!(moved.header, None);
}

fn asking(action: DowngradeAction, version: &str) -> DowngradeRequest {
    DowngradeRequest { action: action as i32, version: version.to_string() }
}

#[test]
fn a_downgrade_goes_one_minor_version_back() {
    let mut harness = Harness::new();
    let validate = |version: &str| asking(DowngradeAction::Validate, version);
    for version in ["3.6.0", "3.6", "v3.6.9"] {
        let response: DowngradeResponse = harness.ok(DOWNGRADE, &validate(version));
        assert_eq!((&*response.version, response.header.expect("a header").revision), ("3.7", 1), "{version}");
    }
    for version in ["3.5.0", "3.7.0", "3.8.0", "2.6.0"] {
        let status = harness.fails(DOWNGRADE, &validate(version));
        assert_eq!(status, Error::InvalidDowngradeTargetVersion.into(), "{version}");
    }
    for version in ["", "nonsense", "3.6.0.0"] {
        let status = harness.fails(DOWNGRADE, &validate(version));
        assert_eq!(status, Error::WrongDowngradeVersionFormat.into(), "{version}");
    }
    let unknown = DowngradeRequest { action: 7, version: "3.6.0".to_string() };
    let status = harness.fails(DOWNGRADE, &unknown);
    assert_eq!((status.code, &*status.message), (2, "etcdserver: unknown method"));
}

#[test]
fn a_downgrade_is_replicated_until_it_is_cancelled() {
    let mut harness = Harness::new();
    let info = |harness: &mut Harness| {
        let status: StatusResponse = harness.ok("/etcdserverpb.Maintenance/Status", &StatusRequest {});
        let info = status.downgrade_info.expect("always told");
        (info.enabled, info.target_version)
    };
    assert_eq!(info(&mut harness), (false, String::new()));
    let enabled: DowngradeResponse = harness.ok(DOWNGRADE, &asking(DowngradeAction::Enable, "3.6"));
    assert_eq!(enabled.version, "3.7");
    assert_eq!(info(&mut harness), (true, "3.6.0".to_string()));
    for action in [DowngradeAction::Enable, DowngradeAction::Validate] {
        assert_eq!(harness.fails(DOWNGRADE, &asking(action, "3.6.0")), Error::DowngradeInProcess.into());
    }
    // The second one finds nothing to cancel, and says so in the log alone.
    for _ in 0..2 {
        let _: DowngradeResponse = harness.ok(DOWNGRADE, &asking(DowngradeAction::Cancel, ""));
        assert_eq!(info(&mut harness), (false, String::new()));
    }
}
