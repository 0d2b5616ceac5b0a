//! Key entries against etcd's model of a key: generations that end in tombstones.

use cetera_storage::revision::Revision;
use cetera_storage::revlog::Location;

use crate::past::KeyRevision;
use crate::tree::KeyEntry;

/// (main, sub, put?), oldest first.
type Script<'a> = &'a [(i64, i64, bool)];

fn entry(script: Script<'_>) -> KeyEntry {
    let mut entry: Option<KeyEntry> = None;
    for (at, (main, sub, put)) in script.iter().enumerate() {
        let revision = Revision::new(*main, *sub);
        let location = Location { segment: 0, offset: at as u32, len: 1 };
        entry = Some(match entry {
            None => KeyEntry::first_put(revision, location),
            Some(entry) if *put => entry.put(revision, location),
            Some(entry) => entry.delete(revision, location),
        });
    }
    let entry = entry.expect("a script is not empty");
    entry.check_invariants();
    entry
}

/// The revisions that stay, newest first, by generations: the first one whose tombstone is not below the watermark (or
/// the last one) gives its newest revision at or below the watermark; all generations behind it stay whole.
fn kept_by_generations(script: Script<'_>, watermark: i64) -> Vec<Revision> {
    let mut generations = vec![Vec::new()];
    for (main, sub, put) in script {
        generations.last_mut().expect("never empty").push(Revision::new(*main, *sub));
        if !put {
            generations.push(Vec::new());
        }
    }
    let last = generations.len() - 1;
    let first = generations[..last].iter().position(|g| g[g.len() - 1].main >= watermark).unwrap_or(last);
    let generation = &generations[first];
    let from = generation.iter().rposition(|r| r.main <= watermark).unwrap_or(0);
    let mut kept: Vec<_> = generation[from..].to_vec();
    kept.extend(generations[first + 1..].iter().flatten());
    kept.reverse();
    kept
}

fn check(script: Script<'_>) {
    let whole = entry(script);
    let all: Vec<_> = whole.revisions().collect();
    assert_eq!(all.len(), script.len());
    let newest = all[0].modified.main;
    for at in 0..=newest + 1 {
        let expected = all.iter().find(|r| r.modified.main <= at).filter(|r| r.version > 0);
        assert_eq!(whole.at(at), expected.copied(), "{script:?} at {at}");
    }
    for watermark in 0..=newest + 1 {
        let mut trimmed = whole.clone();
        let mut dropped = Vec::new();
        let stays = trimmed.trim(watermark, &mut |r| dropped.push(r));
        let kept: Vec<_> = if stays { trimmed.revisions().collect() } else { Vec::new() };
        let expected = kept_by_generations(script, watermark);
        assert_eq!(kept.iter().map(|r| r.modified).collect::<Vec<_>>(), expected, "{script:?} {watermark}");
        assert_eq!([kept, dropped.clone()].concat(), all, "nothing is lost, nothing is told twice");
        assert_eq!(whole.needs_trim(watermark), !dropped.is_empty());
        assert_eq!(whole.revisions().collect::<Vec<_>>(), all, "a snapshot does not change");
        if stays {
            trimmed.check_invariants();
            assert!(!trimmed.needs_trim(watermark));
            // Reads at or above the watermark see what they saw.
            for at in watermark..=newest + 1 {
                assert_eq!(trimmed.at(at), whole.at(at), "{script:?} trimmed at {watermark}, read at {at}");
            }
        }
    }
}

#[test]
fn reads_and_compactions_of_one_key() {
    check(&[(2, 0, true)]);
    check(&[(2, 0, true), (3, 0, true), (9, 0, true)]);
    check(&[(2, 0, true), (5, 0, false)]);
    check(&[(1, 0, true), (2, 0, true), (3, 0, false), (4, 0, true), (5, 0, false)]);
    check(&[(2, 0, true), (4, 0, true), (6, 0, false), (8, 1, true), (12, 0, true), (14, 1, false), (16, 0, true)]);
    // Several changes in one transaction.
    check(&[(2, 0, true), (5, 0, false), (5, 1, true)]);
    check(&[(2, 0, true), (5, 0, true), (5, 1, false)]);
    check(&[(2, 0, true), (5, 0, false), (5, 1, true), (5, 2, false)]);
    check(&[(2, 0, true), (5, 0, false), (5, 1, true), (5, 2, false), (5, 3, true), (7, 0, true)]);
    check(&[(5, 0, true), (5, 1, false), (5, 2, true), (7, 0, false), (7, 1, true)]);
}

#[test]
fn every_script_of_eight_changes() {
    // Each change: a new transaction or the same one, a delete where the key lives or a put.
    for bits in 0..1u32 << 16 {
        if bits % 5 != 0 && bits & 0x5555 != 0x5555 {
            continue; // a fifth of those with shared transactions is plenty
        }
        let (mut main, mut sub, mut live) = (2, 0, false);
        let mut script = Vec::new();
        for change in 0..8 {
            let (fresh, put) = (bits >> (2 * change) & 1 == 1, bits >> (2 * change + 1) & 1 == 1);
            (main, sub) = if fresh { (main + 1, 0) } else { (main, sub + 1) };
            live = put || !live;
            script.push((main, sub, live));
        }
        check(&script);
    }
}

#[test]
fn versions_and_creation_follow_the_generations() {
    let entry = entry(&[(2, 0, true), (3, 0, true), (5, 0, false), (6, 2, true), (6, 3, true)]);
    let got: Vec<_> = entry.revisions().map(|r| (r.modified.main, r.created, r.version)).collect();
    assert_eq!(got, [(6, 6, 2), (6, 6, 1), (5, 0, 0), (3, 2, 2), (2, 2, 1)]);
    assert!(entry.is_live());
    let revision = |main, sub| Some(Revision::new(main, sub));
    assert_eq!(entry.at(4).map(|r| r.modified), revision(3, 0));
    assert_eq!(entry.at(5), None);
    assert_eq!(entry.at(6).map(|r| r.modified), revision(6, 3));
    assert_eq!(entry.at(1), None);
}

#[test]
fn hash_counts_the_kept_put_but_no_tombstone_at_the_watermark() {
    let entry = entry(&[(2, 0, true), (3, 0, true), (5, 0, false), (7, 0, true), (7, 1, false)]);
    let hashed: Vec<_> = (0..9).map(|at| entry.hashed_below(at).map(|r| (r.main, r.sub))).collect();
    assert_eq!(hashed, [None, None, Some((2, 0)), Some((3, 0)), Some((3, 0)), None, None, None, None]);
    let entry = self::entry(&[(2, 0, true), (5, 0, false), (5, 1, true)]);
    assert_eq!(entry.hashed_below(5), None);
    assert_eq!(entry.hashed_below(6), Some(Revision::new(5, 1)));
}

#[test]
fn relocation_reaches_all_revisions() {
    let mut entry = entry(&[(2, 0, true), (3, 0, true), (5, 0, false), (6, 0, true)]);
    let to = |n| Location { segment: 9, offset: n, len: 1 };
    assert!(entry.relocate_one(Revision::new(6, 0), to(6)));
    assert!(entry.relocate_one(Revision::new(2, 0), to(2)));
    assert!(!entry.relocate_one(Revision::new(4, 0), to(4)));
    let changed = entry.relocate(&mut |r, from| (from.segment == 0).then_some(to(r.main as u32)));
    assert_eq!(changed, 2);
    assert!(entry.revisions().all(|r: KeyRevision| r.location == to(r.modified.main as u32)));
}

#[test]
#[should_panic(expected = "delete at")]
fn a_deleted_key_is_not_deleted_again() {
    entry(&[(2, 0, true), (3, 0, false), (4, 0, false)]);
}

#[test]
fn an_entry_is_small() {
    assert_eq!(size_of::<KeyEntry>(), 48);
}
