//! Where the members live: directories and ports.
//!
//! A directory that is kept remembers the ports in a file, because members know each other by them. Ports are chosen
//! below those that the system deals out, so that no outgoing connection takes the port of a member that is down.

use std::net::TcpListener;
use std::path::{Path, PathBuf};

use super::options::Options;

/// Client port of the first member, unless told otherwise.
const USUAL_PORT: u16 = 2379;
/// From one member's ports to the next's.
const PORT_STEP: u16 = 10;
/// Free ports are looked for from here to before [`FREE_PAST`].
const FREE_FIRST: u16 = 20_000;
const FREE_PAST: u16 = 32_000;
/// Members unless told otherwise.
const USUAL_MEMBERS: usize = 3;
/// The file with the ports.
const FILE: &str = "cetera-dev";
/// Its first line.
const FORMAT: &str = "cetera dev 1";

/// One member's place.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Place {
    pub(super) name: String,
    /// Where clients connect, `host:port`.
    pub(super) client: String,
    /// Where members connect, `host:port`.
    pub(super) peer: String,
}

/// The whole cluster's place. A temporary directory goes with it.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) dir: PathBuf,
    pub(super) places: Vec<Place>,
    temporary: bool,
}

impl Drop for Plan {
    fn drop(&mut self) {
        if self.temporary {
            // What cannot be removed now is the system's to clean.
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }
}

impl Plan {
    /// Makes the directory and chooses the ports, or reads them where a cluster was before.
    pub(super) fn make(options: &Options) -> Result<Plan, String> {
        let temporary = options.data_dir.is_none();
        let dir = match &options.data_dir {
            Some(dir) => dir.clone(),
            None => std::env::temp_dir().join(format!("cetera-dev-{}", std::process::id())),
        };
        let told = |error: std::io::Error| format!("{}: {error}", dir.display());
        match temporary {
            // It must be ours alone.
            true => std::fs::create_dir(&dir).map_err(told)?,
            false => std::fs::create_dir_all(&dir).map_err(told)?,
        }
        let dir = dir.canonicalize().map_err(told)?;
        let mut plan = Plan { dir, places: Vec::new(), temporary };
        let file = plan.dir.join(FILE);
        match std::fs::read_to_string(&file) {
            Ok(text) => {
                plan.places = remembered(&text).ok_or_else(|| format!("{} is damaged", file.display()))?;
                plan.agrees_with(options)?;
            }
            Err(_) => {
                plan.places = choose(options)?;
                std::fs::write(&file, written(&plan.places)).map_err(|e| format!("{}: {e}", file.display()))?;
            }
        }
        Ok(plan)
    }

    /// Whether nothing is left of it at the end.
    pub(super) fn is_temporary(&self) -> bool {
        self.temporary
    }

    /// All client addresses, as `--endpoints` takes them.
    pub(super) fn endpoints(&self) -> String {
        let clients: Vec<&str> = self.places.iter().map(|place| place.client.as_str()).collect();
        clients.join(",")
    }

    /// All members, as `--initial-cluster` takes them.
    pub(super) fn initial_cluster(&self) -> String {
        let members: Vec<String> =
            self.places.iter().map(|place| format!("{}=http://{}", place.name, place.peer)).collect();
        members.join(",")
    }

    /// What a member was made with cannot be changed by a flag, and its ports must be free.
    fn agrees_with(&self, options: &Options) -> Result<(), String> {
        let (dir, count) = (self.dir.display(), self.places.len());
        if options.members.is_some_and(|members| members != count) {
            return Err(format!("the cluster in {dir} has {count} members"));
        }
        let first = self.places[0].client.rsplit(':').next().and_then(|port| port.parse::<u16>().ok());
        if let Some(port) = options.port.filter(|port| *port != 0 && Some(*port) != first) {
            return Err(format!("the cluster in {dir} does not begin at port {port}"));
        }
        let addresses = self.places.iter().flat_map(|place| [&place.client, &place.peer]);
        match addresses.into_iter().find(|address| TcpListener::bind(address.as_str()).is_err()) {
            Some(address) => Err(format!("{address} is taken; is the cluster in {dir} running already?")),
            None => Ok(()),
        }
    }
}

fn choose(options: &Options) -> Result<Vec<Place>, String> {
    let members = options.members.unwrap_or(USUAL_MEMBERS);
    match options.port {
        Some(0) => free(members),
        Some(port) => from_base(port, members),
        None => from_base(USUAL_PORT, members).or_else(|_| free(members)),
    }
}

fn address(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

/// The ports that follow from the first; all must be free.
fn from_base(base: u16, members: usize) -> Result<Vec<Place>, String> {
    let mut places = Vec::new();
    for n in 0..members {
        let client = (n as u16).checked_mul(PORT_STEP).and_then(|above| base.checked_add(above));
        let (client, peer) = client.and_then(|port| Some((port, port.checked_add(1)?))).ok_or("no such port")?;
        for port in [client, peer] {
            TcpListener::bind(address(port)).map_err(|error| format!("{}: {error}", address(port)))?;
        }
        places.push(Place { name: name(n), client: address(client), peer: address(peer) });
    }
    Ok(places)
}

/// Ports that are free now; two clusters started at once look in different places.
fn free(members: usize) -> Result<Vec<Place>, String> {
    let span = u32::from(FREE_PAST - FREE_FIRST);
    let start = std::process::id().wrapping_mul(97) % span;
    let mut candidates = (0..span).map(|n| FREE_FIRST + ((start + n) % span) as u16);
    // All stay bound until the last is found.
    let mut held = Vec::new();
    for _ in 0..2 * members {
        let found = candidates.find_map(|port| Some((port, TcpListener::bind(address(port)).ok()?)));
        held.push(found.ok_or("no port is free")?);
    }
    let pairs = held.chunks_exact(2).enumerate();
    Ok(pairs
        .map(|(n, ports)| Place { name: name(n), client: address(ports[0].0), peer: address(ports[1].0) })
        .collect())
}

fn name(n: usize) -> String {
    format!("m{}", n + 1)
}

fn written(places: &[Place]) -> String {
    let lines = places.iter().map(|place| format!("{} {} {}\n", place.name, place.client, place.peer));
    format!("{FORMAT}\n{}", lines.collect::<String>())
}

fn remembered(text: &str) -> Option<Vec<Place>> {
    let mut lines = text.lines();
    if lines.next() != Some(FORMAT) {
        return None;
    }
    let mut places = Vec::new();
    for (n, line) in lines.enumerate() {
        let words: Vec<&str> = line.split(' ').collect();
        let [found, client, peer] = words[..] else { return None };
        if found != name(n) {
            return None;
        }
        places.push(Place { name: found.to_owned(), client: client.to_owned(), peer: peer.to_owned() });
    }
    (!places.is_empty()).then_some(places)
}

/// Where a member's data is.
pub(super) fn data_dir(dir: &Path, place: &Place) -> PathBuf {
    dir.join(&place.name)
}

/// Where what it prints is.
pub(super) fn log_file(dir: &Path, place: &Place) -> PathBuf {
    dir.join(format!("{}.log", place.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_remembers_its_ports() {
        let places = free(3).unwrap();
        assert_eq!(remembered(&written(&places)), Some(places.clone()));
        for damaged in
            ["", "cetera dev 1\n", "cetera dev 2\nm1 a b\n", "cetera dev 1\nm2 a b\n", "cetera dev 1\nm1 a\n"]
        {
            assert_eq!(remembered(damaged), None, "{damaged:?}");
        }
        let mut ports: Vec<&String> = places.iter().flat_map(|place| [&place.client, &place.peer]).collect();
        ports.sort();
        ports.dedup();
        assert_eq!(ports.len(), 6);
    }

    #[test]
    fn a_taken_port_is_told() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        assert!(from_base(address.port(), 1).unwrap_err().contains(&address.to_string()));
        assert!(from_base(65_530, 3).is_err());
    }
}
