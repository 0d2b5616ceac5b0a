//! What lies between clients and a member, or between the others and a member: a proxy that can delay, hold, cut and
//! refuse, by source. Bytes are never lost from a connection that lives, as the network does not lose them either.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};

/// Pieces of a connection that are on their way in one direction; more make the sender wait.
const PIECES: usize = 256;
/// Bytes of a piece.
const PIECE_BYTES: usize = 16 << 10;
/// Longest wait for a connection to the member.
const CONNECT_PATIENCE: Duration = Duration::from_secs(2);

/// One direction of a connection.
#[derive(Copy, Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Direction {
    /// What who connected sends.
    ToMember,
    /// What the member sends.
    FromMember,
}

impl Direction {
    /// Both.
    pub const BOTH: [Direction; 2] = [Direction::ToMember, Direction::FromMember];
}

/// A proxy before one member.
#[derive(Debug)]
pub struct Proxy {
    address: String,
    ways: Vec<Rc<Way>>,
    listening: JoinHandle<()>,
}

/// The connections that come from one source.
#[derive(Debug)]
pub struct Way {
    target: String,
    /// Added to every piece's way, in each direction; the second is added at random up to that.
    delay: Cell<(Duration, Duration)>,
    /// Directions in which nothing arrives for now.
    held: watch::Sender<Vec<Direction>>,
    refuses: Cell<bool>,
    /// Counts resets: a connection made under another number is to be cut.
    resets: watch::Sender<u64>,
    random: RefCell<cetera_bench::rng::Rng>,
}

impl Proxy {
    /// Listens on a free port of `host`. Connections from the same place of `sources` share a way; what comes from
    /// elsewhere goes the first way.
    ///
    /// # Errors
    /// There is none.
    pub async fn start(host: &str, target: &str, sources: Vec<IpAddr>, seed: u64) -> io::Result<Proxy> {
        let listener = TcpListener::bind((host, 0)).await?;
        let address = listener.local_addr()?.to_string();
        let way = |n| {
            Rc::new(Way {
                target: target.to_owned(),
                delay: Cell::default(),
                held: watch::channel(Vec::new()).0,
                refuses: Cell::new(false),
                resets: watch::channel(0).0,
                random: RefCell::new(cetera_bench::rng::Rng::new(seed + n)),
            })
        };
        let ways: Vec<Rc<Way>> = (0..sources.len().max(1) as u64).map(way).collect();
        let listening = tokio::task::spawn_local(listen(listener, sources, ways.clone()));
        Ok(Proxy { address, ways, listening })
    }

    /// Where to connect.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The way of the n-th source.
    pub fn way(&self, n: usize) -> &Way {
        &self.ways[n]
    }

    /// Cuts all connections.
    pub fn reset(&self) {
        self.ways.iter().for_each(|way| way.reset());
    }

    /// Undoes everything but resets.
    pub fn heal(&self) {
        self.ways.iter().for_each(|way| way.heal());
    }
}

impl Way {
    /// Every piece takes `least` longer, and up to `jitter` more; order is kept.
    pub fn delay(&self, least: Duration, jitter: Duration) {
        self.delay.set((least, jitter));
    }

    /// Nothing arrives in these directions until another call says so.
    pub fn hold(&self, directions: &[Direction]) {
        self.held.send_replace(directions.to_vec());
    }

    /// Whether new connections are cut at once.
    pub fn refuse(&self, refuses: bool) {
        self.refuses.set(refuses);
    }

    /// Cuts all connections, with a reset; what was on its way is lost.
    pub fn reset(&self) {
        self.resets.send_modify(|count| *count += 1);
    }

    /// Undoes everything but resets.
    pub fn heal(&self) {
        self.delay(Duration::ZERO, Duration::ZERO);
        self.hold(&[]);
        self.refuse(false);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.listening.abort();
        self.reset();
    }
}

async fn listen(listener: TcpListener, sources: Vec<IpAddr>, ways: Vec<Rc<Way>>) {
    loop {
        // An error here is of one connection that was given up early.
        let Ok((client, from)) = listener.accept().await else { continue };
        let way = &ways[sources.iter().position(|source| *source == from.ip()).unwrap_or(0)];
        if way.refuses.get() {
            cut(&client);
            continue;
        }
        tokio::task::spawn_local(serve(client, Rc::clone(way)));
    }
}

/// A close that sends a reset.
fn cut(stream: &TcpStream) {
    // Fails only if the connection is gone already.
    let _ = stream.set_zero_linger();
}

async fn serve(client: TcpStream, way: Rc<Way>) {
    let mut resets = way.resets.subscribe();
    let connected = timeout(CONNECT_PATIENCE, TcpStream::connect(&way.target)).await;
    let Ok(Ok(member)) = connected else { return cut(&client) };
    for stream in [&client, &member] {
        // Only a matter of speed.
        let _ = stream.set_nodelay(true);
    }
    let (from_client, to_client) = client.into_split();
    let (from_member, to_member) = member.into_split();
    let there = carry(from_client, to_member, Direction::ToMember, Rc::clone(&way));
    let back = carry(from_member, to_client, Direction::FromMember, Rc::clone(&way));
    let mut there = tokio::task::spawn_local(there);
    let mut back = tokio::task::spawn_local(back);
    tokio::select! {
        _ = resets.changed() => {
            there.abort();
            back.abort();
        }
        _ = async { ((&mut there).await, (&mut back).await) } => {}
    }
}

type Piece = (Instant, Vec<u8>);

/// Carries one direction until it ends, then ends it at the other side too.
async fn carry(from: OwnedReadHalf, to: OwnedWriteHalf, direction: Direction, way: Rc<Way>) {
    cut(from.as_ref());
    let (pieces, queue) = mpsc::channel(PIECES);
    tokio::join!(take(from, pieces, Rc::clone(&way)), give(to, queue, direction, way));
}

async fn take(mut from: OwnedReadHalf, pieces: mpsc::Sender<Piece>, way: Rc<Way>) {
    let mut due = Instant::now();
    loop {
        let mut piece = Vec::with_capacity(PIECE_BYTES);
        match from.read_buf(&mut piece).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let (least, jitter) = way.delay.get();
        let more = way.random.borrow_mut().within(0, jitter.as_micros() as u64 + 1);
        // No piece overtakes another.
        due = due.max(Instant::now() + least + Duration::from_micros(more));
        if pieces.send((due, piece)).await.is_err() {
            return;
        }
    }
}

async fn give(mut to: OwnedWriteHalf, mut pieces: mpsc::Receiver<Piece>, direction: Direction, way: Rc<Way>) {
    let mut held = way.held.subscribe();
    while let Some((due, piece)) = pieces.recv().await {
        sleep_until(due).await;
        if held.wait_for(|held| !held.contains(&direction)).await.is_err() || to.write_all(&piece).await.is_err() {
            return;
        }
    }
    // The other side may be gone.
    let _ = to.shutdown().await;
}
