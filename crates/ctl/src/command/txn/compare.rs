//! A condition: `target("key") op "value"`.

use crate::exit::{Exit, INVALID_INPUT};
use crate::go::{parse_int, quote, scan_quoted};
use cetera_client::{Cmp, Compare};

pub(super) fn parse(line: &[u8]) -> Result<Compare, Exit> {
    condition(line).map_err(|text| Exit::new(INVALID_INPUT, text))
}

fn condition(line: &[u8]) -> Result<Compare, String> {
    let shown = String::from_utf8_lossy(line);
    let Some(paren) = line.iter().position(|&b| b == b'(') else {
        return Err(format!("malformed comparison: {shown}"));
    };
    let target = String::from_utf8_lossy(&line[..paren]);
    let Parts { key, op, value } = match parts(&line[paren + 1..]) {
        (parts, true) => parts,
        (Parts { key, op, value }, false) => {
            let (key, value) = (quote(&key), quote(&value));
            return Err(format!("malformed comparison: {shown}; got {target}({key}) {op} {value}"));
        }
    };
    let text = String::from_utf8_lossy(&value).into_owned();
    let number = |base| parse_int(&text, base).map_err(|_| format!("invalid txn compare request: {shown}"));
    let cmp = || match op.as_str() {
        "=" => Ok(Cmp::Equal),
        "!=" => Ok(Cmp::NotEqual),
        ">" => Ok(Cmp::Greater),
        "<" => Ok(Cmp::Less),
        _ => Err(format!("malformed comparison: {shown} (unknown result op {op})")),
    };
    match &*target {
        "ver" | "version" => Ok(Compare::version(key, cmp()?, number(10)?)),
        "c" | "create" => Ok(Compare::create_revision(key, cmp()?, number(10)?)),
        "m" | "mod" => Ok(Compare::mod_revision(key, cmp()?, number(10)?)),
        "val" | "value" => Ok(Compare::value(key, cmp()?, value)),
        "lease" => Ok(Compare::lease(key, cmp()?, number(16)?)),
        _ => Err(format!("malformed comparison: {shown} (unknown target {target})")),
    }
}

#[derive(Default)]
struct Parts {
    key: Vec<u8>,
    op: String,
    value: Vec<u8>,
}

/// `"key") op "value"` as far as it goes, and whether it goes to the end.
fn parts(text: &[u8]) -> (Parts, bool) {
    let mut parts = Parts::default();
    let done = (|| {
        let (key, rest) = scan_quoted(text.trim_ascii_start())?;
        parts.key = key;
        let rest = rest.strip_prefix(b")")?.trim_ascii_start();
        let end = rest.iter().position(u8::is_ascii_whitespace).unwrap_or(rest.len());
        if end == 0 {
            return None;
        }
        parts.op = String::from_utf8_lossy(&rest[..end]).into_owned();
        let (value, _) = scan_quoted(rest[end..].trim_ascii_start())?;
        parts.value = value;
        Some(())
    })();
    (parts, done.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions() {
        let ok = |line: &str| condition(line.as_bytes()).unwrap();
        assert_eq!(ok("create(\"t\") = \"0\""), Compare::create_revision("t", Cmp::Equal, 0));
        assert_eq!(ok("val(\"a b\")   != `x`"), Compare::value("a b", Cmp::NotEqual, "x"));
        assert_eq!(ok("m(\"k\") > \"12\" and more"), Compare::mod_revision("k", Cmp::Greater, 12));
        assert_eq!(ok("lease(\"k\") = \"1f\""), Compare::lease("k", Cmp::Equal, 0x1f));
    }

    #[test]
    fn errors() {
        let error = |line: &str| condition(line.as_bytes()).unwrap_err();
        assert_eq!(error("nothing"), "malformed comparison: nothing");
        assert_eq!(error("bogus(\"t\") = \"0\""), "malformed comparison: bogus(\"t\") = \"0\" (unknown target bogus)");
        assert_eq!(error("ver(\"t\")=\"0\""), "malformed comparison: ver(\"t\")=\"0\"; got ver(\"t\") =\"0\" \"\"");
        assert_eq!(error("ver(t) = \"0\""), "malformed comparison: ver(t) = \"0\"; got ver(\"\")  \"\"");
        assert_eq!(error("ver(\"t\") = \"x\""), "invalid txn compare request: ver(\"t\") = \"x\"");
    }
}
