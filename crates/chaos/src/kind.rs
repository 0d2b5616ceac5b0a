//! The kinds of faults, and what each needs.

/// A kind of fault.
#[derive(Copy, Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
#[allow(missing_docs)] // Their names say what they are, and the table in docs/internals/testing.md how they are done.
pub enum Kind {
    Kill,
    KillInStart,
    KillSome,
    KillAll,
    Pause,
    PauseSome,
    Terminate,
    Rolling,
    MoveLeader,
    Replace,
    Partition,
    Loss,
    Delay,
    Hold,
    Reset,
    Refuse,
    Split,
    IsolateLeader,
    Isolate,
    OneWay,
    Bridge,
    LinkLoss,
    LinkDelay,
    LinkHold,
    LinkReset,
    FullDisk,
    NoSpace,
    SlowDisk,
    FailedSync,
    FailedWrite,
    WallClock,
    ClockJump,
}

/// What a kind of fault cannot do without.
#[derive(Copy, Clone, Debug, Default, Eq, PartialEq)]
pub struct Needs {
    /// Members.
    pub members: usize,
    /// A packet filter.
    pub filter: bool,
    /// Proxies between members; without them members are joined directly, and only then packets can be dropped there.
    pub links: Option<Joined>,
    /// A small disk.
    pub disk: bool,
    /// A server that obeys hooks.
    pub hooks: bool,
}

/// How members are joined.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Joined {
    /// Straight.
    Directly,
    /// Through proxies.
    ByProxies,
}

impl Kind {
    /// All, with their names.
    pub const ALL: [(Kind, &'static str); 32] = [
        (Kind::Kill, "kill"),
        (Kind::KillInStart, "kill during start"),
        (Kind::KillSome, "kill several"),
        (Kind::KillAll, "kill all"),
        (Kind::Pause, "pause"),
        (Kind::PauseSome, "pause several"),
        (Kind::Terminate, "SIGTERM"),
        (Kind::Rolling, "rolling restart"),
        (Kind::MoveLeader, "leadership moved"),
        (Kind::Replace, "member replaced"),
        (Kind::Partition, "cut off from clients"),
        (Kind::Loss, "packet loss to clients"),
        (Kind::Delay, "delay"),
        (Kind::Hold, "held connections"),
        (Kind::Reset, "reset connections"),
        (Kind::Refuse, "refused connections"),
        (Kind::Split, "partition in two"),
        (Kind::IsolateLeader, "isolated leader"),
        (Kind::Isolate, "isolated member"),
        (Kind::OneWay, "one-way cut"),
        (Kind::Bridge, "bridge"),
        (Kind::LinkLoss, "packet loss between members"),
        (Kind::LinkDelay, "delay between members"),
        (Kind::LinkHold, "held links"),
        (Kind::LinkReset, "reset links"),
        (Kind::FullDisk, "full disk"),
        (Kind::NoSpace, "no space"),
        (Kind::SlowDisk, "slow disk"),
        (Kind::FailedSync, "failed sync"),
        (Kind::FailedWrite, "failed write"),
        (Kind::WallClock, "time of day"),
        (Kind::ClockJump, "clock jump"),
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        Kind::ALL.iter().find(|(kind, _)| *kind == self).map_or("?", |(_, name)| name)
    }

    /// Those that these names name.
    ///
    /// # Errors
    /// There is none of a name.
    pub fn named(names: &[&str]) -> Result<Vec<Kind>, String> {
        let known = || Kind::ALL.map(|(_, name)| name).join(", ");
        let of = |wanted: &&str| Kind::ALL.iter().find(|(_, name)| name == wanted).map(|(kind, _)| *kind);
        names.iter().map(|name| of(name).ok_or_else(|| format!("no fault {name:?}; known: {}", known()))).collect()
    }

    /// What it needs.
    pub fn needs(self) -> Needs {
        let one = Needs { members: 1, ..Needs::default() };
        let group = Needs { members: 3, ..one };
        let links = |joined| Needs { links: Some(joined), ..group };
        match self {
            Kind::KillSome | Kind::KillAll | Kind::PauseSome | Kind::Rolling | Kind::MoveLeader | Kind::Replace => {
                group
            }
            Kind::Partition | Kind::Loss => Needs { filter: true, ..one },
            Kind::Split | Kind::IsolateLeader | Kind::Isolate | Kind::OneWay | Kind::Bridge | Kind::LinkLoss => {
                Needs { filter: true, ..links(Joined::Directly) }
            }
            Kind::LinkDelay | Kind::LinkHold | Kind::LinkReset => links(Joined::ByProxies),
            Kind::FullDisk => Needs { disk: true, ..one },
            Kind::NoSpace
            | Kind::SlowDisk
            | Kind::FailedSync
            | Kind::FailedWrite
            | Kind::WallClock
            | Kind::ClockJump => Needs { hooks: true, ..one },
            _ => one,
        }
    }

    /// Whether it is done to all members together rather than to one.
    pub fn is_of_all(self) -> bool {
        self.needs().members > 1
    }

    /// The kind that it cannot be on a member together with, for they would undo each other.
    pub fn slot(self) -> Kind {
        match self {
            Kind::KillInStart | Kind::Terminate => Kind::Kill,
            Kind::LinkDelay | Kind::LinkReset => Kind::LinkHold,
            Kind::NoSpace | Kind::FailedWrite => Kind::FailedSync,
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_kind_is_listed_once() {
        let kinds: BTreeSet<Kind> = Kind::ALL.iter().map(|(kind, _)| *kind).collect();
        assert_eq!(kinds.len(), Kind::ALL.len());
        assert_eq!(Kind::ClockJump as usize + 1, Kind::ALL.len());
    }
}
