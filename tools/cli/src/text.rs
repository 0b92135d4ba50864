//! Rows, times, sizes and errors -> text for a terminal.

/// An error with what caused it.
pub(crate) fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text.push_str(&format!(": {next}"));
        cause = next.source();
    }
    text
}

/// Appends a line; what would move the cursor is taken out.
pub(crate) fn line(text: &mut String, line: &str) {
    text.extend(
        line.chars()
            .map(|c| if c.is_control() && c != '\n' { ' ' } else { c }),
    );
    text.push('\n');
}

/// Owned words, for a row.
pub(crate) fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// An empty cell would look like a mistake.
pub(crate) fn or_dash(text: &str) -> String {
    if text.is_empty() { "-" } else { text }.to_owned()
}

/// Aligns columns, those in `right` to the right, with two spaces between.
pub(crate) fn table(text: &mut String, rows: &[Vec<String>], right: &[usize]) {
    let clean = |cell: &String| -> String {
        cell.chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect()
    };
    let rows: Vec<Vec<String>> = rows
        .iter()
        .map(|row| row.iter().map(clean).collect())
        .collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for row in &rows {
        let mut out = String::new();
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            if column > 0 {
                out.push_str("  ");
            }
            let padding = " ".repeat(width - cell.chars().count());
            match right.contains(&column) {
                true => out.extend([padding.as_str(), cell]),
                false => out.extend([cell.as_str(), &padding]),
            }
        }
        line(text, out.trim_end());
    }
}

/// A time, seen from `now_ms`.
pub(crate) fn ago(ms: i64, now_ms: i64) -> String {
    let age_ms = now_ms.saturating_sub(ms);
    match age_ms < 0 {
        true => format!("in {}", span(age_ms.unsigned_abs())),
        false => format!("{} ago", span(age_ms.unsigned_abs())),
    }
}

/// A span of time in its two largest units.
pub(crate) fn span(ms: u64) -> String {
    let s = ms / 1_000;
    match s {
        0 => format!("{ms}ms"),
        1..10 => format!("{}.{}s", s, ms % 1_000 / 100),
        10..60 => format!("{s}s"),
        60..3_600 => format!("{}m{}s", s / 60, s % 60),
        3_600..86_400 => format!("{}h{}m", s / 3_600, s % 3_600 / 60),
        _ => format!("{}d{}h", s / 86_400, s % 86_400 / 3_600),
    }
}

/// Bytes in the largest unit that leaves at least one.
pub(crate) fn size(bytes: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB"];
    let mut rest = bytes as f64 / 1024.0;
    if rest < 1.0 {
        return format!("{bytes} B");
    }
    let mut unit = 0;
    while rest >= 1024.0 && unit + 1 < units.len() {
        rest /= 1024.0;
        unit += 1;
    }
    format!("{rest:.1} {}", units[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_one_decimal_and_a_unit() {
        let all = [0, 1023, 1024, 1536, 1 << 20, 5 << 30, u64::MAX].map(size);
        let wanted = [
            "0 B",
            "1023 B",
            "1.0 KiB",
            "1.5 KiB",
            "1.0 MiB",
            "5.0 GiB",
            "16777216.0 TiB",
        ];
        assert_eq!(all, wanted);
    }
}
