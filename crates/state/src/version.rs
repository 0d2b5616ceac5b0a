//! What the group has decided about versions: the cluster version (V-1), a downgrade under way (M-8), and the level of
//! features of our own that every member has. Holds decisions; deciding is the leader's work, not this crate's.

use std::fmt;

use crate::error::Fatal;

/// A version of the server or the cluster.
#[derive(Copy, Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Version {
    /// First number.
    pub major: u64,
    /// Second number.
    pub minor: u64,
    /// Third number; 0 in cluster versions.
    pub patch: u64,
}

impl Version {
    /// What this server reports and compares with.
    pub const SERVER: Version = Version { major: 3, minor: 7, patch: 1 };

    /// Reads `3.7.0`. As lenient as what etcd uses (`semver.NewVersion`): a leading `v`, missing numbers, and a
    /// pre-release or build suffix, which is dropped.
    pub fn parse(text: &str) -> Option<Version> {
        let text = text.strip_prefix('v').unwrap_or(text);
        let core = text.split(['-', '+']).next().unwrap_or_default();
        let mut numbers = [0u64; 3];
        for (i, part) in core.split('.').enumerate() {
            if part.is_empty() || !part.bytes().all(|b| b.is_ascii_digit()) {
                return None;
            }
            *numbers.get_mut(i)? = part.parse().ok()?;
        }
        let [major, minor, patch] = numbers;
        Some(Version { major, minor, patch })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// A downgrade job as replicated (etcd `version.DowngradeInfo`).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct DowngradeInfo {
    /// Whether a job is under way.
    pub enabled: bool,
    /// Where it goes; empty without a job.
    pub target_version: String,
}

/// The highest feature level this build can apply. Level 0 is etcd's log and nothing else; level 1 says that every
/// member is Cetera and reads `feature_level_set`. A change of what an entry means takes the next number.
pub const KNOWN_FEATURE_LEVEL: u64 = 1;

/// The replicated decisions.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Versions {
    pub(crate) cluster: Option<Version>,
    pub(crate) downgrade: DowngradeInfo,
    pub(crate) feature_level: u64,
}

impl Versions {
    /// The decided cluster version, None until the first decision.
    pub fn cluster(&self) -> Option<Version> {
        self.cluster
    }

    /// The downgrade job.
    pub fn downgrade(&self) -> &DowngradeInfo {
        &self.downgrade
    }

    /// The feature level all members have.
    pub fn feature_level(&self) -> u64 {
        self.feature_level
    }

    /// A new cluster version. Fatal if this server is older than it (V-2; etcd `MustDetectDowngrade`).
    pub(crate) fn set_cluster(&mut self, cluster: Version, server: Version) -> Result<(), Fatal> {
        if (server.major, server.minor) < (cluster.major, cluster.minor) {
            return Err(Fatal::ClusterVersion { cluster, server });
        }
        self.cluster = Some(cluster);
        Ok(())
    }

    pub(crate) fn set_downgrade(&mut self, enabled: bool, target: &str) {
        self.downgrade =
            DowngradeInfo { enabled, target_version: if enabled { target.to_owned() } else { String::new() } };
    }

    /// Raises the feature level; a lower one changes nothing. Fatal if `known` is below it.
    pub(crate) fn raise_feature_level(&mut self, level: u64, known: u64) -> Result<(), Fatal> {
        if level > known {
            return Err(Fatal::FeatureLevel { level, known });
        }
        self.feature_level = self.feature_level.max(level);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v(major: u64, minor: u64, patch: u64) -> Option<Version> {
        Some(Version { major, minor, patch })
    }

    #[test]
    fn versions_parse_as_leniently_as_etcd_reads_them() {
        for (text, want) in [
            ("3.7.0", v(3, 7, 0)),
            ("v3.6", v(3, 6, 0)),
            ("3.8.0-alpha.0", v(3, 8, 0)),
            ("3.7.1+cetera", v(3, 7, 1)),
            ("3", v(3, 0, 0)),
            ("", None),
            ("3..1", None),
            ("3.7.0.1", None),
            ("3.x", None),
            ("3.99999999999999999999", None),
        ] {
            assert_eq!(Version::parse(text), want, "{text}");
        }
        assert_eq!(Version::SERVER.to_string(), "3.7.1");
    }

    /// V-2: patch numbers do not count.
    #[test]
    fn a_cluster_version_above_the_server_is_fatal() {
        let server = Version { major: 3, minor: 7, patch: 1 };
        let mut versions = Versions::default();
        versions.set_cluster(Version { major: 3, minor: 7, patch: 9 }, server).unwrap();
        versions.set_cluster(Version { major: 3, minor: 6, patch: 0 }, server).unwrap();
        let error = versions.set_cluster(Version { major: 3, minor: 8, patch: 0 }, server).unwrap_err();
        assert!(
            error.to_string().contains("lower than determined cluster version (server 3.7.1, cluster 3.8.0)"),
            "{error}"
        );
        assert_eq!(versions.cluster(), v(3, 6, 0));
    }

    #[test]
    fn the_feature_level_only_rises() {
        let mut versions = Versions::default();
        versions.raise_feature_level(2, 3).unwrap();
        versions.raise_feature_level(1, 3).unwrap();
        assert_eq!(versions.feature_level(), 2);
        assert!(matches!(versions.raise_feature_level(4, 3), Err(Fatal::FeatureLevel { level: 4, known: 3 })));
        assert_eq!(versions.feature_level(), 2);
    }

    /// M-8: a finished job leaves no target behind (etcd `DowngradeInfoSet`).
    #[test]
    fn a_cancelled_downgrade_forgets_its_target() {
        let mut versions = Versions::default();
        versions.set_downgrade(true, "3.6.0");
        assert_eq!(versions.downgrade(), &DowngradeInfo { enabled: true, target_version: "3.6.0".into() });
        versions.set_downgrade(false, "3.6.0");
        assert_eq!(versions.downgrade(), &DowngradeInfo::default());
    }
}
