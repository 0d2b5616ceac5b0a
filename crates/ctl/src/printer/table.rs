//! `-w table`: lists in boxes.

use super::{Answer, hash_rows, health_rows, member_rows, status_rows};

/// None if the answer is not a list.
pub(super) fn text(answer: &Answer<'_>) -> Option<Vec<u8>> {
    let (titles, rows) = match answer {
        Answer::MemberList(r) => member_rows(r),
        Answer::Health(list) => health_rows(list),
        Answer::Status(list) => status_rows(list),
        Answer::HashKv(list) => hash_rows(list),
        _ => return None,
    };
    Some(draw(&titles, &rows).into_bytes())
}

/// Titles in capitals and centred, cells to the right.
fn draw(titles: &[&str], rows: &[Vec<String>]) -> String {
    let titles: Vec<String> = titles.iter().map(|t| t.to_uppercase().replace('_', " ")).collect();
    let width = |column: usize| {
        let cells = rows.iter().map(|row| &row[column]).chain([&titles[column]]);
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..titles.len()).map(width).collect();
    let border = |left: &str, middle: &str, right: &str| {
        let lines: Vec<String> = widths.iter().map(|w| "─".repeat(w + 2)).collect();
        format!("{left}{}{right}\n", lines.join(middle))
    };
    let mut out = border("┌", "┬", "┐");
    out += &line(titles.iter().zip(&widths).map(|(t, &w)| format!("{t:^w$}")));
    out += &border("├", "┼", "┤");
    for row in rows {
        out += &line(row.iter().zip(&widths).map(|(cell, &w)| format!("{cell:>w$}")));
    }
    out + &border("└", "┴", "┘")
}

fn line(cells: impl Iterator<Item = String>) -> String {
    format!("│ {} │\n", cells.collect::<Vec<_>>().join(" │ "))
}

#[cfg(test)]
mod tests {
    use super::draw;

    #[test]
    fn a_box() {
        let drawn = draw(&["id", "hash_revision"], &[vec!["abc".to_string(), "7".to_string()]]);
        assert_eq!(
            drawn,
            "┌─────┬───────────────┐\n\
             │ ID  │ HASH REVISION │\n\
             ├─────┼───────────────┤\n\
             │ abc │             7 │\n\
             └─────┴───────────────┘\n"
        );
    }
}
