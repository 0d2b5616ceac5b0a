//! Texts as Go makes and reads them: quoted strings, numbers, durations, JSON strings.

mod argify;
mod duration;
mod number;
mod quote;

pub(crate) use argify::argify;
pub(crate) use duration::{format_duration, parse_duration};
pub(crate) use number::{parse_bool, parse_int, parse_uint};
pub(crate) use quote::{json_string, quote, scan_quoted};
