//! `strconv.ParseInt`, `ParseUint` and `ParseBool` with their error texts.

use super::quote;

/// A signed 64-bit number. Base 0 takes it from the prefix (`0x`, `0o`, `0b`, `0`).
pub(crate) fn parse_int(text: &str, base: u32) -> Result<i64, String> {
    let (negative, digits) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let value = magnitude(digits, base).map_err(|kind| failure("ParseInt", text, kind))?;
    let signed = if negative { 0i64.checked_sub_unsigned(value) } else { i64::try_from(value).ok() };
    signed.ok_or_else(|| failure("ParseInt", text, RANGE))
}

/// An unsigned 64-bit number.
pub(crate) fn parse_uint(text: &str, base: u32) -> Result<u64, String> {
    magnitude(text, base).map_err(|kind| failure("ParseUint", text, kind))
}

/// What Go takes for true and false.
pub(crate) fn parse_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(failure("ParseBool", text, SYNTAX)),
    }
}

const SYNTAX: &str = "invalid syntax";
const RANGE: &str = "value out of range";

fn failure(function: &str, text: &str, kind: &str) -> String {
    format!("strconv.{function}: parsing {}: {kind}", quote(text.as_bytes()))
}

fn magnitude(text: &str, base: u32) -> Result<u64, &'static str> {
    let lower = text.to_ascii_lowercase();
    let (digits, radix) = match base {
        0 if lower.starts_with("0x") => (&text[2..], 16),
        0 if lower.starts_with("0b") => (&text[2..], 2),
        0 if lower.starts_with("0o") => (&text[2..], 8),
        0 if text.len() > 1 && text.starts_with('0') => (&text[1..], 8),
        0 => (text, 10),
        base => (text, base),
    };
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return Err(SYNTAX);
    }
    u64::from_str_radix(digits, radix).map_err(|_| RANGE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        assert_eq!(parse_int("-12", 10), Ok(-12));
        assert_eq!(parse_int("0x1f", 0), Ok(31));
        assert_eq!(parse_int("-8000000000000000", 16), Ok(i64::MIN));
        assert_eq!(
            parse_int("8000000000000000", 16).unwrap_err(),
            "strconv.ParseInt: parsing \"8000000000000000\": value out of range"
        );
        assert_eq!(parse_int("abc", 10).unwrap_err(), "strconv.ParseInt: parsing \"abc\": invalid syntax");
        assert_eq!(parse_int("", 10).unwrap_err(), "strconv.ParseInt: parsing \"\": invalid syntax");
        assert_eq!(parse_int("1_0", 10).unwrap_err(), "strconv.ParseInt: parsing \"1_0\": invalid syntax");
        assert_eq!(parse_uint("ffffffffffffffff", 16), Ok(u64::MAX));
        assert_eq!(parse_bool("maybe").unwrap_err(), "strconv.ParseBool: parsing \"maybe\": invalid syntax");
    }
}
