//! Three members as processes, and questions about them.

use std::path::Path;
use std::time::Duration;

use cetera_client::proto::etcdserverpb::StatusResponse;
use cetera_client::{Client, Config};
use tokio::time::{Instant, sleep};

use crate::process::{Launch, Place, Server};
use crate::serving;

/// Members.
pub const MEMBERS: usize = 3;
/// Longest wait for an answer of a member about itself.
const ASK_PATIENCE: Duration = Duration::from_secs(2);
/// Longest wait for a leader that all know.
const LEADER_PATIENCE: Duration = Duration::from_secs(60);
/// Longest wait for a read, before it is made again.
pub const READ_PATIENCE: Duration = Duration::from_secs(1);
/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(20);

/// A cluster.
#[derive(Debug)]
pub struct Group {
    /// How each member is started; behind the first three, one that can be added.
    pub launches: Vec<Launch>,
    /// The processes of the first three; None while it is down.
    pub servers: Vec<Option<Server>>,
}

impl Group {
    /// Starts three members with their data below `dir`; returns when each answers a linearizable read.
    ///
    /// # Errors
    /// One of them does not serve.
    pub async fn start(program: &Path, dir: &Path, flags: &[String]) -> Result<Group, String> {
        let told = |error: std::io::Error| format!("{}: {error}", dir.display());
        let mut launches = Vec::new();
        for place in Place::group(MEMBERS, 1).map_err(told)? {
            let mut launch = Launch::at(program, &dir.join(&place.name), place).map_err(told)?;
            launch.flags = flags.to_vec();
            launches.push(launch);
        }
        launches[MEMBERS].flags.extend(["--initial-cluster-state", "existing"].map(str::to_owned));
        let started: Result<Vec<Server>, _> = launches[..MEMBERS].iter().map(Launch::start).collect();
        let mut group = Group { launches, servers: started.map_err(told)?.into_iter().map(Some).collect() };
        for n in 0..MEMBERS {
            group.serves(n).await?;
        }
        group.leader().await?;
        Ok(group)
    }

    /// Starts a member that is down; returns how long it took until it answered a linearizable read.
    ///
    /// # Errors
    /// It does not serve.
    pub async fn restart(&mut self, member: usize) -> Result<Duration, String> {
        assert!(self.servers[member].is_none(), "member {member} is running");
        self.servers[member] = Some(self.launches[member].start().map_err(|error| error.to_string())?);
        self.serves(member).await
    }

    async fn serves(&mut self, member: usize) -> Result<Duration, String> {
        let server = self.servers[member].as_mut().ok_or("it is down")?;
        let launch = &self.launches[member];
        let served = serving::serves(launch, server, READ_PATIENCE).await;
        served.map_err(|what| format!("{}: {what}", launch.place.name))
    }

    /// Where clients reach the first three, or those of them that pass.
    pub fn addresses(&self, wanted: impl Fn(usize) -> bool) -> Vec<String> {
        (0..MEMBERS).filter(|n| wanted(*n)).map(|n| self.launches[n].address()).collect()
    }

    /// The member that leads, once all that run agree on it.
    ///
    /// # Errors
    /// They do not within a minute, or one of them has ended.
    pub async fn leader(&mut self) -> Result<usize, String> {
        let begun = Instant::now();
        while begun.elapsed() < LEADER_PATIENCE {
            let mut said = Vec::new();
            for n in 0..MEMBERS {
                let Some(server) = &mut self.servers[n] else { continue };
                if let Some(status) = server.ended() {
                    let launch = &self.launches[n];
                    return Err(format!("{} ended: {status}\n{}", launch.place.name, launch.last_lines()));
                }
                said.push((n, self.status(n).await.ok()));
            }
            let leaders: Vec<u64> = said.iter().map(|(_, s)| s.as_ref().map_or(0, |s| s.leader)).collect();
            let own = |s: &StatusResponse| s.header.as_ref().map_or(0, |header| header.member_id);
            let found = said.iter().find(|(_, s)| s.as_ref().is_some_and(|s| s.leader == own(s)));
            if let Some((n, _)) = found
                && leaders.iter().all(|leader| *leader == leaders[0])
            {
                return Ok(*n);
            }
            sleep(PAUSE).await;
        }
        Err(format!("no leader that all know within {LEADER_PATIENCE:?}"))
    }

    /// What a member says of itself; also the one that can be added.
    ///
    /// # Errors
    /// No answer.
    pub async fn status(&self, member: usize) -> Result<StatusResponse, String> {
        self.client(member)?.status().await.map_err(|error| error.to_string())
    }

    /// A client of one member alone.
    ///
    /// # Errors
    /// None that happens: the address is one.
    pub fn client(&self, member: usize) -> Result<Client, String> {
        let mut config = Config::new([self.launches[member].address()]);
        (config.dial_timeout, config.timeout) = (ASK_PATIENCE, Some(ASK_PATIENCE));
        Client::new(config).map_err(|error| error.to_string())
    }

    /// A member that runs.
    ///
    /// # Errors
    /// It is down.
    pub fn server(&self, member: usize) -> Result<&Server, String> {
        self.servers[member].as_ref().ok_or_else(|| format!("member {member} is down"))
    }

    /// Processor time of all members that run.
    pub fn cpu(&self) -> Duration {
        self.servers.iter().flatten().map(Server::cpu).sum()
    }
}
