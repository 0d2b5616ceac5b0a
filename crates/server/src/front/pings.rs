//! Refuses clients that ping too often, as grpc-go's server does (G-5).
//!
//! `h2` answers pings without a word, so they are counted where bytes come in: a scanner steps from frame header to
//! frame header. A ping is a strike if it comes sooner than `--grpc-keepalive-min-time` after the last, or, on a
//! connection without calls, sooner than two hours. Anything sent to the client clears the strikes; the third ends the
//! connection.

use std::cell::Cell;
use std::time::Duration;

/// Strikes a client may have (`maxPingStrikes`).
const STRIKES_MAX: u32 = 2;
/// Shortest time between pings on a connection without calls (`defaultPingTimeout`).
const IDLE_MIN_TIME: Duration = Duration::from_secs(2 * 60 * 60);
/// Bytes of an HTTP/2 frame header.
const HEADER_BYTES: usize = 9;
/// What an HTTP/2 connection begins with, before its first frame.
const PREFACE_BYTES: usize = 24;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PING: u8 = 6;
const ACK: u8 = 1;

/// GOAWAY with ENHANCE_YOUR_CALM and grpc-go's words; clients lengthen their interval by them.
pub(crate) const GOAWAY: &[u8] = b"\x00\x00\x16\x07\x00\x00\x00\x00\x00\x7f\xff\xff\xff\x00\x00\x00\x0btoo_many_pings";

/// Counts frames of interest in one direction of a connection's bytes.
#[derive(Debug)]
pub(crate) struct Scanner {
    counts: fn(kind: u8, flags: u8) -> bool,
    /// Bytes until the next frame header.
    skip: usize,
    header: [u8; HEADER_BYTES],
    /// Bytes of `header` that have come.
    filled: usize,
    found: u32,
}

impl Scanner {
    /// Finds the pings of a client.
    pub(crate) fn of_client() -> Self {
        let counts = |kind, flags| kind == PING && flags & ACK == 0;
        Scanner { counts, skip: PREFACE_BYTES, header: [0; HEADER_BYTES], filled: 0, found: 0 }
    }

    /// Finds the frames of a server that clear the client's strikes: each may be answered by a ping that measures the
    /// connection.
    pub(crate) fn of_server() -> Self {
        let counts = |kind, _| kind == DATA || kind == HEADERS;
        Scanner { counts, skip: 0, header: [0; HEADER_BYTES], filled: 0, found: 0 }
    }

    /// Takes the next bytes of the connection.
    pub(crate) fn scan(&mut self, mut bytes: &[u8]) {
        loop {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            if bytes.is_empty() {
                return;
            }
            let taken = (HEADER_BYTES - self.filled).min(bytes.len());
            self.header[self.filled..self.filled + taken].copy_from_slice(&bytes[..taken]);
            self.filled += taken;
            bytes = &bytes[taken..];
            if self.filled < HEADER_BYTES {
                return;
            }
            self.filled = 0;
            let [a, b, c, kind, flags, ..] = self.header;
            self.skip = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
            self.found += u32::from((self.counts)(kind, flags));
        }
    }

    /// Frames found since the last time.
    pub(crate) fn take(&mut self) -> u32 {
        std::mem::take(&mut self.found)
    }
}

/// What a connection's calls tell its [`Guard`].
#[derive(Debug, Default)]
pub(crate) struct Load {
    /// Open calls.
    pub(crate) calls: Cell<usize>,
    /// Whether something was sent since the last look.
    pub(crate) sent: Cell<bool>,
}

/// Judges the pings of one connection.
#[derive(Debug)]
pub(crate) struct Guard {
    min_time: Duration,
    last_ms: Option<u64>,
    strikes: u32,
    /// Frames sent that no ping has answered. A client that measures the connection pings once for a frame it reads,
    /// which may be long after the frame was written.
    credit: u32,
}

impl Guard {
    pub(crate) fn new(min_time: Duration) -> Self {
        Guard { min_time, last_ms: None, strikes: 0, credit: 0 }
    }

    /// Data and headers frames were sent.
    pub(crate) fn sent(&mut self, frames: u32) {
        self.credit = self.credit.saturating_add(frames);
    }

    /// Whether the client may go on after these pings.
    pub(crate) fn allows(&mut self, pings: u32, load: &Load, now_ms: u64) -> bool {
        if load.sent.take() {
            self.strikes = 0;
            self.last_ms = None;
        }
        let paid = pings.min(self.credit);
        self.credit -= paid;
        for _ in paid..pings {
            let min_time = if load.calls.get() == 0 { IDLE_MIN_TIME } else { self.min_time };
            if self.last_ms.is_some_and(|last| now_ms - last < min_time.as_millis() as u64) {
                self.strikes += 1;
            }
            self.last_ms = Some(now_ms);
        }
        self.strikes <= STRIKES_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, len: usize) -> Vec<u8> {
        let mut frame = vec![0, (len >> 8) as u8, len as u8, kind, flags, 0, 0, 0, 1];
        frame.resize(HEADER_BYTES + len, PING);
        frame
    }

    #[test]
    fn pings_are_found_however_the_bytes_are_cut() {
        let mut stream = vec![PING; PREFACE_BYTES];
        for (kind, flags, len) in [(4, 0, 0), (PING, 0, 8), (0, 1, 700), (PING, ACK, 8), (PING, 0, 8), (1, 4, 3)] {
            stream.extend(frame(kind, flags, len));
        }
        for size in [1, 2, 7, 9, 10, 300, stream.len()] {
            let mut scanner = Scanner::of_client();
            stream.chunks(size).for_each(|piece| scanner.scan(piece));
            assert_eq!((scanner.take(), scanner.take()), (2, 0), "pieces of {size}");
        }
    }

    #[test]
    fn strikes() {
        let load = Load::default();
        load.calls.set(1);
        let mut guard = Guard::new(Duration::from_secs(5));
        assert!((0..10).all(|n| guard.allows(1, &load, n * 5_000)), "as often as allowed");
        assert!(guard.allows(2, &load, 46_000), "two strikes");
        load.sent.set(true);
        assert!(guard.allows(3, &load, 46_001), "cleared, and two again");
        assert!(!guard.allows(1, &load, 46_002), "the third");
        let mut guard = Guard::new(Duration::from_secs(5));
        guard.sent(4);
        assert!(guard.allows(6, &load, 0) && !guard.allows(2, &load, 1), "four are paid for, one is free, two strikes");
        let mut guard = Guard::new(Duration::from_secs(5));
        load.calls.set(0);
        assert!(guard.allows(1, &load, 0) && guard.allows(1, &load, 60_000) && guard.allows(1, &load, 120_000));
        assert!(!guard.allows(1, &load, 180_000), "without calls a minute is too soon");
    }
}
