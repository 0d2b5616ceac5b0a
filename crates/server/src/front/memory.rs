//! A front without sockets: drives services with bytes, for tests.

use std::collections::BTreeMap;

use bytes::Bytes;
use cetera_proto::services::{self, Kind};

use crate::seam::{CallId, CallMetadata, Inbound, Mail, Outbound, Services, Status};

/// Services and the calls made to them.
pub struct MemoryFront<S> {
    services: S,
    queue: Vec<Inbound>,
    answers: BTreeMap<CallId, MemoryAnswer>,
    next: u64,
}

/// What a call has been answered so far.
#[derive(Clone, Debug, Default)]
pub struct MemoryAnswer {
    /// Messages, in order.
    pub messages: Vec<Bytes>,
    /// The end, once it came.
    pub status: Option<Status>,
}

impl<S: Services> MemoryFront<S> {
    /// A front for these services.
    pub fn new(services: S) -> Self {
        MemoryFront { services, queue: Vec::new(), answers: BTreeMap::new(), next: 0 }
    }

    /// The services.
    pub fn services(&mut self) -> &mut S {
        &mut self.services
    }

    /// Opens a call. Nothing reaches the services before [`turn`](Self::turn).
    ///
    /// # Panics
    /// If the path is unknown.
    pub fn open(&mut self, path: &str, metadata: CallMetadata) -> CallId {
        let method = services::method(path).expect("the path is in the table of calls");
        let call = CallId(self.next);
        self.next += 1;
        self.answers.insert(call, MemoryAnswer::default());
        self.queue.push(Inbound::Open { call, method, metadata });
        call
    }

    /// Sends a message on an open call.
    pub fn send(&mut self, call: CallId, message: &impl prost::Message) {
        self.send_bytes(call, message.encode_to_vec().into());
    }

    /// Sends the bytes of a message on an open call.
    pub fn send_bytes(&mut self, call: CallId, body: Bytes) {
        self.queue.push(Inbound::Message { call, body });
    }

    /// Ends the client's side of a call.
    pub fn half_close(&mut self, call: CallId) {
        self.queue.push(Inbound::HalfClose { call });
    }

    /// The client leaves.
    pub fn cancel(&mut self, call: CallId) {
        self.queue.push(Inbound::Cancel { call });
    }

    /// The output of a call that was full is on its way.
    pub fn drained(&mut self, call: CallId) {
        self.queue.push(Inbound::Drained { call });
    }

    /// Opens a call with one message and, unless it is a bidirectional one, ends the client's side.
    pub fn call(&mut self, path: &str, message: &impl prost::Message) -> CallId {
        let call = self.open(path, CallMetadata::default());
        self.send(call, message);
        if services::method(path).is_some_and(|method| method.kind != Kind::Bidi) {
            self.half_close(call);
        }
        call
    }

    /// Hands everything queued to the services as one batch, then `mail`.
    pub fn turn(&mut self, mail: &mut Vec<Mail>) {
        let mut out = Vec::new();
        self.services.handle(&mut self.queue, &mut out);
        self.queue.clear();
        self.services.deliver(mail, &mut out);
        mail.clear();
        self.take(out);
    }

    /// Lets time pass in the services.
    pub fn tick(&mut self, now_ms: u64) {
        let mut out = Vec::new();
        self.services.tick(now_ms, &mut out);
        self.take(out);
    }

    /// Gives the services turns until they have nothing left to do.
    pub fn settle(&mut self) {
        while self.services.pending() {
            let mut out = Vec::new();
            self.services.turn(&mut out);
            self.take(out);
        }
    }

    fn take(&mut self, out: Vec<Outbound>) {
        for outbound in out {
            match outbound {
                Outbound::Message { call, slices } => {
                    let answer = self.answers.get_mut(&call).expect("services answer open calls only");
                    assert!(answer.status.is_none(), "a message after the end of {call:?}");
                    answer.messages.push(slices.concat().into());
                }
                Outbound::Messages { call, messages } => {
                    let answer = self.answers.get_mut(&call).expect("services answer open calls only");
                    assert!(answer.status.is_none(), "messages after the end of {call:?}");
                    answer.messages.extend(messages.into_messages());
                }
                Outbound::Finish { call, status } => {
                    let answer = self.answers.get_mut(&call).expect("services end open calls only");
                    assert!(answer.status.is_none(), "two ends of {call:?}");
                    answer.status = Some(status);
                }
            }
        }
    }

    /// What a call has been answered so far.
    pub fn answer(&self, call: CallId) -> &MemoryAnswer {
        &self.answers[&call]
    }

    /// Takes the messages a call has been answered since the last time.
    pub fn take_messages(&mut self, call: CallId) -> Vec<Bytes> {
        self.answers.get_mut(&call).map(|answer| std::mem::take(&mut answer.messages)).unwrap_or_default()
    }
}
