//! HTTP/2 connections: frames of any kind, headers of any value, gRPC calls cut anywhere, on real services over a real
//! node. What the server says is frames, and the connection ends when its client leaves.

use bytes::Bytes;
use cetera_proto::services::METHODS;
use cetera_server::front::http1::Serving;
use cetera_server::fuzz::connection;

use crate::input::Input;
use crate::services::Access;
use cetera_server::rpc::NodeAccess as _;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const NAMES: &[&str] = &[
    "content-type",
    "grpc-timeout",
    "grpc-encoding",
    "te",
    "hasleader",
    "client-api-version",
    "token",
    "authorization",
    "x-bin",
    "grpc-accept-encoding",
    "content-length",
    ":authority",
    ":status",
    "connection",
];
const HEADERS: u8 = 1;
const DATA: u8 = 0;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// See the module.
pub(crate) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let mut pieces = vec![Bytes::from_static(PREFACE), frame(4, 0, 0, b"")];
    let mut next_stream = 1;
    let mut streams = Vec::new();
    if input.u8() == 255 {
        pieces.clear();
        pieces.push(Bytes::copy_from_slice(input.bytes()));
    }
    while !input.is_empty() {
        pieces.push(piece(&mut input, &mut next_stream, &mut streams));
    }
    let access = Access::new();
    let settle = || access.settle().expect("no request stops the node");
    let heard = connection(pieces, Serving::All, access.services(), access.published(), settle);
    check_frames(&heard);
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Bytes {
    let len = (payload.len() as u32).to_be_bytes();
    [&[len[1], len[2], len[3], kind, flags][..], &stream.to_be_bytes(), payload].concat().into()
}

fn piece(input: &mut Input<'_>, next_stream: &mut u32, streams: &mut Vec<u32>) -> Bytes {
    let some = |input: &mut Input<'_>, streams: &[u32]| match streams {
        [] => u32::from(input.u8()),
        _ => *input.choose(streams),
    };
    match input.below(6) {
        // A call with its request.
        0 | 1 => {
            let stream = *next_stream;
            *next_stream += 2;
            streams.push(stream);
            let block = headers(input);
            let body = input.bytes();
            let whole = input.flag();
            let len = if whole { body.len() as u32 } else { input.u64() as u32 };
            let message = [&[u8::from(input.u8() == 255)][..], &len.to_be_bytes(), body].concat();
            let end = if input.flag() { END_STREAM } else { 0 };
            [frame(HEADERS, END_HEADERS, stream, &block), frame(DATA, end, stream, &message)].concat().into()
        }
        2 => {
            let stream = some(input, streams);
            frame(DATA, input.u8() & 9, stream, input.bytes())
        }
        3 => {
            let (kind, flags) = (input.u8() % 12, input.u8());
            let stream = if input.flag() { some(input, streams) } else { u32::from(input.u8()) };
            frame(kind, flags, stream, input.bytes())
        }
        4 => {
            let stream = some(input, streams);
            let block = headers(input);
            frame(HEADERS, END_HEADERS | input.u8() & END_STREAM, stream, &block)
        }
        _ => Bytes::copy_from_slice(input.bytes()),
    }
}

/// A header block of literals: those of a call, and some of any value.
fn headers(input: &mut Input<'_>) -> Vec<u8> {
    let mut block = Vec::new();
    let mut literal = |name: &[u8], value: &[u8]| {
        let (name, value) = (&name[..name.len().min(126)], &value[..value.len().min(126)]);
        block.push(0);
        block.push(name.len() as u8);
        block.extend_from_slice(name);
        block.push(value.len() as u8);
        block.extend_from_slice(value);
    };
    let odd = input.u8();
    let method = input.choose(METHODS).path.as_bytes();
    literal(b":method", if odd & 1 == 0 { b"POST" } else { b"GET" });
    literal(b":scheme", b"http");
    literal(b":path", if odd & 2 == 0 { method } else { input.bytes() });
    literal(b":authority", b"a");
    if odd & 4 == 0 {
        literal(b"content-type", b"application/grpc");
    }
    for _ in 0..odd >> 5 {
        let name = if odd & 8 == 0 { input.choose(NAMES).as_bytes() } else { input.bytes() };
        literal(name, input.bytes());
    }
    block
}

/// The server's bytes are whole frames, or an answer in HTTP/1.1 to what was no preface.
fn check_frames(mut heard: &[u8]) {
    if heard.starts_with(b"HTTP/1.") {
        return;
    }
    while !heard.is_empty() {
        let Some((head, rest)) = heard.split_first_chunk::<9>() else { panic!("half a frame header: {heard:?}") };
        let len = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        assert!(head[3] <= 9, "a frame of kind {}", head[3]);
        heard = rest.get(len..).unwrap_or_else(|| panic!("{} bytes of a frame of {len}", rest.len()));
    }
}
