//! Faults of the network: between clients and members, and among members.

use cetera_bench::rng::Rng;
use tokio::time::sleep;

use super::{Stage, millis};
use crate::kind::Kind;
use crate::links::{ALL, End, Link, between, member_link};
use crate::proxy::{Direction, Way};

impl Stage {
    /// Packets between clients and a member are dropped, all of them or some.
    pub(super) async fn cut_off(&self, kind: Kind, member: usize, rng: &mut Rng) -> Result<bool, String> {
        let there = Link { from: End::Clients, to: End::Member(member) };
        let back = Link { from: End::Member(member), to: End::Clients };
        let (links, percent) = match kind {
            Kind::Loss => (vec![there, back], [2, 10, 30, 60][rng.within(0, 4) as usize]),
            _ => (vec![vec![there], vec![back], vec![there, back]].swap_remove(rng.within(0, 3) as usize), ALL),
        };
        self.lose(&links, percent, 5_000, rng).await
    }

    /// Packets between members are dropped.
    pub(super) async fn cut_links(&self, kind: Kind, member: usize, rng: &mut Rng) -> Result<bool, String> {
        let count = self.members.len();
        let order = self.several(rng, count, count);
        let around = |member: usize| others(count, member).flat_map(|other| between(member, other)).collect::<Vec<_>>();
        let mut percent = ALL;
        let mut links: Vec<Link> = match kind {
            Kind::Split => {
                let (one, other) = order.split_at(rng.within(1, count as u64) as usize);
                one.iter().flat_map(|a| other.iter().flat_map(|b| between(*a, *b))).collect()
            }
            Kind::IsolateLeader => match self.scout.leader() {
                Some(leader) => around(leader),
                None => return Ok(false),
            },
            Kind::Isolate => around(member),
            // Everybody reaches the one in the middle; the sides do not reach each other.
            Kind::Bridge => {
                let (one, other) = order[1..].split_at((count - 1) / 2);
                one.iter().flat_map(|a| other.iter().flat_map(|b| between(*a, *b))).collect()
            }
            Kind::OneWay => match rng.within(0, 4) {
                0 => others(count, member).map(|other| member_link(member, other)).collect(),
                1 => others(count, member).map(|other| member_link(other, member)).collect(),
                2 => vec![member_link(order[0], order[1])],
                _ => pairs(count).filter(|_| rng.chance(30)).collect(),
            },
            _ => {
                percent = [2, 10, 30, 60][rng.within(0, 4) as usize];
                let share = [20, 50, 100][rng.within(0, 3) as usize];
                pairs(count).filter(|_| rng.chance(share)).collect()
            }
        };
        // Sometimes the clients cannot reach it either.
        let alone = matches!(kind, Kind::Isolate | Kind::IsolateLeader) && rng.chance(25);
        let first = links.first().map(|link| link.from);
        links.extend(first.filter(|_| alone).map(|member| Link { from: End::Clients, to: member }));
        if links.is_empty() {
            return Ok(false);
        }
        self.lose(&links, percent, 8_000, rng).await
    }

    async fn lose(&self, links: &[Link], percent: u32, longest_ms: u64, rng: &mut Rng) -> Result<bool, String> {
        let lost = self.links.lose(&self.world, links, percent)?;
        sleep(millis(rng, 100, longest_ms)).await;
        self.links.end(&self.world, lost)?;
        Ok(true)
    }

    /// Connections of clients to a member that go through its proxy.
    pub(super) async fn trouble_clients(&self, kind: Kind, member: usize, rng: &mut Rng) {
        trouble(kind, &[self.proxies[member].way(0)], rng).await;
    }

    /// Connections between members.
    pub(super) async fn trouble_links(&self, kind: Kind, rng: &mut Rng) {
        let count = self.members.len();
        let share = [20, 50, 100][rng.within(0, 3) as usize];
        let mut links: Vec<Link> = pairs(count).filter(|_| rng.chance(share)).collect();
        if links.is_empty() {
            links = pairs(count).collect();
        }
        let ways: Vec<&Way> = links
            .iter()
            .filter_map(|link| match (link.from, link.to) {
                (End::Member(from), End::Member(to)) => Some(self.peer_proxies[to].way(from)),
                _ => None,
            })
            .collect();
        let kind = match kind {
            Kind::LinkDelay => Kind::Delay,
            Kind::LinkHold => Kind::Hold,
            _ if rng.chance(50) => Kind::Reset,
            _ => Kind::Refuse,
        };
        trouble(kind, &ways, rng).await;
    }
}

async fn trouble(kind: Kind, ways: &[&Way], rng: &mut Rng) {
    match kind {
        Kind::Delay => {
            let (least, jitter) = (millis(rng, 1, 200), millis(rng, 0, 100));
            ways.iter().for_each(|way| way.delay(least, jitter));
            sleep(millis(rng, 200, 4_000)).await;
        }
        Kind::Hold => {
            for way in ways {
                way.hold(directions(rng));
            }
            sleep(millis(rng, 50, 4_000)).await;
        }
        Kind::Refuse => {
            for way in ways {
                way.refuse(true);
                way.reset();
            }
            sleep(millis(rng, 50, 1_500)).await;
        }
        _ => {
            for _ in 0..rng.within(1, 6) {
                ways.iter().for_each(|way| way.reset());
                sleep(millis(rng, 1, 300)).await;
            }
        }
    }
    ways.iter().for_each(|way| match kind {
        Kind::Delay => way.delay(std::time::Duration::ZERO, std::time::Duration::ZERO),
        Kind::Hold => way.hold(&[]),
        _ => way.refuse(false),
    });
}

fn others(count: usize, member: usize) -> impl Iterator<Item = usize> {
    (0..count).filter(move |other| *other != member)
}

/// Every direction between two members.
fn pairs(count: usize) -> impl Iterator<Item = Link> {
    (0..count).flat_map(move |from| others(count, from).map(move |to| member_link(from, to)))
}

fn directions(rng: &mut Rng) -> &'static [Direction] {
    match rng.within(0, 3) {
        0 => &[Direction::ToMember],
        1 => &[Direction::FromMember],
        _ => &Direction::BOTH,
    }
}
