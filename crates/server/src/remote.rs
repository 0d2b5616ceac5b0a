//! Short questions to other members over their peer ports, in plain HTTP/1.1 as etcd's members ask and answer them: a
//! member has to ask them before it has any other connection.
//!
//! Blocking, one connection per question, bounded in time and bytes. Follows no redirect, keeps nothing.

use std::io::{Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::{Duration, Instant};

use cetera_state::member::{self, Member};

use crate::config::Url;
use crate::log;
use crate::tls;

/// Longest answer taken, in bytes: a list of a thousand members is shorter.
const ANSWER_BYTES_MAX: usize = 4 << 20;

/// Header in the answers to `/version`: the highest feature level that the member knows.
pub(crate) const FEATURE_LEVEL_HEADER: &str = "x-cetera-feature-level";

/// What came back.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Answer {
    /// HTTP status.
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    /// The body.
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// A header's value.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// What a member says of its versions (P-9).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Versions {
    /// `etcdserver`.
    pub(crate) server: String,
    /// `etcdcluster`.
    pub(crate) cluster: String,
    /// The highest level of features of our own that the member knows; `None` for an etcd.
    pub(crate) feature_level: Option<u64>,
}

/// The cluster's id and members as the member at `url` knows them (P-8).
///
/// # Errors
/// No answer, or none that makes sense.
pub(crate) fn members(url: &str, timeout: Duration) -> Result<(u64, Vec<Member>), String> {
    let answer = get(url, "/members", timeout)?;
    let members = member::read_members(&answer.body).map_err(|error| format!("{url}/members: {error}"))?;
    let header = answer.header("X-Etcd-Cluster-ID").unwrap_or_default();
    let cluster_id = u64::from_str_radix(header, 16).map_err(|_| format!("{url}/members: cluster id {header:?}"))?;
    if members.is_empty() {
        return Err(format!("{url}/members: failed to get raft cluster member(s) from the given URLs"));
    }
    Ok((cluster_id, members))
}

/// The versions of a member, by the first of its URLs that answers.
pub(crate) fn version_of(member: &Member, timeout: Duration) -> Option<Versions> {
    ask_member(member, "/version", timeout, read_versions)
}

/// Whether a downgrade is under way, as a member knows (P-13).
pub(crate) fn downgrade_enabled_at(member: &Member, timeout: Duration) -> Option<bool> {
    ask_member(member, "/downgrade/enabled", timeout, |answer| match answer.body.trim_ascii() {
        b"true" => Ok(true),
        b"false" => Ok(false),
        other => Err(format!("{:?} is neither true nor false", String::from_utf8_lossy(other))),
    })
}

fn ask_member<T>(
    member: &Member,
    path: &str,
    timeout: Duration,
    read: impl Fn(&Answer) -> Result<T, String>,
) -> Option<T> {
    for url in &member.peer_urls {
        match get(url, path, timeout).and_then(|answer| read(&answer)) {
            Ok(answer) => return Some(answer),
            Err(error) => log::warning!(
                "failed to reach the peer URL",
                "address" = format!("{url}{path}"),
                "remote-member-id" = log::Hex(member.id),
                "error" = error,
            ),
        }
    }
    None
}

fn read_versions(answer: &Answer) -> Result<Versions, String> {
    let value: serde_json::Value = serde_json::from_slice(&answer.body).map_err(|error| error.to_string())?;
    let text = |name: &str| value.get(name).and_then(|text| text.as_str()).unwrap_or_default().to_owned();
    let feature_level = answer.header(FEATURE_LEVEL_HEADER).and_then(|level| level.parse().ok());
    Ok(Versions { server: text("etcdserver"), cluster: text("etcdcluster"), feature_level })
}

/// GETs a path of the member at `url`.
///
/// # Errors
/// What stood in the way, with the address.
pub(crate) fn get(url: &str, path: &str, timeout: Duration) -> Result<Answer, String> {
    let answer = ask("GET", url, path, timeout)?;
    if answer.status == 200 {
        return Ok(answer);
    }
    let text = String::from_utf8_lossy(&answer.body);
    Err(format!("Get {:?}: status {}: {}", format!("{url}{path}"), answer.status, text.trim_end()))
}

/// POSTs nothing to a path of the member at `url`; whatever it answers is an answer.
///
/// # Errors
/// What stood in the way, with the address.
pub(crate) fn post(url: &str, path: &str, timeout: Duration) -> Result<Answer, String> {
    ask("POST", url, path, timeout)
}

fn ask(method: &str, url: &str, path: &str, timeout: Duration) -> Result<Answer, String> {
    let verb = if method == "GET" { "Get" } else { "Post" };
    let failed = |error: &dyn std::fmt::Display| format!("{verb} {:?}: {error}", format!("{url}{path}"));
    let parsed = Url::parse(url).map_err(|error| failed(&error))?;
    if parsed.scheme != "http" && parsed.scheme != "https" {
        return Err(failed(&format_args!("scheme {} is not supported", parsed.scheme)));
    }
    let until = Instant::now() + timeout;
    let bytes = exchange(method, &parsed, path, until).map_err(|error| failed(&error))?;
    parse(&bytes).map_err(|error| failed(&error))
}

trait ReadWrite: std::io::Read + std::io::Write {}

impl<T: std::io::Read + std::io::Write> ReadWrite for T {}

fn exchange(method: &str, url: &Url, path: &str, until: Instant) -> std::io::Result<Vec<u8>> {
    let left = || match until.saturating_duration_since(Instant::now()) {
        Duration::ZERO => Err(std::io::Error::from(std::io::ErrorKind::TimedOut)),
        left => Ok(left),
    };
    let mut addresses: Vec<_> = (url.host.as_str(), url.port).to_socket_addrs()?.collect();
    addresses.sort_by_key(std::net::SocketAddr::is_ipv6);
    let mut connected = Err(std::io::Error::from(std::io::ErrorKind::NotFound));
    for address in addresses {
        connected = TcpStream::connect_timeout(&address, left()?);
        if connected.is_ok() {
            break;
        }
    }
    let socket = connected?;
    socket.set_write_timeout(Some(left()?))?;
    let mut stream: Box<dyn ReadWrite> = match url.scheme.as_str() {
        "https" => Box::new(
            tls::wrap_blocking(socket.try_clone()?, &url.host)
                .unwrap_or_else(|| Err(std::io::Error::other("this member has no certificates for its peers")))?,
        ),
        _ => Box::new(socket.try_clone()?),
    };
    let host = match url.host.contains(':') {
        true => format!("[{}]", url.host),
        false => url.host.clone(),
    };
    let head = format!("{method} {path} HTTP/1.1\r\nHost: {host}:{}\r\nConnection: close\r\n", url.port);
    // Go's servers want to be told that a POST has no body; on a GET it says nothing.
    write!(stream, "{head}Content-Length: 0\r\n\r\n")?;
    let mut bytes = Vec::new();
    let mut chunk = [0; 16 << 10];
    loop {
        socket.set_read_timeout(Some(left()?))?;
        match stream.read(&mut chunk) {
            // A member that closes without a last word of TLS has said all of it if its length says so.
            Ok(0) => return Ok(bytes),
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(bytes),
            Err(error) => return Err(error),
            Ok(_) if bytes.len() > ANSWER_BYTES_MAX => return Err(std::io::Error::other("the answer is too long")),
            Ok(count) => bytes.extend_from_slice(&chunk[..count]),
        }
    }
}

/// Reads an answer that ended with its connection.
fn parse(bytes: &[u8]) -> Result<Answer, String> {
    const CUT: &str = "unexpected EOF";
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").ok_or(CUT)?;
    let head = std::str::from_utf8(&bytes[..end]).map_err(|_| "malformed HTTP response")?;
    let mut lines = head.split("\r\n");
    let status = lines
        .next()
        .filter(|line| line.starts_with("HTTP/1."))
        .and_then(|line| line.split(' ').nth(1))
        .and_then(|code| code.parse().ok())
        .ok_or("malformed HTTP response")?;
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect();
    let mut answer = Answer { status, headers, body: bytes[end + 4..].to_vec() };
    if answer.header("Transfer-Encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
        answer.body = unchunk(&answer.body).ok_or(CUT)?;
    } else if let Some(length) = answer.header("Content-Length") {
        let length: usize = length.parse().map_err(|_| "malformed HTTP response")?;
        if answer.body.len() < length {
            return Err(CUT.to_owned());
        }
        answer.body.truncate(length);
    }
    Ok(answer)
}

/// The body out of its chunks; `None` if the last one is missing.
fn unchunk(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = rest.windows(2).position(|window| window == b"\r\n")?;
        let size = std::str::from_utf8(&rest[..line]).ok()?.split(';').next()?.trim();
        let size = usize::from_str_radix(size, 16).ok()?;
        rest = &rest[line + 2..];
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(rest.get(..size)?);
        rest = rest.get(size + 2..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn answers_come_in_every_framing() {
        for text in [
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A: b\r\n\r\nhello",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nx-a: b\r\n\r\n2\r\nhe\r\n3;ext\r\nllo\r\n0\r\n\r\n",
            "HTTP/1.0 200 OK\r\nX-A:b\r\n\r\nhello",
        ] {
            let answer = parse(text.as_bytes()).expect(text);
            assert_eq!(
                (answer.status, answer.header("x-a"), &answer.body[..]),
                (200, Some("b"), &b"hello"[..]),
                "{text}"
            );
        }
        for (text, why) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello", "unexpected EOF"),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", "unexpected EOF"),
            ("HTTP/1.1 200 OK\r\nContent-Le", "unexpected EOF"),
            ("SSH-2.0-x\r\n\r\n\r\n", "malformed HTTP response"),
        ] {
            assert_eq!(parse(text.as_bytes()).expect_err(text), why, "{text}");
        }
    }

    /// Answers one question with `answer`.
    fn one_answer(answer: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("asked");
            let mut question = Vec::new();
            let mut byte = [0];
            while !question.ends_with(b"\r\n\r\n") && stream.read(&mut byte).expect("a question") == 1 {
                question.push(byte[0]);
            }
            stream.write_all(answer.as_bytes()).expect("taken");
        });
        url
    }

    const PATIENCE: Duration = Duration::from_secs(20);

    /// P-8: as etcd answers.
    #[test]
    fn members_are_asked_for() {
        let url = one_answer(concat!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Etcd-Cluster-Id: cdf818194e3a8c32\r\n\r\n",
            "[{\"id\":10276657743932975437,\"peerURLs\":[\"http://localhost:2380\"],\"name\":\"a\",",
            "\"clientURLs\":[\"http://localhost\"]}]\n"
        ));
        let (cluster_id, listed) = members(&url, PATIENCE).expect("an answer");
        assert_eq!(cluster_id, 0xcdf8_1819_4e3a_8c32);
        assert_eq!((listed.len(), listed[0].id, listed[0].name.as_str()), (1, 0x8e9e_05c5_2164_694d, "a"));
    }

    #[test]
    fn versions_are_asked_for() {
        let url = one_answer(
            "HTTP/1.1 200 OK\r\nX-Cetera-Feature-Level: 4\r\n\r\n{\"etcdserver\":\"3.6.1\",\"etcdcluster\":\"not_decided\",\"storage\":\"unknown\"}",
        );
        let member = Member { peer_urls: vec![url], ..Default::default() };
        let told = version_of(&member, PATIENCE).expect("an answer");
        assert_eq!(told, Versions { server: "3.6.1".into(), cluster: "not_decided".into(), feature_level: Some(4) });
    }

    /// P-11: what is refused is an answer to a request, and an error of a question.
    #[test]
    fn refusals_are_told() {
        const REFUSED: &str = "HTTP/1.1 412 Precondition Failed\r\nContent-Length: 3\r\n\r\nno\n";
        let url = one_answer(REFUSED);
        let answer = post(&url, "/members/promote/5", PATIENCE).expect("an answer");
        assert_eq!((answer.status, &answer.body[..]), (412, &b"no\n"[..]));
        let url = one_answer(REFUSED);
        let error = get(&url, "/members", PATIENCE).expect_err("refused");
        assert_eq!(error, format!("Get \"{url}/members\": status 412: no"));
    }

    #[test]
    fn silence_ends() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let error = get(&url, "/members", Duration::from_millis(30)).expect_err("nobody answers");
        assert!(error.starts_with(&format!("Get \"{url}/members\": ")), "{error}");
        drop(listener);
        get(&url, "/members", PATIENCE).expect_err("nobody listens");
    }
}
