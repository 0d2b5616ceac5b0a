//! A line by line difference, for reports read by people.

/// The lines of `expected` and `actual` that differ, marked `-` and `+`, with a few equal lines
/// around them. Empty if both are equal.
pub fn lines(expected: &str, actual: &str) -> String {
    const CONTEXT: usize = 3;
    let (old, new): (Vec<_>, Vec<_>) = (expected.lines().collect(), actual.lines().collect());
    let marked = mark(&old, &new);
    let changed: Vec<_> = (0..marked.len()).filter(|&at| marked[at].0 != ' ').collect();
    let mut text = String::new();
    let mut shown_to = 0;
    for &at in &changed {
        let from = at.saturating_sub(CONTEXT).max(shown_to);
        if from > shown_to {
            text.push_str("  ...\n");
        }
        let to = (at + CONTEXT + 1).min(marked.len());
        for (mark, line) in &marked[from..to.max(from)] {
            text.push_str(&format!("{mark} {line}\n"));
        }
        shown_to = to.max(shown_to);
    }
    text
}

/// Longest common subsequence by the usual table; scripts are a few hundred lines.
fn mark<'a>(old: &[&'a str], new: &[&'a str]) -> Vec<(char, &'a str)> {
    let mut common = vec![vec![0u32; new.len() + 1]; old.len() + 1];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            common[i][j] =
                if old[i] == new[j] { common[i + 1][j + 1] + 1 } else { common[i + 1][j].max(common[i][j + 1]) };
        }
    }
    let (mut i, mut j, mut marked) = (0, 0, Vec::new());
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            marked.push((' ', old[i]));
            (i, j) = (i + 1, j + 1);
        } else if j == new.len() || (i < old.len() && common[i + 1][j] >= common[i][j + 1]) {
            marked.push(('-', old[i]));
            i += 1;
        } else {
            marked.push(('+', new[j]));
            j += 1;
        }
    }
    marked
}

#[cfg(test)]
mod tests {
    use super::lines;

    #[test]
    fn shows_only_what_differs() {
        assert_eq!(lines("a\nb\n", "a\nb\n"), "");
        assert_eq!(lines("a\nb\nc\n", "a\nx\nc\n"), "  a\n- b\n+ x\n  c\n");
        let (old, new) = ("1\n2\n3\n4\n5\n6\n7\n8\n9\n", "1\n2\n3\n4\n5\n6\n7\n8\n");
        assert_eq!(lines(old, new), "  ...\n  6\n  7\n  8\n- 9\n");
    }
}
