//! What fuzz targets need of this crate's insides: its parsers and output formats without a terminal or a cluster.
//! Behind the feature `fuzz`, which no program enables.

use cetera_client::{Compare, Op};
use cetera_proto::etcdserverpb::{
    AlarmResponse, DeleteRangeResponse, LeaseTimeToLiveResponse, MemberListResponse, PutResponse, RangeResponse,
    StatusResponse, TxnResponse, WatchResponse,
};
use prost::{DecodeError, Message};

use crate::printer::{Answer, Format};

/// A line of a typed transaction, read as a condition and as an operation.
pub fn txn_line(line: &[u8]) -> (Option<Compare>, Option<Op>) {
    crate::command::txn::read_line(line)
}

/// A line split into arguments.
///
/// # Errors
/// What is wrong with it.
pub fn words(line: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    crate::go::argify(line)
}

/// A command line read and not run: the words that are no flags, or what is wrong.
///
/// # Errors
/// The text that would be printed.
pub fn command_line(args: Vec<Vec<u8>>) -> Result<Vec<Vec<u8>>, String> {
    crate::cli::read(&crate::command::ROOT, args)
}

/// A text as Go's `%q` prints it.
pub fn quote(bytes: &[u8]) -> String {
    crate::go::quote(bytes)
}

/// Decodes an answer of the `kind`-th type and prints it in every format; what the formats give.
///
/// # Errors
/// The bytes are no such answer.
pub fn show(kind: u8, bytes: &[u8]) -> Result<Vec<Vec<u8>>, DecodeError> {
    Ok(match kind % 11 {
        0 => all(&Answer::Get(&RangeResponse::decode(bytes)?)),
        1 => all(&Answer::Values(&RangeResponse::decode(bytes)?)),
        2 => all(&Answer::Put(&PutResponse::decode(bytes)?)),
        3 => all(&Answer::Delete(&DeleteRangeResponse::decode(bytes)?)),
        4 => all(&Answer::Txn(&TxnResponse::decode(bytes)?)),
        5 => all(&Answer::Watch(&WatchResponse::decode(bytes)?)),
        6 => all(&Answer::TimeToLive(&LeaseTimeToLiveResponse::decode(bytes)?, true)),
        7 => all(&Answer::MemberList(&MemberListResponse::decode(bytes)?)),
        8 => all(&Answer::Status(&[("http://a:1".to_string(), StatusResponse::decode(bytes)?)])),
        9 => all(&Answer::Alarm(&AlarmResponse::decode(bytes)?)),
        _ => all(&Answer::TimeToLive(&LeaseTimeToLiveResponse::decode(bytes)?, false)),
    })
}

fn all(answer: &Answer<'_>) -> Vec<Vec<u8>> {
    let formats = ["simple", "fields", "json", "protobuf", "table"];
    let formats = formats.iter().flat_map(|name| [Format::named(name, false), Format::named(name, true)]);
    formats.flatten().filter_map(|format| format.text(answer).ok()).map(|text| text.out).collect()
}
