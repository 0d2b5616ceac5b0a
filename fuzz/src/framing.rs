//! gRPC's framing: however a stream is cut, the same messages come out; header values never surprise.

use bytes::Bytes;
use cetera_server::fuzz;

use crate::input::Input;

/// Longest message taken.
const MAX: usize = 1_000;

/// See the module.
pub(crate) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    match input.below(3) {
        0 => messages(&mut input),
        1 => {
            let value = input.rest();
            if let Some(ms) = fuzz::timeout_ms(value) {
                assert!(value.len() >= 2 && value.len() <= 9, "{value:?} is {ms} ms");
            }
        }
        _ => {
            let text = String::from_utf8_lossy(input.rest()).into_owned();
            let encoded = fuzz::percent_encode(&text);
            assert!(encoded.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
            assert_eq!(decode(&encoded), text.as_bytes());
        }
    }
}

fn messages(input: &mut Input<'_>) {
    let encoding = *input.choose(&[None, Some("identity"), Some("gzip")]);
    let cuts = input.bytes();
    let stream = Bytes::copy_from_slice(input.rest());
    let whole = fuzz::messages(MAX, encoding, std::slice::from_ref(&stream));
    let mut rest = stream.clone();
    let mut pieces: Vec<Bytes> = cuts.iter().map(|cut| rest.split_to(usize::from(*cut).min(rest.len()))).collect();
    pieces.push(rest);
    assert_eq!(fuzz::messages(MAX, encoding, &pieces), whole, "cut at {cuts:?}");
    assert_eq!(fuzz::pings(&pieces), fuzz::pings(std::slice::from_ref(&stream)), "cut at {cuts:?}");
    let (found, refused, between) = whole;
    let told: usize = found.iter().map(|message| 5 + message.len()).sum();
    assert!(found.iter().all(|message| message.len() <= MAX));
    if refused.is_none() {
        assert_eq!(between, told == stream.len());
    }
}

fn decode(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let digits = [bytes.next(), bytes.next()].map(|digit| digit.and_then(|d| char::from(d).to_digit(16)));
            let [Some(high), Some(low)] = digits else { panic!("an escape of two digits") };
            out.push((high * 16 + low) as u8);
        } else {
            out.push(byte);
        }
    }
    out
}
