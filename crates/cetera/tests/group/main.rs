//! Members as processes: how a group is founded, what is refused to who would found it again, how a member leaves it.

#![cfg(unix)]

mod member;

use member::{Member, Place, ctl, until};
use std::os::unix::process::ExitStatusExt as _;
use std::time::{Duration, Instant};

/// `--initial-cluster` of these places.
fn cluster(places: &[&Place]) -> String {
    let pairs: Vec<String> = places.iter().map(|place| format!("{}={}", place.name, place.peer)).collect();
    format!("--initial-cluster={}", pairs.join(","))
}

fn three(dir: &tempfile::TempDir) -> [Place; 3] {
    ["one", "two", "three"].map(|name| Place::new(name, dir.path()))
}

fn leader<'a>(members: &'a [(&Place, Member)]) -> &'a (&'a Place, Member) {
    let started = Instant::now();
    loop {
        for member in members {
            // The sixth column of `endpoint status` says whether it leads.
            let status = ctl(&member.0.client, &["endpoint", "status"]).unwrap_or_default();
            if status.split(", ").any(|column| column == "true") {
                return member;
            }
        }
        assert!(started.elapsed() < Duration::from_secs(60), "nobody leads");
    }
}

/// B-1, B-9, R-4, and what an emptied directory is told.
#[test]
fn a_group_is_founded_once_and_its_leader_leaves_in_order() {
    let dir = tempfile::tempdir().expect("a directory");
    let places = three(&dir);
    let all = cluster(&places.each_ref());
    let mut members: Vec<(&Place, Member)> = places.iter().map(|place| (place, place.start(&[&all]))).collect();
    for (_, member) in &members {
        member.is_ready();
        member.says("set initial cluster version");
    }
    for (number, place) in places.iter().enumerate() {
        ctl(&place.client, &["put", &format!("key{number}"), "value"]).expect(place.name);
    }
    for place in &places {
        let keys = ctl(&place.client, &["get", "--prefix", "key", "--keys-only"]).expect("served");
        assert_eq!(keys.split_whitespace().count(), 3, "{}", place.name);
    }

    // The leader is told to end: another one leads before it is gone.
    let at = members.iter().position(|(place, _)| std::ptr::eq(*place, leader(&members).0)).expect("one of them");
    let (place, member) = members.remove(at);
    let began = Instant::now();
    member.terminate();
    let (status, log) = member.ended();
    assert_eq!(status.signal(), Some(15), "{log}");
    assert!(log.contains("leadership transfer finished"), "after {:?}: {log}", began.elapsed());
    for (place, _) in &members {
        ctl(&place.client, &["put", "after", "value"]).expect(place.name);
    }

    // Its directory is lost: it must not found the cluster again.
    std::fs::rename(&place.data, place.data.with_extension("away")).expect("moved");
    let (status, log) = place.start(&[&all]).ended();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("has already been bootstrapped") && log.contains("member remove"), "{log}");
    let (status, log) = place.start(&["--initial-cluster-state=existing", &all]).ended();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("has already been bootstrapped"), "{log}");
    // Nor may somebody else found another one with its peers.
    let (status, log) = place.start(&["--initial-cluster-token=other", &all]).ended();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("is of cluster"), "{log}");
    // With its data it is welcome, whatever the flags say.
    let _ = std::fs::remove_dir_all(&place.data);
    std::fs::rename(place.data.with_extension("away"), &place.data).expect("moved back");
    let back = place.start(&["--initial-cluster=nonsense"]);
    back.is_ready();
    until(&place.client, &["get", "after", "--print-value-only"], |printed| printed.trim() == "value");
}

/// B-6: two of three are lost for good.
#[test]
fn the_last_member_goes_on_alone_when_it_is_forced() {
    let dir = tempfile::tempdir().expect("a directory");
    let places = three(&dir);
    let all = cluster(&places.each_ref());
    let members: Vec<Member> = places.iter().map(|place| place.start(&[&all])).collect();
    members.iter().for_each(Member::is_ready);
    ctl(&places[0].client, &["put", "kept", "value"]).expect("a group");
    until(&places[2].client, &["get", "kept", "--consistency=s", "--print-value-only"], |printed| {
        printed.trim() == "value"
    });
    drop(members);
    let alone = places[2].start(&[&all, "--force-new-cluster"]);
    alone.is_ready();
    assert!(alone.said("forcing restart member"));
    let value = ctl(&places[2].client, &["get", "kept", "--print-value-only"]).expect("served");
    assert_eq!(value.trim(), "value");
    assert_eq!(ctl(&places[2].client, &["member", "list"]).expect("served").lines().count(), 1);
    ctl(&places[2].client, &["put", "more", "value"]).expect("served");
}

/// A member that waits for its group can be ended, and says of itself that it is not healthy.
#[test]
fn a_member_without_its_group_ends_when_it_is_told() {
    let dir = tempfile::tempdir().expect("a directory");
    let places = three(&dir);
    let alone = places[0].start(&[&cluster(&places.each_ref())]);
    alone.says("starting local member");
    alone.says("opened data directory");
    let began = Instant::now();
    alone.terminate();
    let (status, log) = alone.ended();
    assert_eq!(status.signal(), Some(15), "{log}");
    assert!(!log.contains("ready to serve client requests"), "{log}");
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

/// The id in the first column of `member list` of the member with this peer URL.
fn id_of(endpoint: &str, place: &Place) -> String {
    let list = ctl(endpoint, &["member", "list"]).expect("served");
    let line = list.lines().find(|line| line.contains(&place.peer)).expect("a member");
    line.split(", ").next().expect("a column").to_owned()
}

/// B-2, B-7, R-5: one joins, is removed, and stays out.
#[test]
fn a_member_joins_and_once_removed_stays_out() {
    let dir = tempfile::tempdir().expect("a directory");
    let [one, two, three] = three(&dir);
    let members = [&one, &two].map(|place| place.start(&[&cluster(&[&one, &two])]));
    members.iter().for_each(Member::is_ready);
    ctl(&one.client, &["put", "before", "value"]).expect("served");
    // Nobody knows it yet.
    let all = cluster(&[&one, &two, &three]);
    let (status, log) = three.start(&["--initial-cluster-state=existing", &all]).ended();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("member count is unequal"), "{log}");

    let added = until(&one.client, &["member", "add", "three", "--peer-urls", &three.peer], |_| true);
    assert!(added.contains("ETCD_INITIAL_CLUSTER_STATE=\"existing\""), "{added}");
    let joined = three.start(&["--initial-cluster-state=existing", &all]);
    joined.is_ready();
    assert!(joined.said("\"joins\":true"));
    let value = ctl(&three.client, &["get", "before", "--consistency=s", "--print-value-only"]).expect("served");
    assert_eq!(value.trim(), "value");
    ctl(&three.client, &["put", "through", "three"]).expect("served");

    let id = id_of(&one.client, &three);
    until(&one.client, &["member", "remove", &id], |_| true);
    let (status, log) = joined.ended();
    assert_eq!(status.code(), Some(0), "{log}");
    for text in
        ["the member has been permanently removed from the cluster", "data-dir used by this member must be removed"]
    {
        assert!(log.contains(text), "{log}");
    }
    let (status, log) = three.start(&["--initial-cluster-state=existing", &all]).ended();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains("data-dir used by this member must be removed"), "{log}");
    ctl(&two.client, &["put", "after", "value"]).expect("served");
}

/// A learner joins the same way (B-7), and the group agrees on what all its members can do.
#[test]
fn a_learner_joins_and_the_feature_level_rises() {
    let dir = tempfile::tempdir().expect("a directory");
    let [one, two, _] = three(&dir);
    let first = one.start(&[&cluster(&[&one])]);
    first.is_ready();
    until(&one.client, &["member", "add", "two", "--learner", "--peer-urls", &two.peer], |_| true);
    let learner = two.start(&["--initial-cluster-state=existing", &cluster(&[&one, &two])]);
    learner.is_ready();
    until(&two.client, &["get", "none", "--consistency=s"], |printed| printed.is_empty());
    drop(first);
    // Only a test asks for a level: nothing needs one yet.
    let first = one.start_with(&[], &[("CETERA_TEST_FEATURE_LEVEL", "1")]);
    first.is_ready();
    first.says("feature level is updated");
}
