//! HTTP/1.1 connections: any bytes, or a request with any path, query, method and headers. Whatever is answered is
//! HTTP, and the connection ends when its client leaves.

use bytes::Bytes;
use cetera_server::front::http1::Serving;
use cetera_server::fuzz::connection;

use crate::input::Input;
use crate::services::Access;
use cetera_server::rpc::NodeAccess as _;

const METHODS: &[&str] = &["GET", "HEAD", "OPTIONS", "POST", "PUT", "DELETE", "PRI", "TRACE"];
const PATHS: &[&str] = &["/health", "/metrics", "/version", "/livez", "/readyz/", "/debug/vars", "/", "*", "http://a"];
const SERVING: &[Serving] = &[Serving::All, Serving::Http, Serving::Metrics, Serving::Grpc];

/// See the module.
pub(crate) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let serving = *input.choose(SERVING);
    let mut pieces = Vec::new();
    while !input.is_empty() {
        pieces.push(match input.below(3) {
            0 => Bytes::copy_from_slice(input.bytes()),
            _ => request(&mut input),
        });
    }
    let access = Access::new();
    let settle = || access.settle().expect("no request stops the node");
    let heard = connection(pieces, serving, access.services(), access.published(), settle);
    // Or HTTP/2, if that is what the client spoke.
    assert!(
        heard.is_empty() || heard.starts_with(b"HTTP/1.") || heard[3] <= 9,
        "{:?}",
        String::from_utf8_lossy(&heard)
    );
}

fn request(input: &mut Input<'_>) -> Bytes {
    let mut text = Vec::new();
    text.extend_from_slice(input.choose(METHODS).as_bytes());
    text.push(b' ');
    text.extend_from_slice(input.choose(PATHS).as_bytes());
    text.extend_from_slice(input.bytes());
    text.extend_from_slice(if input.flag() { b" HTTP/1.0\r\n" } else { b" HTTP/1.1\r\n" });
    text.extend_from_slice(b"Host: ");
    text.extend_from_slice(input.bytes());
    text.extend_from_slice(b"\r\n");
    text.extend_from_slice(input.bytes());
    text.extend_from_slice(b"\r\n\r\n");
    text.into()
}
