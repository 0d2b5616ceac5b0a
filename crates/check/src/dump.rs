//! A history as text, to keep that of a failing run and to judge it again.
//!
//! One line per call, watcher and thing told: fields parted by spaces, messages as protobuf in hex, and after `#` the same
//! in short form for people, which reading passes over. The things told follow their watcher.

use std::fmt;
use std::io::{self, BufRead, Write};
use std::time::Duration;

use cetera_proto::etcdserverpb as pb;
use prost::Message;

use crate::Limits;
use crate::history::{Call, History, News, Outcome, Request, Response, Told, Watcher};
use crate::text;

/// First word of the first line, with the version of the form.
const MAGIC: &str = "cetera-history-2";
/// For something that is not there.
const NONE: &str = "-";

/// Writes a history with what its checkers must know.
///
/// # Errors
/// Those of the writer.
pub fn dump(history: &History, limits: &Limits, to: &mut impl Write) -> io::Result<()> {
    writeln!(
        to,
        "{MAGIC} {} {} {} {} {} {}",
        history.first_revision,
        limits.lease_grace_us,
        limits.faults_end_us,
        limits.clock_drift_ppm,
        limits.clock_slack_us,
        limits.budget.as_micros()
    )?;
    for (at, call) in history.calls.iter().enumerate() {
        let (kind, request) = write_request(&call.request);
        let (came, what) = match &call.outcome {
            Outcome::Done(response) => ("done", write_response(response)),
            Outcome::Refused(why) => ("refused", hex(why.as_bytes())),
            Outcome::Unknown(why) => ("unknown", hex(why.as_bytes())),
        };
        let Call { client, member, start_us, end_us, .. } = call;
        let words = text::call(history, at);
        writeln!(to, "call {client} {member} {start_us} {end_us} {kind} {request} {came} {what} # {words}")?;
    }
    for (at, watcher) in history.watchers.iter().enumerate() {
        let Watcher { client, member, start_us, end_us, owed_through, resumes, request, told } = watcher;
        let (owed, resumes) = (or_none(*owed_through), or_none(*resumes));
        let request = hex(&request.encode_to_vec());
        let words = text::watcher(history, at);
        writeln!(to, "watcher {client} {member} {start_us} {end_us} {owed} {resumes} {request} # {words}")?;
        for told in told {
            write_told(told, to)?;
        }
    }
    to.flush()
}

fn write_told(told: &Told, to: &mut impl Write) -> io::Result<()> {
    let Told { at_us, revision, news } = told;
    match news {
        News::Created => writeln!(to, "created {at_us} {revision} # {}", text::time(*at_us)),
        News::Progress => writeln!(to, "progress {at_us} {revision} # {}", text::time(*at_us)),
        News::Events { events, fragment } => {
            let message = hex(&pb::WatchResponse { events: events.clone(), ..Default::default() }.encode_to_vec());
            let words = text::events(events);
            writeln!(to, "events {at_us} {revision} {fragment} {message} # {} {words}", text::time(*at_us))
        }
        News::Canceled { compact_revision, reason } => {
            let reason_hex = hex(reason.as_bytes());
            let at = text::time(*at_us);
            writeln!(to, "canceled {at_us} {revision} {compact_revision} {reason_hex} # {at} {reason:?}")
        }
    }
}

/// Why a text is not a history.
#[derive(Debug)]
pub enum LoadError {
    /// It could not be read.
    Io(io::Error),
    /// This line says nothing that can be understood.
    Line {
        /// From 1.
        number: usize,
    },
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::Line { number } => write!(f, "line {number} is not one of a history"),
        }
    }
}

impl std::error::Error for LoadError {}

/// Reads what [`dump`] wrote.
///
/// # Errors
/// If it cannot be read, or is something else.
pub fn load(from: &mut impl BufRead) -> Result<(History, Limits), LoadError> {
    let mut history = History::default();
    let mut limits = Limits::default();
    for (index, line) in from.lines().enumerate() {
        let line = line.map_err(LoadError::Io)?;
        let fields = line.split(" # ").next().unwrap_or_default();
        let mut fields = Fields(fields.split(' '));
        read_line(index, &mut fields, &mut history, &mut limits).ok_or(LoadError::Line { number: index + 1 })?;
    }
    if history.first_revision == 0 {
        return Err(LoadError::Line { number: 1 });
    }
    Ok((history, limits))
}

struct Fields<'a>(std::str::Split<'a, char>);

impl Fields<'_> {
    fn word(&mut self) -> Option<&str> {
        self.0.next()
    }

    fn parse<T: std::str::FromStr>(&mut self) -> Option<T> {
        self.0.next()?.parse().ok()
    }

    /// A number, or that there is none.
    fn maybe<T: std::str::FromStr>(&mut self) -> Option<Option<T>> {
        match self.word()? {
            NONE => Some(None),
            some => some.parse().ok().map(Some),
        }
    }

    fn bytes(&mut self) -> Option<Vec<u8>> {
        unhex(self.0.next()?)
    }

    fn text(&mut self) -> Option<String> {
        String::from_utf8(self.bytes()?).ok()
    }
}

fn or_none(number: Option<impl fmt::Display>) -> String {
    number.map_or(NONE.to_owned(), |number| number.to_string())
}

fn read_line(index: usize, fields: &mut Fields<'_>, history: &mut History, limits: &mut Limits) -> Option<()> {
    let kind = fields.word()?.to_owned();
    if (index == 0) != (kind == MAGIC) {
        return None;
    }
    match kind.as_str() {
        MAGIC => {
            history.first_revision = fields.parse()?;
            *limits = Limits {
                lease_grace_us: fields.parse()?,
                faults_end_us: fields.parse()?,
                clock_drift_ppm: fields.parse()?,
                clock_slack_us: fields.parse()?,
                budget: Duration::from_micros(fields.parse()?),
            };
        }
        "call" => {
            let (client, member) = (fields.parse()?, fields.parse()?);
            let (start_us, end_us) = (fields.parse()?, fields.parse()?);
            let kind = fields.word()?.to_owned();
            let request = read_request(&kind, &fields.bytes()?)?;
            let came = fields.word()?.to_owned();
            let outcome = match came.as_str() {
                "done" => Outcome::Done(read_response(&kind, &fields.bytes()?)?),
                "refused" => Outcome::Refused(fields.text()?),
                "unknown" => Outcome::Unknown(fields.text()?),
                _ => return None,
            };
            history.calls.push(Call { client, member, start_us, end_us, request, outcome });
        }
        "watcher" => {
            let watcher = Watcher {
                client: fields.parse()?,
                member: fields.parse()?,
                start_us: fields.parse()?,
                end_us: fields.parse()?,
                owed_through: fields.maybe()?,
                resumes: fields.maybe()?,
                request: pb::WatchCreateRequest::decode(&fields.bytes()?[..]).ok()?,
                ..Watcher::default()
            };
            history.watchers.push(watcher);
        }
        kind => {
            let (at_us, revision) = (fields.parse()?, fields.parse()?);
            let news = match kind {
                "created" => News::Created,
                "progress" => News::Progress,
                "events" => News::Events {
                    fragment: fields.parse()?,
                    events: pb::WatchResponse::decode(&fields.bytes()?[..]).ok()?.events,
                },
                "canceled" => News::Canceled { compact_revision: fields.parse()?, reason: fields.text()? },
                _ => return None,
            };
            history.watchers.last_mut()?.told.push(Told { at_us, revision, news });
        }
    }
    Some(())
}

/// For every kind of call: its word, its variant, its messages.
macro_rules! codecs {
    ($($kind:literal $variant:ident($request:ty, $response:ty),)*) => {
        fn write_request(request: &Request) -> (&'static str, String) {
            match request {
                $(Request::$variant(message) => ($kind, hex(&message.encode_to_vec())),)*
            }
        }

        fn write_response(response: &Response) -> String {
            match response {
                $(Response::$variant(message) => hex(&message.encode_to_vec()),)*
            }
        }

        fn read_request(kind: &str, bytes: &[u8]) -> Option<Request> {
            match kind {
                $($kind => Some(Request::$variant(<$request>::decode(bytes).ok()?)),)*
                _ => None,
            }
        }

        fn read_response(kind: &str, bytes: &[u8]) -> Option<Response> {
            match kind {
                $($kind => Some(Response::$variant(<$response>::decode(bytes).ok()?)),)*
                _ => None,
            }
        }
    };
}

codecs! {
    "range" Range(pb::RangeRequest, pb::RangeResponse),
    "put" Put(pb::PutRequest, pb::PutResponse),
    "delete" DeleteRange(pb::DeleteRangeRequest, pb::DeleteRangeResponse),
    "txn" Txn(pb::TxnRequest, pb::TxnResponse),
    "compact" Compact(pb::CompactionRequest, pb::CompactionResponse),
    "grant" LeaseGrant(pb::LeaseGrantRequest, pb::LeaseGrantResponse),
    "revoke" LeaseRevoke(pb::LeaseRevokeRequest, pb::LeaseRevokeResponse),
    "keep-alive" LeaseKeepAlive(pb::LeaseKeepAliveRequest, pb::LeaseKeepAliveResponse),
    "time-to-live" LeaseTimeToLive(pb::LeaseTimeToLiveRequest, pb::LeaseTimeToLiveResponse),
}

fn hex(bytes: &[u8]) -> String {
    use fmt::Write;
    if bytes.is_empty() {
        return NONE.to_owned();
    }
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if text == NONE {
        return Some(Vec::new());
    }
    let digits: Option<Vec<u8>> = text.chars().map(|c| c.to_digit(16).map(|digit| digit as u8)).collect();
    let digits = digits?;
    (digits.len() % 2 == 0).then(|| digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Shape, legal};

    #[test]
    fn what_is_written_is_read_back() {
        for seed in 0..20 {
            let history = legal(&Shape::new(seed, 100));
            let limits = Limits { faults_end_us: seed, ..Limits::default() };
            let mut text = Vec::new();
            dump(&history, &limits, &mut text).unwrap();
            let (read, read_limits) = load(&mut &text[..]).unwrap();
            assert_eq!(format!("{history:?} {limits:?}"), format!("{read:?} {read_limits:?}"));
        }
    }

    #[test]
    fn something_else_is_refused_by_line() {
        let error = |text: &str| load(&mut text.as_bytes()).unwrap_err().to_string();
        assert_eq!(error("call 1 2"), "line 1 is not one of a history");
        assert_eq!(error(""), "line 1 is not one of a history");
        assert_eq!(error("cetera-history-2 1 0 0 0 0 0\ncreated 1 2"), "line 2 is not one of a history");
        assert_eq!(error("cetera-history-2 1 0 0 0 0 0\ncall 1 1 0 5 put 0 done -"), "line 2 is not one of a history");
    }
}
