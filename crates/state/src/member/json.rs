//! A member as JSON: the context of membership entries (D-8) and the value etcd keeps per member (contract 5.5).
//! Written byte for byte as Go's `encoding/json` does; read as leniently as Go reads.

use std::fmt;

use serde_json::{Map, Value};

use super::Member;

/// The bytes are not a member.
#[derive(Debug)]
pub struct JsonError(String);

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "membership context: {}", self.0)
    }
}

impl std::error::Error for JsonError {}

/// `{"id":..,"peerURLs":[..],"isLearner":true?,"name":..?,"clientURLs":[..]?}`: context of an addition or an update.
pub fn write_member(member: &Member) -> Vec<u8> {
    let mut out = String::new();
    open_member(member, &mut out);
    out.push('}');
    out.into_bytes()
}

/// Context of a promotion (etcd `ConfigChangeContext`): a member of whom only the id is set, and `isPromote`.
pub fn write_promotion(id: u64) -> Vec<u8> {
    let mut out = String::new();
    open_member(&Member { id, ..Default::default() }, &mut out);
    out.push_str(",\"isPromote\":true}");
    out.into_bytes()
}

/// Reads any of the above: the member, and whether it is to be promoted.
pub fn read_context(bytes: &[u8]) -> Result<(Member, bool), JsonError> {
    member_of(serde_json::from_slice(bytes).map_err(|e| JsonError(e.to_string()))?)
}

fn member_of(value: Value) -> Result<(Member, bool), JsonError> {
    let Value::Object(fields) = value else {
        return Err(JsonError("not an object".into()));
    };
    let member = Member {
        id: match field(&fields, "id") {
            None => 0,
            Some(value) => value.as_u64().ok_or_else(|| JsonError("id is not an unsigned number".into()))?,
        },
        peer_urls: strings(&fields, "peerURLs")?,
        is_learner: boolean(&fields, "isLearner")?,
        name: match field(&fields, "name") {
            None => String::new(),
            Some(value) => value.as_str().ok_or_else(|| JsonError("name is not a string".into()))?.to_owned(),
        },
        client_urls: strings(&fields, "clientURLs")?,
    };
    Ok((member, boolean(&fields, "isPromote")?))
}

/// Reads a list of members, as a member answers `GET /members` (P-8).
pub fn read_members(bytes: &[u8]) -> Result<Vec<Member>, JsonError> {
    let value: Value = serde_json::from_slice(bytes).map_err(|e| JsonError(e.to_string()))?;
    match value {
        Value::Array(items) => items.into_iter().map(|item| Ok(member_of(item)?.0)).collect(),
        Value::Null => Ok(Vec::new()),
        _ => Err(JsonError("not a list".into())),
    }
}

fn open_member(member: &Member, out: &mut String) {
    out.push_str(&format!("{{\"id\":{},\"peerURLs\":", member.id));
    if member.peer_urls.is_empty() {
        out.push_str("null");
    } else {
        write_strings(&member.peer_urls, out);
    }
    if member.is_learner {
        out.push_str(",\"isLearner\":true");
    }
    if !member.name.is_empty() {
        out.push_str(",\"name\":");
        write_string(&member.name, out);
    }
    if !member.client_urls.is_empty() {
        out.push_str(",\"clientURLs\":");
        write_strings(&member.client_urls, out);
    }
}

fn write_strings(list: &[String], out: &mut String) {
    out.push('[');
    for (i, item) in list.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        write_string(item, out);
    }
    out.push(']');
}

/// Go escapes what HTML would read as markup, and the two line separators of JavaScript, besides what JSON asks for.
fn write_string(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\0'..'\u{20}' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                out.push_str(&format!("\\u{:04x}", c as u32));
            }
            _ => out.push(c),
        }
    }
    out.push('"');
}

/// A field that is there and not null; Go ignores the case of names when no exact one is there.
fn field<'a>(fields: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    let found = fields
        .get(name)
        .or_else(|| fields.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value));
    found.filter(|value| !value.is_null())
}

fn boolean(fields: &Map<String, Value>, name: &str) -> Result<bool, JsonError> {
    match field(fields, name) {
        None => Ok(false),
        Some(value) => value.as_bool().ok_or_else(|| JsonError(format!("{name} is not a boolean"))),
    }
}

fn strings(fields: &Map<String, Value>, name: &str) -> Result<Vec<String>, JsonError> {
    let Some(value) = field(fields, name) else {
        return Ok(Vec::new());
    };
    let error = || JsonError(format!("{name} is not a list of strings"));
    let list = value.as_array().ok_or_else(error)?;
    list.iter().map(|item| item.as_str().map(str::to_owned).ok_or_else(error)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: Vec<u8>) -> String {
        String::from_utf8(bytes).unwrap()
    }

    fn member(id: u64, peer: &str) -> Member {
        Member { id, peer_urls: vec![peer.into()], ..Default::default() }
    }

    /// D-8, contract 5.5. The first two are from the log of an etcd 3.5.30.
    #[test]
    fn written_as_go_writes() {
        let founder = Member { name: "n1".into(), ..member(3517084396909456240, "http://127.0.0.1:42380") };
        let written = text(write_member(&founder));
        assert_eq!(written, r#"{"id":3517084396909456240,"peerURLs":["http://127.0.0.1:42380"],"name":"n1"}"#);

        let learner = Member { is_learner: true, ..member(16827695944540787954, "http://127.0.0.1:49999") };
        let written = text(write_member(&learner));
        assert_eq!(written, r#"{"id":16827695944540787954,"peerURLs":["http://127.0.0.1:49999"],"isLearner":true}"#);

        let full = Member {
            id: 5,
            peer_urls: vec!["http://a".into(), "http://b".into()],
            is_learner: false,
            name: "n".into(),
            client_urls: vec!["http://c".into()],
        };
        let written = text(write_member(&full));
        assert_eq!(written, r#"{"id":5,"peerURLs":["http://a","http://b"],"name":"n","clientURLs":["http://c"]}"#);

        assert_eq!(text(write_promotion(5)), r#"{"id":5,"peerURLs":null,"isPromote":true}"#);
    }

    #[test]
    fn strings_are_escaped_as_go_escapes() {
        let odd = Member { name: "<a&b>\"\\\n\t\u{1}\u{2028}\u{8}\u{c}é\u{7f}".into(), ..member(1, "u") };
        let written = text(write_member(&odd));
        let want = "\\u003ca\\u0026b\\u003e\\\"\\\\\\n\\t\\u0001\\u2028\\b\\fé\u{7f}";
        assert_eq!(written, format!(r#"{{"id":1,"peerURLs":["u"],"name":"{want}"}}"#));
        assert_eq!(read_context(written.as_bytes()).unwrap(), (odd, false));
    }

    #[test]
    fn read_is_the_inverse_of_write() {
        let full = Member {
            id: u64::MAX,
            peer_urls: vec!["http://a".into()],
            is_learner: true,
            name: "n".into(),
            client_urls: vec!["http://c".into()],
        };
        assert_eq!(read_context(&write_member(&full)).unwrap(), (full, false));
        let (promoted, is_promote) = read_context(&write_promotion(7)).unwrap();
        assert_eq!((promoted, is_promote), (Member { id: 7, ..Default::default() }, true));
    }

    /// What `encoding/json` accepts: any order, unknown fields, other case, nulls.
    #[test]
    fn read_as_leniently_as_go() {
        let loose = br#" {"NAME":"x","later":{"a":1},"clientURLs":null,"ID":9,"peerurls":["p"],"isPromote":false}"#;
        let want = Member { id: 9, peer_urls: vec!["p".into()], name: "x".into(), ..Default::default() };
        assert_eq!(read_context(loose).unwrap(), (want, false));
    }

    #[test]
    fn what_is_no_member_is_an_error() {
        for bad in [&b""[..], b"{", b"[]", br#"{"id":"5"}"#, br#"{"id":-1}"#, br#"{"id":1,"peerURLs":"x"}"#] {
            assert!(read_context(bad).is_err(), "{bad:?}");
        }
    }
}
