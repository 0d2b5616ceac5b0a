//! The links of a run: which packets are lost between clients and members and among members, put together from all
//! faults that are on. Works on the packet filter of the members' namespaces; never on anything else.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use crate::world::World;

/// An end of a link.
#[derive(Copy, Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum End {
    /// All clients.
    Clients,
    /// A member, by number.
    Member(usize),
}

/// What one end sends to the other.
#[derive(Copy, Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Link {
    /// Who sends.
    pub from: End,
    /// Who is sent to.
    pub to: End,
}

/// All of a hundred packets.
pub const ALL: u32 = 100;

/// Both directions between two members.
pub fn between(one: usize, other: usize) -> [Link; 2] {
    [member_link(one, other), member_link(other, one)]
}

/// From one member to another.
pub fn member_link(from: usize, to: usize) -> Link {
    Link { from: End::Member(from), to: End::Member(to) }
}

/// What is lost on a link, in a hundred packets.
type Lossy = Vec<(Link, u32)>;

/// Faults of links that are on, by number.
#[derive(Debug, Default)]
pub struct Links {
    on: RefCell<BTreeMap<u64, Lossy>>,
    next: Cell<u64>,
}

impl Links {
    /// Loses so many of a hundred packets of these links, from now on, besides what others lose. Returns the number to
    /// end it by.
    ///
    /// # Errors
    /// The filter cannot be set.
    pub fn lose(&self, world: &World, links: &[Link], percent: u32) -> Result<u64, String> {
        let id = self.next.get();
        self.next.set(id + 1);
        self.on.borrow_mut().insert(id, links.iter().map(|link| (*link, percent)).collect());
        self.apply(world, &touched(links))?;
        Ok(id)
    }

    /// Ends one.
    ///
    /// # Errors
    /// The filter cannot be set.
    pub fn end(&self, world: &World, id: u64) -> Result<(), String> {
        let Some(ended) = self.on.borrow_mut().remove(&id) else { return Ok(()) };
        let links: Vec<Link> = ended.iter().map(|(link, _)| *link).collect();
        self.apply(world, &touched(&links))
    }

    /// Ends all.
    ///
    /// # Errors
    /// The filter cannot be set.
    pub fn heal(&self, world: &World) -> Result<(), String> {
        self.on.borrow_mut().clear();
        self.apply(world, &(0..world.places().len()).collect())
    }

    fn apply(&self, world: &World, members: &BTreeSet<usize>) -> Result<(), String> {
        members.iter().try_for_each(|member| world.filter(*member, &self.rules(world, *member)))
    }

    /// The rules of a member's namespace: what comes in from members and clients, and what goes out to clients.
    fn rules(&self, world: &World, member: usize) -> String {
        let (mut input, mut output) = (String::new(), String::new());
        let here = End::Member(member);
        for (link, percent) in self.on.borrow().values().flatten() {
            let (chain, side, there) = match (link.from, link.to) {
                (from, to) if to == here => (&mut input, "saddr", from),
                (from, End::Clients) if from == here => (&mut output, "daddr", End::Clients),
                _ => continue,
            };
            let address = match there {
                End::Clients => world.clients().to_owned(),
                End::Member(other) => world.host(other),
            };
            let lost = match percent {
                100.. => String::new(),
                percent => format!("numgen random mod 100 < {percent} "),
            };
            // Writing to a string does not fail.
            let _ = writeln!(chain, "ip {side} {address} {lost}drop");
        }
        format!(
            "add table inet chaos\ndelete table inet chaos\ntable inet chaos {{\n\
             chain input {{ type filter hook input priority 0;\n{input}}}\n\
             chain output {{ type filter hook output priority 0;\n{output}}}\n}}\n"
        )
    }
}

/// The members in whose namespaces links are filtered: at the receiver, and where that is the clients at the sender.
fn touched(links: &[Link]) -> BTreeSet<usize> {
    links
        .iter()
        .filter_map(|link| match (link.from, link.to) {
            (_, End::Member(member)) | (End::Member(member), End::Clients) => Some(member),
            (End::Clients, End::Clients) => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_filtered_where_it_ends() {
        assert_eq!(touched(&between(0, 2)), BTreeSet::from([0, 2]));
        assert_eq!(touched(&[Link { from: End::Member(1), to: End::Clients }]), BTreeSet::from([1]));
    }
}
