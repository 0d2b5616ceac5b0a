//! Peer URLs compared as etcd compares them: as written, else by the addresses that their names stand for.

use std::collections::BTreeMap;
use std::net::ToSocketAddrs as _;
use std::time::{Duration, Instant};

use crate::config::Url;
use crate::log;

/// Names of members and their peer URLs, names in order, URLs sorted.
pub(super) type UrlsMap = Vec<(String, Vec<String>)>;

/// How long names are tried to be resolved, over all URLs of one question.
const RESOLVE_FOR: Duration = Duration::from_secs(30);
/// Time between tries.
const RESOLVE_AGAIN: Duration = Duration::from_secs(1);

/// Reads `name=url,name=url`: a name may come several times.
///
/// # Errors
/// etcd's words for a malformed URL.
pub(super) fn read_map(text: &str) -> Result<UrlsMap, String> {
    let mut members: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for pair in text.split(',').filter(|pair| !pair.is_empty()) {
        let (name, url) = pair.split_once('=').unwrap_or((pair, ""));
        members.entry(name.to_owned()).or_default().push(Url::parse(url.trim())?.to_string());
    }
    for urls in members.values_mut() {
        urls.sort();
    }
    Ok(members.into_iter().collect())
}

/// As [`read_map`] reads it: all pairs, sorted.
pub(super) fn show_map(map: &UrlsMap) -> String {
    let mut pairs: Vec<String> =
        map.iter().flat_map(|(name, urls)| urls.iter().map(move |url| format!("{name}={url}"))).collect();
    pairs.sort();
    pairs.join(",")
}

/// Whether an URL is given twice.
pub(super) fn has_duplicates(map: &UrlsMap) -> bool {
    let mut all: Vec<&String> = map.iter().flat_map(|(_, urls)| urls).collect();
    all.sort();
    all.windows(2).any(|pair| pair[0] == pair[1])
}

/// Gives a host and port its address, `ip:port`.
pub(super) type Resolve<'a> = &'a mut dyn FnMut(&str, u16) -> Result<String, String>;

/// Whether both lists stand for the same addresses.
///
/// # Errors
/// Why not, in etcd's words.
pub(super) fn same(a: &[String], b: &[String], resolve: Resolve<'_>) -> Result<(), String> {
    if a.len() != b.len() {
        return Err(format!("len({}) != len({})", quoted(a), quoted(b)));
    }
    let sorted = |list: &[String]| {
        let mut list = list.to_vec();
        list.sort();
        list
    };
    if sorted(a) == sorted(b) {
        return Ok(());
    }
    let mut resolved = [Vec::new(), Vec::new()];
    for (list, into) in [a, b].into_iter().zip(&mut resolved) {
        for text in list {
            let url = Url::parse(text)?;
            into.push(if url.scheme.starts_with("unix") || url.host == "localhost" {
                url.to_string()
            } else {
                let address =
                    resolve(&url.host, url.port).map_err(|error| format!("failed to resolve {text:?} ({error})"))?;
                format!("{}://{address}", url.scheme)
            });
        }
        into.sort();
    }
    let [a, b] = resolved;
    match a.iter().zip(&b).find(|(a, b)| a != b) {
        None => Ok(()),
        Some((a, b)) => Err(format!("resolved urls: {a:?} != {b:?}")),
    }
}

/// As Go prints a list of strings with `%q`.
fn quoted(list: &[String]) -> String {
    let quoted: Vec<String> = list.iter().map(|item| format!("{item:?}")).collect();
    format!("[{}]", quoted.join(" "))
}

/// Asks the system, again and again until [`RESOLVE_FOR`] is over: at a start of many machines names come late.
pub(super) fn resolver() -> impl FnMut(&str, u16) -> Result<String, String> {
    let until = Instant::now() + RESOLVE_FOR;
    move |host, port| {
        loop {
            let error = match (host, port).to_socket_addrs() {
                Ok(mut addresses) => match addresses.next() {
                    Some(address) => return Ok(address.to_string()),
                    None => "no address".to_owned(),
                },
                Err(error) => error.to_string(),
            };
            log::warning!("failed to resolve URL Host", "host" = host, "error" = error);
            if Instant::now() + RESOLVE_AGAIN >= until {
                return Err(error);
            }
            std::thread::sleep(RESOLVE_AGAIN);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(urls: &[&str]) -> Vec<String> {
        urls.iter().map(|url| url.to_string()).collect()
    }

    #[test]
    fn maps_are_read_as_etcd_reads_them() {
        let map = read_map("b=http://h:2,a=http://h:1,,b=http://g:2").expect("valid");
        assert_eq!(map, [("a".into(), list(&["http://h:1"])), ("b".into(), list(&["http://g:2", "http://h:2"]))]);
        assert_eq!(show_map(&map), "a=http://h:1,b=http://g:2,b=http://h:2");
        assert_eq!(read_map("").expect("valid"), []);
        assert_eq!(read_map("a").expect_err("no url"), "URL scheme must be http, https, unix, or unixs: ");
        assert!(!has_duplicates(&map));
        assert!(has_duplicates(&read_map("a=http://h:1,b=http://h:1").expect("valid")));
    }

    #[test]
    fn urls_are_the_same_as_written_or_as_resolved() {
        let mut asked = 0;
        let mut resolve = |host: &str, port: u16| {
            asked += 1;
            match host {
                "one" | "1.1.1.1" => Ok(format!("1.1.1.1:{port}")),
                "two" => Ok(format!("2.2.2.2:{port}")),
                _ => Err("no such host".to_owned()),
            }
        };
        let one = list(&["http://one:1"]);
        assert_eq!(
            same(&list(&["http://x:1", "http://y:1"]), &list(&["http://y:1", "http://x:1"]), &mut resolve),
            Ok(())
        );
        assert_eq!(same(&one, &list(&["http://1.1.1.1:1"]), &mut resolve), Ok(()));
        for (other, why) in [
            (&["http://two:1"][..], "resolved urls: \"http://1.1.1.1:1\" != \"http://2.2.2.2:1\""),
            (&["http://one:2"], "resolved urls: \"http://1.1.1.1:1\" != \"http://1.1.1.1:2\""),
            (&["https://one:1"], "resolved urls: \"http://1.1.1.1:1\" != \"https://1.1.1.1:1\""),
            (&["http://three:1"], "failed to resolve \"http://three:1\" (no such host)"),
            (&[], "len([\"http://one:1\"]) != len([])"),
        ] {
            assert_eq!(same(&one, &list(other), &mut resolve), Err(why.to_owned()));
        }
        assert!(asked > 0);
    }
}
