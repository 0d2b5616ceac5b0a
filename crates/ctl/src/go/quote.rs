//! Quoted strings: `strconv.Quote`, the `%q` of `fmt.Sscanf`, and JSON's.

use std::fmt::Write;

/// As `%q` prints a string: printable runes as they are, the rest escaped, bytes that are not UTF-8 as `\x..`.
pub(crate) fn quote(bytes: &[u8]) -> String {
    let mut out = String::from("\"");
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\x07' => out.push_str("\\a"),
                '\x08' => out.push_str("\\b"),
                '\x0c' => out.push_str("\\f"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '\x0b' => out.push_str("\\v"),
                c if is_printable(c) => out.push(c),
                c if (c as u32) < 0x80 => write!(out, "\\x{:02x}", c as u32).expect("a string takes all"),
                c if (c as u32) < 0x10000 => write!(out, "\\u{:04x}", c as u32).expect("a string takes all"),
                c => write!(out, "\\U{:08x}", c as u32).expect("a string takes all"),
            }
        }
        for byte in chunk.invalid() {
            write!(out, "\\x{byte:02x}").expect("a string takes all");
        }
    }
    out + "\""
}

/// Go's `IsPrint`, near enough: no controls, no separators but the space, no format characters, nothing private.
fn is_printable(c: char) -> bool {
    !c.is_control()
        && (c == ' ' || !c.is_whitespace())
        && !matches!(c as u32,
            0xad | 0x600..=0x605 | 0x61c | 0x6dd | 0x70f | 0x180e | 0x200b..=0x200f | 0x202a..=0x202e
            | 0x2060..=0x206f | 0xe000..=0xf8ff | 0xfeff | 0xfff0..=0xfffb | 0xfffe..=0xffff | 0xe0000..=0x10ffff)
}

/// A JSON string as `encoding/json` writes it: `<`, `>`, `&` escaped, bytes that are not UTF-8 replaced.
pub(crate) fn json_string(bytes: &[u8]) -> String {
    let mut out = String::from("\"");
    for c in String::from_utf8_lossy(bytes).chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..='\x1f' => {
                write!(out, "\\u{:04x}", c as u32).expect("a string takes all");
            }
            c => out.push(c),
        }
    }
    out + "\""
}

/// Reads a quoted string at the start of `text`, between `"` with escapes or between backquotes without. Returns
/// its content and what follows. None if there is no such string.
pub(crate) fn scan_quoted(text: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    match text.first()? {
        b'`' => {
            let end = text[1..].iter().position(|&b| b == b'`')? + 1;
            Some((text[1..end].iter().copied().filter(|&b| b != b'\r').collect(), &text[end + 1..]))
        }
        b'"' => {
            let mut out = Vec::new();
            let mut rest = &text[1..];
            loop {
                match rest.first()? {
                    b'"' => return Some((out, &rest[1..])),
                    b'\n' => return None,
                    b'\\' => rest = unescape(&rest[1..], &mut out)?,
                    &byte => {
                        out.push(byte);
                        rest = &rest[1..];
                    }
                }
            }
        }
        _ => None,
    }
}

/// Reads what follows a backslash.
fn unescape<'t>(text: &'t [u8], out: &mut Vec<u8>) -> Option<&'t [u8]> {
    let (&kind, rest) = text.split_first()?;
    let simple = match kind {
        b'a' => 0x07,
        b'b' => 0x08,
        b'f' => 0x0c,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'v' => 0x0b,
        b'\\' | b'"' => kind,
        b'x' => {
            out.push(digits(rest, 2, 16)? as u8);
            return Some(&rest[2..]);
        }
        b'0'..=b'7' => {
            out.push(u8::try_from(digits(text, 3, 8)?).ok()?);
            return Some(&text[3..]);
        }
        b'u' | b'U' => {
            let count = if kind == b'u' { 4 } else { 8 };
            let c = char::from_u32(digits(rest, count, 16)?)?;
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            return Some(&rest[count..]);
        }
        _ => return None,
    };
    out.push(simple);
    Some(rest)
}

fn digits(text: &[u8], count: usize, radix: u32) -> Option<u32> {
    let text = std::str::from_utf8(text.get(..count)?).ok()?;
    if !text.bytes().all(|b| (b as char).is_digit(radix)) {
        return None;
    }
    u32::from_str_radix(text, radix).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoting() {
        assert_eq!(quote(b"a\"b\\\n\x01\xff\xc3\xa9"), r#""a\"b\\\n\x01\xffé""#);
        assert_eq!(quote("\u{200b}\u{1f600}\u{10ffff}".as_bytes()), "\"\\u200b\u{1f600}\\U0010ffff\"");
        assert_eq!(json_string(b"<a&b>\xff\x01"), "\"\\u003ca\\u0026b\\u003e\u{fffd}\\u0001\"");
    }

    #[test]
    fn scanning() {
        assert_eq!(scan_quoted(br#""a\x00\"\u00e9" rest"#), Some((b"a\x00\"\xc3\xa9".to_vec(), &b" rest"[..])));
        assert_eq!(scan_quoted(b"`raw\\n`)"), Some((b"raw\\n".to_vec(), &b")"[..])));
        assert_eq!(scan_quoted(b"\"open"), None);
        assert_eq!(scan_quoted(b"\"bad \\q\""), None);
        assert_eq!(scan_quoted(b"bare"), None);
    }

    #[test]
    fn quoted_strings_read_back() {
        let bytes: Vec<u8> = (0..=255).collect();
        let quoted = quote(&bytes);
        assert_eq!(scan_quoted(quoted.as_bytes()), Some((bytes, &b""[..])));
    }
}
