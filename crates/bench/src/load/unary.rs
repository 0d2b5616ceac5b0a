//! Calls with one answer, in a closed loop: as many in flight as asked for, always.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::time::Instant;

use tokio::task::JoinSet;

use super::connection::{Connection, MESSAGE_HEAD};
use super::meter::Meter;
use super::requests::Requests;

/// What the connections of one load share.
#[derive(Debug, Default)]
struct Shared {
    meter: RefCell<Meter>,
    stop: Cell<bool>,
}

/// A load that runs until it is told to stop or has no more requests.
#[derive(Debug)]
pub struct Load {
    shared: Rc<Shared>,
    tasks: JoinSet<io::Result<()>>,
}

/// A request in flight.
struct Slot {
    /// Its number over all connections.
    number: usize,
    sent: Instant,
    answer: Vec<u8>,
    bytes: usize,
}

impl Load {
    /// Starts it on the local set. `in_flight` is dealt over the connections.
    pub fn start(address: &str, connections: usize, in_flight: usize, requests: Rc<RefCell<dyn Requests>>) -> Load {
        Load::over(&[address.to_owned()], connections, in_flight, requests)
    }

    /// The same, with the connections dealt over several servers.
    pub fn over(
        addresses: &[String],
        connections: usize,
        in_flight: usize,
        requests: Rc<RefCell<dyn Requests>>,
    ) -> Load {
        let shared = Rc::new(Shared::default());
        let mut tasks = JoinSet::new();
        for n in 0..connections {
            let slots = (n..in_flight).step_by(connections);
            let address = addresses[n % addresses.len()].clone();
            let run = run(address, slots.collect(), Rc::clone(&requests), Rc::clone(&shared));
            tasks.spawn_local(run);
        }
        Load { shared, tasks }
    }

    /// Begins to measure.
    pub fn measure(&self) {
        self.shared.meter.borrow_mut().start();
    }

    /// Ends measuring.
    pub fn pause(&self) {
        self.shared.meter.borrow_mut().stop();
    }

    /// Ends measuring, returns what was measured, and begins to measure anew.
    pub fn measured(&self) -> Meter {
        let mut meter = self.shared.meter.borrow_mut();
        meter.stop();
        let measured = meter.clone();
        meter.start();
        measured
    }

    /// What was measured so far.
    pub fn meter(&self) -> std::cell::Ref<'_, Meter> {
        self.shared.meter.borrow()
    }

    /// Lets what is in flight end, or all requests if there is an end to them. Returns what was measured.
    ///
    /// # Errors
    /// A connection broke, or an operation failed.
    pub async fn finish(mut self, let_all_run: bool) -> Result<Meter, String> {
        self.shared.stop.set(!let_all_run);
        while let Some(ended) = self.tasks.join_next().await {
            ended.map_err(|e| e.to_string())?.map_err(|e| format!("a connection of the load broke: {e}"))?;
        }
        let mut meter = self.shared.meter.borrow_mut();
        meter.stop();
        match &meter.first_error {
            Some(block) => Err(format!("an operation failed; its header block: {block:?}")),
            None => Ok(meter.clone()),
        }
    }

    /// Drops what is in flight: the server is about to be killed, or was.
    pub async fn abandon(mut self) -> Meter {
        self.tasks.shutdown().await;
        self.shared.meter.borrow().clone()
    }
}

async fn run(
    address: String,
    slots: Vec<usize>,
    requests: Rc<RefCell<dyn Requests>>,
    shared: Rc<Shared>,
) -> io::Result<()> {
    let mut connection = Connection::open(&address).await?;
    let new = |number| Slot { number, sent: Instant::now(), answer: Vec::new(), bytes: 0 };
    let mut slots: Vec<Slot> = slots.into_iter().map(new).collect();
    let mut idle: Vec<usize> = (0..slots.len()).rev().collect();
    let mut flying: HashMap<u32, usize> = HashMap::with_capacity(slots.len() * 2);
    let mut body = Vec::new();
    let (wants_answers, largest) = {
        let requests = requests.borrow();
        (requests.wants_answers(), requests.largest())
    };
    loop {
        while !shared.stop.get() && connection.has_room(largest) {
            let Some(&n) = idle.last() else { break };
            body.clear();
            let Some(path) = requests.borrow_mut().next(slots[n].number, &mut body) else { break };
            idle.pop();
            let slot = &mut slots[n];
            slot.answer.clear();
            (slot.bytes, slot.sent) = (0, Instant::now());
            flying.insert(connection.start(path, &body, true), n);
        }
        if flying.is_empty() {
            return Ok(());
        }
        let frames = connection.pump().await?;
        for frame in &frames {
            let Some(&n) = flying.get(&frame.stream) else { continue };
            let slot = &mut slots[n];
            if frame.is_data {
                slot.bytes += frame.len();
                if wants_answers {
                    slot.answer.extend_from_slice(connection.payload(frame));
                }
            }
            if !frame.ends {
                continue;
            }
            flying.remove(&frame.stream);
            idle.push(n);
            if slot.bytes < MESSAGE_HEAD {
                shared.meter.borrow_mut().failed(connection.payload(frame));
                continue;
            }
            let message = slot.answer.get(MESSAGE_HEAD..).unwrap_or_default();
            match requests.borrow_mut().answered(slot.number, slot.bytes - MESSAGE_HEAD, message) {
                Ok(()) => shared.meter.borrow_mut().succeeded(slot.sent, slot.bytes),
                Err(what) => shared.meter.borrow_mut().failed(what.as_bytes()),
            }
        }
        connection.give_back(frames);
    }
}
