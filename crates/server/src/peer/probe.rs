//! How long a small question to a peer takes (P-7), asked now and then on a connection of its own. For the metric alone:
//! nothing is decided by it.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::stream::PeerStream;
use crate::config::Url;
use crate::metrics::peers::PeerCounters;
use crate::tls::Tls;

/// Between two questions (etcd `ConnReadTimeout - time.Second`).
pub(super) const EVERY: Duration = Duration::from_secs(4);
/// An answer that takes longer is not waited for.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longest answer.
const ANSWER_BYTES_MAX: usize = 4 << 10;

/// Asks until the task is ended.
pub(super) async fn run(urls: Rc<RefCell<Vec<Url>>>, counters: Arc<PeerCounters>, tls: Option<Tls>, every: Duration) {
    let mut at = 0;
    let mut line = None;
    loop {
        tokio::time::sleep(every).await;
        let url = {
            let urls = urls.borrow();
            urls.get(at % urls.len().max(1)).cloned()
        };
        let Some(url) = url else { continue };
        match tokio::time::timeout(PATIENCE, ask(line.take(), &url, tls.as_ref())).await {
            Ok(Ok((stream, took))) => {
                counters.round_trips.observe(took);
                line = Some(stream);
            }
            // The next question goes to the next URL, on a new connection.
            Ok(Err(_)) | Err(_) => at += 1,
        }
    }
}

async fn ask(line: Option<PeerStream>, url: &Url, tls: Option<&Tls>) -> io::Result<(PeerStream, Duration)> {
    let mut stream = match line {
        Some(stream) => stream,
        None => PeerStream::connect(url, tls, PATIENCE).await?,
    };
    let begun = Instant::now();
    stream
        .write_all(format!("GET /raft/probing HTTP/1.1\r\nHost: {}:{}\r\n\r\n", url.host, url.port).as_bytes())
        .await?;
    stream.flush().await?;
    let mut answer = Vec::new();
    while !is_whole(&answer)? {
        if answer.len() >= ANSWER_BYTES_MAX {
            return Err(invalid("an answer without an end"));
        }
        if (&mut stream).take(ANSWER_BYTES_MAX as u64).read_buf(&mut answer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok((stream, begun.elapsed()))
}

/// Whether an answer is there with its body.
fn is_whole(answer: &[u8]) -> io::Result<bool> {
    let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(false) };
    let head = std::str::from_utf8(&answer[..end]).map_err(|_| invalid("a head that is no text"))?;
    if !head.starts_with("HTTP/1.1 200 ") {
        return Err(invalid("not an answer to a probe"));
    }
    let length = head.lines().filter_map(|line| line.split_once(':')).find_map(|(name, value)| {
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok()).flatten()
    });
    let length = length.ok_or_else(|| invalid("an answer without a length"))?;
    Ok(answer.len() >= end + 4 + length)
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::METRICS;

    #[test]
    fn answers() {
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nContent-Length: 3\r\n\r\n";
        for (answer, whole) in
            [("", false), ("HTTP/1.1 200 OK\r\n", false), (head, false), (&format!("{head}{{}}\n"), true)]
        {
            assert_eq!(is_whole(answer.as_bytes()).expect("good so far"), whole, "{answer}");
        }
        for bad in ["HTTP/1.1 404 Not Found\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n"] {
            is_whole(bad.as_bytes()).expect_err(bad);
        }
    }

    /// The first connection ends after an answer; the next question opens another.
    #[test]
    fn round_trips_are_measured() {
        const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let counters = METRICS.peer(0x0bad_cafe);
        tokio::task::LocalSet::new().block_on(&runtime, async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
            let url = Url::parse(&format!("http://{}", listener.local_addr().expect("bound"))).expect("a URL");
            let urls = Rc::new(RefCell::new(vec![url]));
            let asking = tokio::task::spawn_local(run(urls, Arc::clone(&counters), None, Duration::from_millis(1)));
            for _ in 0..2 {
                let (mut stream, _) = listener.accept().await.expect("asked");
                let mut question = [0; 1024];
                let count = stream.read(&mut question).await.expect("a question");
                assert!(question[..count].starts_with(b"GET /raft/probing HTTP/1.1\r\n"));
                stream.write_all(ANSWER).await.expect("taken");
            }
            // A third: the second answer was heard.
            listener.accept().await.expect("asked");
            asking.abort();
        });
        assert!(counters.round_trips.count() >= 2);
    }
}
