//! Splits a line of a script into words: plain text, `"quoted text"`, `name=value`, with the
//! escapes `\0`, `\n`, `\t`, `\"`, `\\` and `\xNN` in both forms. Bytes in, bytes out.

use bytes::Bytes;

/// One word of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    /// The `name` of `name=value`; quoting the word, or its name, makes it plain.
    pub name: Option<String>,
    /// The value, escapes resolved.
    pub value: Bytes,
    /// Any part stood in quotes: such a word is never taken for a flag.
    pub quoted: bool,
}

/// Splits `line`. The error is a sentence for the script's author.
pub fn split(line: &str) -> Result<Vec<Word>, String> {
    let mut words = Vec::new();
    let mut chars = line.bytes().peekable();
    loop {
        while chars.next_if(u8::is_ascii_whitespace).is_some() {}
        if chars.peek().is_none() {
            return Ok(words);
        }
        let mut word = Word { name: None, value: Bytes::new(), quoted: false };
        let mut value = Vec::new();
        let mut in_quotes = false;
        while let Some(byte) = chars.next_if(|b| in_quotes || !b.is_ascii_whitespace()) {
            match byte {
                b'"' => {
                    in_quotes = !in_quotes;
                    word.quoted = true;
                }
                b'\\' => value.push(escape(&mut chars)?),
                b'=' if word.name.is_none() && !word.quoted && is_name(&value) => {
                    let name = String::from_utf8(std::mem::take(&mut value));
                    word.name = Some(name.expect("a name is ASCII"));
                }
                other => value.push(other),
            }
        }
        if in_quotes {
            return Err(format!("a quote is not closed: {line}"));
        }
        word.value = value.into();
        words.push(word);
    }
}

fn is_name(text: &[u8]) -> bool {
    text.first().is_some_and(u8::is_ascii_alphabetic)
        && text.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
}

fn escape(chars: &mut impl Iterator<Item = u8>) -> Result<u8, String> {
    match chars.next() {
        Some(b'0') => Ok(0),
        Some(b'n') => Ok(b'\n'),
        Some(b't') => Ok(b'\t'),
        Some(b'"') => Ok(b'"'),
        Some(b'\\') => Ok(b'\\'),
        Some(b'x') => {
            let mut digit = || chars.next().and_then(|b| char::from(b).to_digit(16));
            let (Some(high), Some(low)) = (digit(), digit()) else {
                return Err("\\x wants two hexadecimal digits".to_owned());
            };
            Ok(u8::try_from(high * 16 + low).expect("two hexadecimal digits fit a byte"))
        }
        _ => Err("unknown escape".to_owned()),
    }
}

/// `bytes` the way a script writes them: bare if nothing in them needs quotes.
/// Longer than 64 bytes: only their length and what tells them apart.
pub fn show(bytes: &[u8]) -> String {
    const LONGEST_SHOWN: usize = 64;
    if bytes.len() > LONGEST_SHOWN {
        let first = bytes[0];
        if bytes.iter().all(|&b| b == first) {
            return format!("<{} bytes of {}>", bytes.len(), show(&[first]));
        }
        return format!("<{} bytes, crc32c {:08x}>", bytes.len(), crc32c::crc32c(bytes));
    }
    let plain = |b: &u8| b.is_ascii_alphanumeric() || b"_-/.:+{}[]".contains(b);
    if !bytes.is_empty() && bytes.iter().all(plain) {
        return String::from_utf8_lossy(bytes).into_owned();
    }
    let mut text = String::from("\"");
    for &byte in bytes {
        match byte {
            0 => text.push_str("\\0"),
            b'"' | b'\\' => text.extend(['\\', char::from(byte)]),
            b' '..=b'~' => text.push(char::from(byte)),
            other => text.push_str(&format!("\\x{other:02x}")),
        }
    }
    text.push('"');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(name: Option<&str>, value: &[u8], quoted: bool) -> Word {
        Word { name: name.map(str::to_owned), value: Bytes::copy_from_slice(value), quoted }
    }

    #[test]
    fn words_names_quotes_and_escapes() {
        let words = split(r#"put "a b" end=\0 "x=1" k\xffz ==  name="q r""#).unwrap();
        let expected = [
            word(None, b"put", false),
            word(None, b"a b", true),
            word(Some("end"), b"\0", false),
            word(None, b"x=1", true),
            word(None, b"k\xffz", false),
            word(None, b"==", false),
            word(Some("name"), b"q r", true),
        ];
        assert_eq!(words, expected);
        assert!(split("\"open").is_err());
        assert!(split("\\q").is_err());
        assert!(split("\\x1").is_err());
    }

    #[test]
    fn shown_bytes_parse_back() {
        for bytes in [&b""[..], b"a", b"a b", b"\0\xff\"\\", b"key/1"] {
            let shown = show(bytes);
            assert_eq!(split(&shown).unwrap()[0].value, bytes, "{shown}");
        }
        assert_eq!(show(&[b'x'; 70]), "<70 bytes of x>");
        assert!(show(&[b"ab".repeat(40)].concat()).starts_with("<80 bytes, crc32c "));
    }
}
