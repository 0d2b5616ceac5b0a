//! The part of the system that a run has to itself: network namespaces, one per member and one for the clients, and a
//! mount namespace for small disks. All of it is gone when the run's processes are.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use cetera_bench::process::Place;

/// Where clients are, in the run's own network.
const CLIENTS: &str = "10.77.0.1";
/// The ports of every member there.
const CLIENT_PORT: u16 = 2379;
const PEER_PORT: u16 = 2380;

/// What the run has.
#[derive(Debug)]
pub struct World {
    places: Vec<Place>,
    /// Namespaces could be made: members have addresses of their own, and disks can be mounted.
    pub isolated: bool,
    /// Packets can be dropped.
    pub filter: bool,
    /// What could not be had, each a line for the user.
    pub missing: Vec<String>,
}

impl World {
    /// Makes it. Only for a process that has one thread so far.
    ///
    /// # Errors
    /// Not even ports on the loopback address can be had.
    pub fn enter(members: usize) -> Result<World, String> {
        let mut missing = Vec::new();
        let mut places = match isolate().and_then(|()| connect(members)) {
            Ok(places) => places,
            Err(why) => {
                missing.push(format!(
                    "no namespaces of its own ({why}): no packets dropped, no full disks; run it as root for those"
                ));
                on_loopback(members)?
            }
        };
        let isolated = missing.is_empty();
        let filter = isolated && Command::new("nft").arg("--version").stdout(Stdio::null()).status().is_ok();
        if isolated && !filter {
            missing.push("no `nft` here: no packets dropped; `apt install nftables` brings it".to_owned());
        }
        for (n, place) in places.iter_mut().enumerate() {
            place.name = format!("m{n}");
        }
        Ok(World { places, isolated, filter, missing })
    }

    /// The members' places; who is in the cluster is not told there yet.
    pub fn places(&self) -> &[Place] {
        &self.places
    }

    /// The address of the clients' side.
    pub fn clients(&self) -> &'static str {
        if self.isolated { CLIENTS } else { "127.0.0.1" }
    }

    /// The address of a member, in an isolated world.
    pub fn host(&self, member: usize) -> String {
        host(member)
    }

    /// Sets the packet filter of a member's namespace, in the words of `nft`. It stays so until the next call.
    ///
    /// # Errors
    /// The filter cannot be set.
    pub fn filter(&self, member: usize, rules: &str) -> Result<(), String> {
        run(Command::new("nft").args(["-f", "-"]), self.places[member].network.as_deref(), Some(rules))
    }
}

fn host(member: usize) -> String {
    format!("10.77.0.{}", 11 + member)
}

/// A file system in memory.
#[derive(Debug)]
pub struct SmallDisk {
    path: std::ffi::CString,
}

impl SmallDisk {
    /// Mounts one of `bytes` at `dir`, which is made. Only in a world that is isolated.
    ///
    /// # Errors
    /// It cannot be mounted.
    pub fn mount(dir: &Path, bytes: u64) -> Result<SmallDisk, String> {
        std::fs::create_dir_all(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        let path = c_path(dir)?;
        let options = std::ffi::CString::new(format!("size={bytes},mode=700")).map_err(|error| error.to_string())?;
        // SAFETY: all pointers are to strings that end in 0 and outlive the call.
        let done =
            unsafe { libc::mount(c"tmpfs".as_ptr(), path.as_ptr(), c"tmpfs".as_ptr(), 0, options.as_ptr().cast()) };
        answer(done).map_err(|error| format!("a small disk at {}: {error}", dir.display()))?;
        Ok(SmallDisk { path })
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // SAFETY: the pointer is to a string that ends in 0. Fails only if nothing is mounted there.
        let _ = unsafe { libc::umount2(self.path.as_ptr(), libc::MNT_DETACH) };
    }
}

fn c_path(path: &Path) -> Result<std::ffi::CString, String> {
    use std::os::unix::ffi::OsStrExt as _;
    std::ffi::CString::new(path.as_os_str().as_bytes()).map_err(|error| error.to_string())
}

fn answer(done: libc::c_int) -> io::Result<()> {
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Leaves the system's network and mounts.
fn isolate() -> Result<(), String> {
    let threads = std::fs::read_dir("/proc/self/task").map_or(1, |tasks| tasks.count());
    assert_eq!(threads, 1, "namespaces are left by threads, not by processes");
    // SAFETY: unshare changes this thread, the only one.
    answer(unsafe { libc::unshare(libc::CLONE_NEWNS | libc::CLONE_NEWNET) }).map_err(|error| error.to_string())?;
    // SAFETY: the pointers are null or to strings that end in 0.
    let private = unsafe {
        libc::mount(
            std::ptr::null(),
            c"/".as_ptr(),
            std::ptr::null(),
            libc::MS_REC | libc::MS_PRIVATE,
            std::ptr::null(),
        )
    };
    answer(private).map_err(|error| format!("mounts of its own: {error}"))
}

/// A bridge here, and behind it a namespace for each member.
fn connect(members: usize) -> Result<Vec<Place>, String> {
    ip(&["link", "set", "lo", "up"], None)?;
    ip(&["link", "add", "hub", "type", "bridge"], None)?;
    ip(&["addr", "add", &format!("{CLIENTS}/24"), "dev", "hub"], None)?;
    ip(&["link", "set", "hub", "up"], None)?;
    (0..members).map(connect_member).collect()
}

fn connect_member(member: usize) -> Result<Place, String> {
    let network = std::thread::spawn(|| {
        // SAFETY: unshare changes this thread, which ends here.
        answer(unsafe { libc::unshare(libc::CLONE_NEWNET) })?;
        File::open("/proc/thread-self/ns/net")
    });
    let network = network.join().expect("opening a file does not panic").map_err(|error| error.to_string())?;
    let address = host(member);
    let outer = format!("member{member}");
    ip(&["link", "add", &outer, "type", "veth", "peer", "name", "eth0"], None)?;
    ip(&["link", "set", &outer, "master", "hub", "up"], None)?;
    let path = format!("/proc/{}/fd/{}", std::process::id(), network.as_raw_fd());
    ip(&["link", "set", "eth0", "netns", &path], None)?;
    ip(&["link", "set", "lo", "up"], Some(&network))?;
    ip(&["addr", "add", &format!("{address}/24"), "dev", "eth0"], Some(&network))?;
    ip(&["link", "set", "eth0", "up"], Some(&network))?;
    let network = Some(Arc::new(network));
    let (client, peer) = (format!("{address}:{CLIENT_PORT}"), format!("{address}:{PEER_PORT}"));
    Ok(Place { name: String::new(), client, advertised: peer.clone(), peer, cluster: String::new(), network })
}

fn on_loopback(members: usize) -> Result<Vec<Place>, String> {
    (0..members).map(|_| Place::alone().map_err(|error| error.to_string())).collect()
}

fn ip(args: &[&str], network: Option<&File>) -> Result<(), String> {
    run(Command::new("ip").args(args), network, None)
}

/// Runs a program in a network namespace.
fn run(command: &mut Command, network: Option<&File>, input: Option<&str>) -> Result<(), String> {
    let name = format!("{command:?}");
    if let Some(network) = network.map(|network| network.as_raw_fd()) {
        // SAFETY: setns changes the new process only and is async-signal-safe; the file outlives the call.
        unsafe {
            command.pre_exec(move || answer(libc::setns(network, libc::CLONE_NEWNET)));
        }
    }
    let stdin = if input.is_some() { Stdio::piped() } else { Stdio::null() };
    let child = command.stdin(stdin).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    let mut child = child.map_err(|error| format!("{name}: {error}"))?;
    if let (Some(input), Some(mut stdin)) = (input, child.stdin.take()) {
        stdin.write_all(input.as_bytes()).map_err(|error| format!("{name}: {error}"))?;
    }
    let out = child.wait_with_output().map_err(|error| format!("{name}: {error}"))?;
    match out.status.success() {
        true => Ok(()),
        false => Err(format!("{name}: {}", String::from_utf8_lossy(&out.stderr).trim())),
    }
}
