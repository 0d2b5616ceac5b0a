//! Client actors: what the clients of a simulated cluster do, all of it from the seed.
//!
//! [`swarm`] makes the clients of one run. Each has its own number, by which it names what only it writes. An actor knows
//! the cluster by its connections alone; after `Wind` it comes to rest as soon as what it holds is let go and, for the
//! general clients, a last write and a last read of everything succeeded.

mod contender;
mod cron;
mod kv;
mod lease;
mod line;
mod observer;
mod onlooker;
mod watch;
mod watching;

pub use contender::{Contender, Style};
pub use cron::Scheduler;
pub use kv::KvClient;
pub use lease::LeaseClient;
pub use observer::Observer;
pub use onlooker::Onlooker;
pub use watch::WatchClient;

use cetera_check::generate::{Dice, Mix};
use cetera_proto::etcdserverpb as pb;
use cetera_raft::rng::Rng;
use pb::compare::{CompareResult, CompareTarget, TargetUnion};

use crate::client::Client;
use line::{MS, SECOND};

/// Lease ids of the actors begin here; the generator's own begin lower.
const LEASE_BASE: i64 = 0x2000_0000;

/// What kinds of clients a run may have.
#[derive(Copy, Clone, Debug)]
pub struct Options {
    /// Members of the cluster.
    pub members: u32,
    /// Calls per second of the general clients together while nothing is wrong; 0: the seed's choice.
    pub calls_per_second: u64,
    /// Watch clients besides the observer.
    pub watches: bool,
    /// Lease clients, and leases in the general clients.
    pub leases: bool,
    /// Mutexes, elections, schedulers.
    pub locks: bool,
    /// Compaction.
    pub compaction: bool,
}

impl Default for Options {
    /// Everything.
    fn default() -> Self {
        Self { members: 1, calls_per_second: 0, watches: true, leases: true, locks: true, compaction: true }
    }
}

/// The clients of a run: the observer first, then at least one general client, then what the seed chooses.
pub fn swarm(seed: u64, options: &Options) -> Vec<Box<dyn Client>> {
    Swarm { dice: Choice(Rng::new(seed)), options: *options, clients: Vec::new() }.make()
}

/// Numbers for choosing clients.
struct Choice(Rng);

impl Dice for Choice {
    fn pick(&mut self, below: u64) -> u64 {
        self.0.next_u64() % below
    }

    fn unique(&mut self) -> u64 {
        self.0.next_u64()
    }
}

struct Swarm {
    dice: Choice,
    options: Options,
    clients: Vec<Box<dyn Client>>,
}

impl Swarm {
    fn make(mut self) -> Vec<Box<dyn Client>> {
        let stay = [3 * SECOND, 10 * SECOND, 3_600 * SECOND][self.dice.pick(3) as usize];
        let fragment = self.dice.pick(2) == 0;
        self.add(|number, _| Box::new(Observer::new(number, stay, fragment)));
        self.general();
        if self.options.watches {
            self.watches();
        }
        if self.options.leases {
            self.leases();
        }
        if self.options.locks {
            self.locks();
        }
        self.clients
    }

    fn add(&mut self, make: impl FnOnce(u32, &mut Choice) -> Box<dyn Client>) {
        let number = self.clients.len() as u32;
        let client = make(number, &mut self.dice);
        self.clients.push(client);
    }

    fn timeout(&mut self) -> u64 {
        [200, 400, 700, 1_000, 2_000, 4_000][self.dice.pick(6) as usize] * MS
    }

    fn general(&mut self) {
        let count = 2 + self.dice.pick(5);
        let per_second = match self.options.calls_per_second {
            0 => [16, 24, 40][self.dice.pick(3) as usize],
            given => given,
        };
        let think = count * SECOND / per_second;
        let mut mix = Mix::swarm(&mut self.dice);
        if !self.options.compaction {
            mix.compact = 0;
        }
        if !self.options.leases {
            mix.lease = 0;
        }
        for index in 0..count {
            let timeout = self.timeout();
            // Some stay with their member through all its troubles; the first ones never do, so that calls go on.
            let member = (index >= 2 && self.dice.pick(2) == 0)
                .then(|| self.dice.pick(u64::from(self.options.members.max(1))) as u32);
            let mix = mix.clone();
            self.add(|number, _| Box::new(KvClient::new(number, mix, think, timeout, member)));
        }
    }

    fn watches(&mut self) {
        for _ in 0..self.dice.pick(4) {
            let (streams, watchers) = (1 + self.dice.pick(3) as usize, 1 + self.dice.pick(16) as usize);
            let think = [100, 400, 1_500][self.dice.pick(3) as usize] * MS;
            self.add(|number, _| Box::new(WatchClient::new(number, streams, watchers, think)));
        }
    }

    fn leases(&mut self) {
        for _ in 0..self.dice.pick(4) {
            let ttl_max = [2, 4, 10][self.dice.pick(3) as usize];
            let timeout = self.timeout();
            self.add(|number, _| Box::new(LeaseClient::new(number, ttl_max, timeout)));
        }
    }

    fn locks(&mut self) {
        if self.dice.pick(2) == 0 {
            self.contenders(Style::Mutex);
        }
        if self.dice.pick(4) == 0 {
            self.contenders(Style::Election);
            if self.dice.pick(2) == 0 {
                let timeout = self.timeout();
                self.add(|number, _| Box::new(Onlooker::new(number, "a", timeout)));
            }
        }
        if self.dice.pick(3) == 0 {
            let jobs = 1 + self.dice.pick(3);
            for _ in 0..2 + self.dice.pick(2) {
                let (ttl, timeout) = (2 + self.dice.pick(5) as i64, self.timeout());
                self.add(|number, _| Box::new(Scheduler::new(number, jobs, ttl, timeout)));
            }
        }
    }

    fn contenders(&mut self, style: Style) {
        let names = 1 + self.dice.pick(2);
        for _ in 0..2 + self.dice.pick(3) {
            let what = ["a", "b"][self.dice.pick(names) as usize];
            let (ttl, timeout) = (2 + self.dice.pick(7) as i64, self.timeout());
            self.add(|number, _| Box::new(Contender::new(number, style, what, ttl, timeout)));
        }
    }
}

/// That a key's create revision is this one; 0: that it is not there.
fn created_at(key: &[u8], revision: i64) -> pb::Compare {
    pb::Compare {
        result: CompareResult::Equal as i32,
        target: CompareTarget::Create as i32,
        key: key.to_vec().into(),
        target_union: Some(TargetUnion::CreateRevision(revision)),
        ..Default::default()
    }
}

fn op(request: pb::request_op::Request) -> pb::RequestOp {
    pb::RequestOp { request: Some(request) }
}

#[cfg(test)]
mod tests;
