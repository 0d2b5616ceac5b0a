//! Which versions the group decides on, as functions of what its members say (V-1, V-4; etcd `version.Monitor`).

use cetera_state::version::Version;

/// Cluster version while not all members have been heard (`MinClusterVersion`).
pub(crate) const CLUSTER_VERSION_MIN: Version = Version { major: 3, minor: 0, patch: 0 };

/// What the leader knows when it decides.
#[derive(Clone, Debug)]
pub(super) struct Known<'a> {
    /// The cluster's version, if one is decided.
    pub(super) cluster: Option<Version>,
    /// Server version of every member; `None` of one that did not answer.
    pub(super) servers: &'a [Option<Version>],
    /// Where a downgrade under way goes.
    pub(super) downgrade: Option<Version>,
}

/// A downgrade that leads nowhere: `target` is not one minor version below `from`.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub(super) struct InvalidTarget {
    /// The version it would start from.
    pub(super) from: Version,
    /// Where it should go.
    pub(super) target: Version,
}

/// The next cluster version; `None` leaves it as it is.
///
/// # Errors
/// The downgrade under way goes nowhere.
pub(super) fn cluster_version(known: &Known<'_>) -> Result<Option<Version>, InvalidTarget> {
    let lowest = known.servers.iter().copied().collect::<Option<Vec<_>>>().and_then(|all| all.into_iter().min());
    let Some(cluster) = known.cluster else {
        return Ok(Some(lowest.map_or(CLUSTER_VERSION_MIN, minor)));
    };
    let Some(lowest) = lowest else { return Ok(None) };
    if let Some(target) = known.downgrade {
        if target == cluster {
            return Ok(None);
        }
        return match [cluster, lowest].into_iter().find(|from| !is_one_below(target, *from)) {
            Some(from) => Err(InvalidTarget { from, target }),
            None => Ok(Some(target)),
        };
    }
    let lowest = minor(lowest);
    let rises = lowest.major == cluster.major && cluster < lowest;
    Ok(rises.then_some(lowest))
}

/// The level of our own features that the group may rise to: no more than every member knows, `None` from a member
/// meaning that it is no Cetera or did not answer; and no more than is wanted. `None` leaves it as it is.
pub(super) fn feature_level(present: u64, wanted: u64, known_by: &[Option<u64>]) -> Option<u64> {
    let all = known_by.iter().copied().collect::<Option<Vec<_>>>()?.into_iter().min()?;
    Some(all.min(wanted)).filter(|level| *level > present)
}

fn minor(version: Version) -> Version {
    Version { patch: 0, ..version }
}

fn is_one_below(target: Version, from: Version) -> bool {
    from.minor.checked_sub(1).is_some_and(|minor| target == Version { major: from.major, minor, patch: 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v(text: &str) -> Option<Version> {
        Version::parse(text)
    }

    /// V-1, V-4.
    #[test]
    fn the_cluster_version_is_the_lowest_servers() {
        for (cluster, servers, downgrade, next) in [
            // Nothing decided: the lowest, or the minimum while somebody is not heard.
            ("", &["3.7.1", "3.7.0"][..], "", "3.7.0"),
            ("", &["3.7.1", "3.6.4"], "", "3.6.0"),
            ("", &["3.7.1", ""], "", "3.0.0"),
            // It rises when all are heard, and never falls by itself.
            ("3.0.0", &["3.7.1", "3.7.1"], "", "3.7.0"),
            ("3.0.0", &["3.7.1", ""], "", ""),
            ("3.6.0", &["3.7.1", "3.6.9"], "", ""),
            ("3.7.0", &["3.7.1"], "", ""),
            ("3.7.0", &["3.7.1", "3.6.0"], "", ""),
            ("3.7.0", &["4.0.0"], "", ""),
            // A downgrade, once; while somebody is not heard it waits.
            ("3.7.0", &["3.7.1", "3.7.0"], "3.6.0", "3.6.0"),
            ("3.7.0", &["3.7.1", ""], "3.6.0", ""),
            ("3.6.0", &["3.7.1", "3.6.0"], "3.6.0", ""),
        ] {
            let servers: Vec<_> = servers.iter().map(|text| v(text)).collect();
            let known = Known { cluster: v(cluster), servers: &servers, downgrade: v(downgrade) };
            assert_eq!(cluster_version(&known), Ok(v(next)), "{known:?}");
        }
        let servers = [v("3.7.1"), v("3.6.0")];
        let known = |cluster: &str, target: &str| {
            cluster_version(&Known { cluster: v(cluster), servers: &servers, downgrade: v(target) })
        };
        let error =
            |from: &str, target: &str| Err(InvalidTarget { from: v(from).unwrap(), target: v(target).unwrap() });
        assert_eq!(known("3.7.0", "3.5.0"), error("3.7.0", "3.5.0"));
        assert_eq!(known("3.7.0", "3.6.0"), error("3.6.0", "3.6.0"));
    }

    #[test]
    fn the_feature_level_waits_for_the_last_member() {
        for (present, wanted, known_by, next) in [
            (0, 1, &[Some(1), Some(1), Some(2)][..], Some(1)),
            (0, 2, &[Some(1), Some(2)], Some(1)),
            (0, 0, &[Some(1)], None),
            (1, 1, &[Some(1)], None),
            // An etcd, or one that is not heard, would stop at the entry.
            (0, 1, &[Some(1), None], None),
            (0, 1, &[Some(0), Some(1)], None),
            (0, 1, &[], None),
        ] {
            assert_eq!(feature_level(present, wanted, known_by), next, "{present} {wanted} {known_by:?}");
        }
    }
}
