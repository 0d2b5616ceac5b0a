//! What was meant by a command nobody knows.

use super::Command;
use crate::go;

/// How many edits away a name may be.
const DISTANCE: usize = 2;

pub(super) fn unknown_command(root: &Command, typed: &str) -> String {
    let mut text = format!("unknown command {} for \"{}\"", go::quote(typed.as_bytes()), root.name());
    let lower = typed.to_lowercase();
    let like =
        |name: &str| distance(&lower, &name.to_lowercase()) <= DISTANCE || name.to_lowercase().starts_with(&lower);
    let near: Vec<&str> = root.children.iter().map(Command::name).filter(|n| like(n)).collect();
    if !near.is_empty() {
        text += "\n\nDid you mean this?\n";
        text.extend(near.iter().map(|name| format!("\t{name}\n")));
    }
    text
}

/// Levenshtein's.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, c) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, d) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(c != *d);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        assert_eq!(distance("putt", "put"), 1);
        assert_eq!(distance("l", "del"), 2);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("putt", "auth"), 2);
    }
}
