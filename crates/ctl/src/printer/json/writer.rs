//! Objects, one field after the other.

use crate::go::json_string;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::fmt::Display;

/// A field list in the making.
pub(super) struct Object {
    text: String,
}

/// `{` fields `}`.
pub(super) fn object(fill: impl FnOnce(&mut Object)) -> String {
    let mut object = Object { text: String::from("{") };
    fill(&mut object);
    object.text + "}"
}

/// Bytes, as Go's JSON writes them.
pub(super) fn base64(bytes: &[u8]) -> String {
    format!("\"{}\"", STANDARD.encode(bytes))
}

impl Object {
    /// A value that is JSON already.
    pub(super) fn json(&mut self, name: &str, value: &str) {
        if self.text.len() > 1 {
            self.text.push(',');
        }
        self.text += &format!("\"{name}\":{value}");
    }

    pub(super) fn number(&mut self, name: &str, value: impl Display) {
        self.json(name, &value.to_string());
    }

    pub(super) fn number_unless_zero<N: Display + Default + PartialEq>(&mut self, name: &str, value: N) {
        if value != N::default() {
            self.number(name, value);
        }
    }

    pub(super) fn bool(&mut self, name: &str, value: bool) {
        self.number(name, value);
    }

    pub(super) fn bool_unless_false(&mut self, name: &str, value: bool) {
        if value {
            self.bool(name, value);
        }
    }

    pub(super) fn text(&mut self, name: &str, value: &str) {
        self.json(name, &json_string(value.as_bytes()));
    }

    pub(super) fn text_unless_empty(&mut self, name: &str, value: &str) {
        if !value.is_empty() {
            self.text(name, value);
        }
    }

    pub(super) fn bytes_unless_empty(&mut self, name: &str, value: &[u8]) {
        if !value.is_empty() {
            self.json(name, &base64(value));
        }
    }

    pub(super) fn list_unless_empty(&mut self, name: &str, items: impl Iterator<Item = String>) {
        let items: Vec<String> = items.collect();
        if !items.is_empty() {
            self.json(name, &format!("[{}]", items.join(",")));
        }
    }
}
