//! Splitting a typed line into arguments (etcdctl `Argify`).

use super::scan_quoted;

/// Words, `'single'` and `"double"` quoted strings. A double-quoted string with a bad escape is an error.
pub(crate) fn argify(line: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    let mut args = Vec::new();
    let mut rest = line;
    while let Some(&first) = rest.first() {
        let taken = match first {
            b if b.is_ascii_whitespace() => 1,
            b'\'' => match rest[1..].iter().position(|&b| b == b'\'') {
                Some(end) => {
                    args.push(rest[1..=end].to_vec());
                    end + 2
                }
                None => 1,
            },
            b'"' => match closing_quote(rest) {
                Some(end) => {
                    let (content, _) = scan_quoted(&rest[..=end]).ok_or("invalid syntax")?;
                    args.push(content);
                    end + 1
                }
                None => 1,
            },
            _ => {
                let end = rest.iter().position(u8::is_ascii_whitespace).unwrap_or(rest.len());
                args.push(rest[..end].to_vec());
                end
            }
        };
        rest = &rest[taken..];
    }
    Ok(args)
}

fn closing_quote(text: &[u8]) -> Option<usize> {
    let mut at = 1;
    while at < text.len() {
        match text[at] {
            b'"' => return Some(at),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(line: &str) -> Vec<String> {
        argify(line.as_bytes()).unwrap().into_iter().map(|a| String::from_utf8(a).unwrap()).collect()
    }

    #[test]
    fn as_etcdctl_splits() {
        assert_eq!(split("put key1 \"overwrote-key1\""), ["put", "key1", "overwrote-key1"]);
        assert_eq!(split("put  'a b'\t\"c \\\"d\""), ["put", "a b", "c \"d"]);
        assert_eq!(split("get a --prefix\r"), ["get", "a", "--prefix"]);
        assert_eq!(split("put k \"\" ''"), ["put", "k", "", ""]);
        assert_eq!(split("   "), Vec::<String>::new());
        assert!(argify(b"put \"\\q\"").is_err());
    }
}
