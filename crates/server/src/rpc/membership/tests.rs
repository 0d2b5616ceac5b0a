use super::*;

const NOW: u64 = 100_000;
const LONG_AGO: u64 = 1_000;
/// Connected, but not for long enough.
const JUST_NOW: u64 = NOW - HEALTHY_AFTER_MS + 1;

/// Members by words: `v` a voter that is started, `u` one that is not, `l` a learner; then how it is connected to the
/// first, which is this one: nothing for a long time, `?` only just, `-` not at all. Ids count from 1.
struct Group {
    members: Vec<Member>,
    since: Vec<Option<u64>>,
}

impl Group {
    fn of(words: &str) -> Group {
        let (mut members, mut since) = (Vec::new(), Vec::new());
        for (id, word) in (1..).zip(words.split_whitespace()) {
            let (kind, connection) = word.split_at(1);
            members.push(Member {
                id,
                is_learner: kind == "l",
                name: if kind == "u" { String::new() } else { format!("m{id}") },
                peer_urls: vec![format!("http://{id}:2380")],
                ..Member::default()
            });
            since.push(match connection {
                "" => Some(LONG_AGO),
                "?" => Some(JUST_NOW),
                "-" => None,
                other => panic!("{other}"),
            });
        }
        Group { members, since }
    }

    fn ask<T>(&self, strict: bool, ask: impl FnOnce(&Known<'_>) -> T) -> T {
        let since = |id: u64| self.since.get(id as usize - 1).copied().flatten();
        ask(&Known { myself: 1, members: &self.members, connected_since_ms: &since, now_ms: NOW, strict })
    }
}

const NOT_STARTED: Result<(), Error> = Err(Error::MemberNotEnoughStarted);
const UNHEALTHY: Result<(), Error> = Err(Error::Unhealthy);

/// C-2, C-3.
#[test]
fn additions() {
    for (words, voter, learner) in [
        ("v", Ok(()), Ok(())),
        // The second of two has not come yet.
        ("v u-", NOT_STARTED, UNHEALTHY),
        ("v u", NOT_STARTED, Ok(())),
        ("v v", Ok(()), Ok(())),
        ("v v?", UNHEALTHY, UNHEALTHY),
        ("v v-", UNHEALTHY, UNHEALTHY),
        ("v v v", Ok(()), Ok(())),
        // Three of four are a quorum, two are not.
        ("v v v-", UNHEALTHY, UNHEALTHY),
        ("v v v?", UNHEALTHY, UNHEALTHY),
        ("v v u", NOT_STARTED, Ok(())),
        ("v v v v-", Ok(()), Ok(())),
        ("v v v u-", Ok(()), Ok(())),
        ("v v v v- v-", UNHEALTHY, UNHEALTHY),
        // Learners are not counted, neither for nor against.
        ("v v v l-", Ok(()), Ok(())),
        ("v v- l", UNHEALTHY, UNHEALTHY),
        ("v l-", Ok(()), Ok(())),
    ] {
        let group = Group::of(words);
        assert_eq!(group.ask(true, |known| known.may_add(false)), voter, "a voter to {words}");
        assert_eq!(group.ask(true, |known| known.may_add(true)), learner, "a learner to {words}");
        assert_eq!(group.ask(false, |known| known.may_add(false)), Ok(()), "{words} without checks");
    }
}

/// C-4.
#[test]
fn removals() {
    for (words, id, result) in [
        ("v", 1, NOT_STARTED),
        ("v u-", 1, NOT_STARTED),
        ("v u-", 2, Ok(())),
        // Of two that are well, each is needed.
        ("v v", 2, Ok(())),
        ("v v", 1, Ok(())),
        ("v v?", 2, UNHEALTHY),
        ("v v-", 2, Ok(())),
        ("v v-", 1, UNHEALTHY),
        ("v v v", 3, Ok(())),
        ("v v v-", 3, Ok(())),
        ("v v v-", 2, UNHEALTHY),
        ("v v v-", 1, UNHEALTHY),
        ("v v v?", 2, UNHEALTHY),
        ("v v u", 1, NOT_STARTED),
        ("v v u", 3, Ok(())),
        ("v v v v-", 2, Ok(())),
        ("v v v v- v-", 2, UNHEALTHY),
        ("v v v v- v-", 4, Ok(())),
        // A learner goes whatever the rest is like.
        ("v v- v- l", 4, Ok(())),
        // Who is not there is refused when the change is applied.
        ("v v v", 9, Ok(())),
        ("v", 9, Ok(())),
    ] {
        let group = Group::of(words);
        assert_eq!(group.ask(true, |known| known.may_remove(id)), result, "{id} of {words}");
        assert_eq!(group.ask(false, |known| known.may_remove(id)), Ok(()), "{id} of {words} without checks");
    }
}

/// C-6: with voters enough nothing is asked here; without, what etcd looks at first comes first.
#[test]
fn promotions() {
    let not_ready = Err(Error::LearnerNotReady);
    for (words, id, matched, result) in [
        ("v l", 2, &[(1, 10), (2, 0)][..], Ok(())),
        ("v l", 9, &[(1, 10), (2, 0)], Ok(())),
        ("v u- l", 3, &[(1, 10), (2, 0), (3, 0)], Ok(())),
        ("v u- u- l", 4, &[(1, 100), (2, 0), (3, 0), (4, 90)], NOT_STARTED),
        ("v u- u- l", 4, &[(1, 100), (2, 0), (3, 0), (4, 89)], not_ready),
        ("v u- u- l", 4, &[(1, u64::MAX), (2, 0), (3, 0), (4, u64::MAX / 2)], not_ready),
        ("v u- u- l", 9, &[(1, 100), (2, 0), (3, 0), (4, 100)], Err(Error::MemberNotFound)),
    ] {
        let group = Group::of(words);
        assert_eq!(group.ask(true, |known| known.may_promote(id, matched)), result, "{id} of {words} at {matched:?}");
        assert_eq!(group.ask(false, |known| known.may_promote(id, matched)), Ok(()), "{words} without checks");
    }
}

#[test]
fn a_quorum_that_held() {
    for (words, since, held) in [
        ("v", LONG_AGO, true),
        ("v v", LONG_AGO, true),
        ("v v", LONG_AGO - 1, false),
        ("v v v-", LONG_AGO, true),
        ("v v? v-", LONG_AGO, false),
        ("v v? v-", JUST_NOW, true),
        // Of all members: a learner counts here.
        ("v v- l", LONG_AGO, true),
    ] {
        assert_eq!(Group::of(words).ask(true, |known| known.had_quorum_since(since)), held, "{words} since {since}");
    }
}

/// C-1.
#[test]
fn urls_of_a_member() {
    let urls = |list: &[&str]| peer_urls(&list.iter().map(|url| url.to_string()).collect::<Vec<_>>());
    let sorted = urls(&[" http://b:2 ", "HTTPS://[::1]:3", "http://a:1", "unix:///run/p"]).expect("good");
    assert_eq!(sorted, ["http://a:1", "http://b:2", "https://[::1]:3", "unix:/run/p"]);
    for bad in [
        &[][..],
        &[""],
        &["localhost:2380"],
        &["ftp://a:1"],
        &["http://a"],
        &["http://a:1/"],
        &["http://a:1/path"],
        &["http://a:port"],
        &["http://a b:1"],
        &["http://a:1", "nonsense"],
    ] {
        assert_eq!(urls(bad), Err(Error::MemberBadUrls), "{bad:?}");
    }
}
