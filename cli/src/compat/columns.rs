//! Kafka's ways to align: printf's fields, and tables whose cells are as wide as their column with a tab behind.

/// A row of fields, each as wide as said at least; nothing behind the last one.
pub fn row(widths: &[usize], cells: &[&str]) -> String {
    let mut line = String::new();
    for (at, cell) in cells.iter().enumerate() {
        let width = widths.get(at).copied().unwrap_or(0);
        line += &format!("{cell:width$}");
        if at + 1 < cells.len() {
            line.push(' ');
        }
    }
    line + "\n"
}

/// A table with a tab behind each cell, as kafka-transactions and kafka-metadata-quorum have it.
pub fn tabbed(headings: &[&str], rows: &[Vec<String>]) -> String {
    let width = |at: usize| {
        let cells = rows.iter().map(|row| row[at].chars().count());
        cells.chain([headings[at].len()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..headings.len()).map(width).collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let cells = cells.zip(&widths).map(|(cell, &width)| format!("{cell:width$}\t"));
        cells.collect::<String>() + "\n"
    };
    let mut text = line(&mut headings.iter().copied());
    for row in rows {
        text += &line(&mut row.iter().map(String::as_str));
    }
    text
}

/// At least so wide, or as wide as the longest.
pub fn width<'a>(least: usize, cells: impl Iterator<Item = &'a str>) -> usize {
    cells.map(|cell| cell.chars().count()).max().unwrap_or(0).max(least)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_aligned_as_there() {
        assert_eq!(row(&[5, 3], &["a", "b", "c"]), "a     b   c\n");
        let rows = [vec!["1".to_owned(), "None".to_owned()]];
        assert_eq!(tabbed(&["Id", "Start"], &rows), "Id\tStart\t\n1 \tNone \t\n");
        assert_eq!(width(3, ["ab", "abcd"].into_iter()), 4);
    }
}
