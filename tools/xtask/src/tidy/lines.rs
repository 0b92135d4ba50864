//! One text file -> complaints about its head, its length, its width, its reminders.

use super::{File, code_end, is_test_file};

/// Most lines of code in a file, its inner tests not counted.
const CODE_LINES_MAX: usize = 500;
/// Most lines of an inner `mod tests`; longer ones go to a `tests.rs` beside the file.
const INNER_TEST_LINES_MAX: usize = 300;
/// Most lines of a file that holds tests only.
const TEST_LINES_MAX: usize = 800;
/// Most characters in a line; one that holds a link or a text in quotes may be longer.
const COLUMNS_MAX: usize = 100;
/// Words that put something off.
const REMINDERS: [&str; 2] = [concat!("TO", "DO"), concat!("FIX", "ME")];

pub(super) fn check(file: &File) -> Vec<String> {
    let mut complaints = Vec::new();
    let mut complain = |line: usize, text: String| {
        complaints.push(format!("{}:{line}: {text}", file.path));
    };
    for (index, line) in file.text.lines().enumerate() {
        if let Some(word) = REMINDERS.iter().find(|word| line.contains(**word)) {
            complain(
                index + 1,
                format!("{word}: do it, or make it an open task elsewhere"),
            );
        }
    }
    if !file.path.ends_with(".rs") {
        return complaints;
    }
    if !file.text.starts_with("//! ") {
        complain(
            1,
            "the first line must say what the file turns into what: `//! …`".to_owned(),
        );
    }
    for (index, line) in file.text.lines().enumerate() {
        let columns = line.chars().count();
        let is_comment = line.trim_start().starts_with("//");
        let may_be_long = line.contains("://") || (!is_comment && line.contains('"'));
        if columns > COLUMNS_MAX && !may_be_long {
            complain(
                index + 1,
                format!("{columns} columns, at most {COLUMNS_MAX}"),
            );
        }
    }
    let total = file.text.lines().count();
    if is_test_file(&file.path) {
        if total > TEST_LINES_MAX {
            complain(
                total,
                format!("{total} lines, at most {TEST_LINES_MAX} in a test file"),
            );
        }
        return complaints;
    }
    let code = code_end(&file.text);
    if code > CODE_LINES_MAX {
        complain(
            code,
            format!("{code} lines of code, at most {CODE_LINES_MAX}"),
        );
    }
    let inner = total - code;
    if inner > INNER_TEST_LINES_MAX {
        let limit = INNER_TEST_LINES_MAX;
        complain(
            total,
            format!("{inner} lines of tests, over {limit}: move them to tests.rs"),
        );
    }
    complaints
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaints(path: &str, text: &str) -> Vec<String> {
        check(&File {
            path: path.to_owned(),
            text: text.to_owned(),
        })
    }

    fn of_lines(count: usize) -> String {
        format!("//! Head.\n{}", "x\n".repeat(count - 1))
    }

    #[test]
    fn head() {
        assert!(complaints("a.rs", "//! Head.\n").is_empty());
        assert_eq!(complaints("a.rs", "use x;\n").len(), 1);
        assert_eq!(complaints("a.rs", "\n//! Head.\n").len(), 1);
        assert!(complaints("a.toml", "[package]\n").is_empty());
    }

    #[test]
    fn length_of_code() {
        assert!(complaints("a/src/b.rs", &of_lines(500)).is_empty());
        assert_eq!(complaints("a/src/b.rs", &of_lines(501)).len(), 1);
        let tests =
            |count: usize| format!("#[cfg(test)]\nmod tests {{\n{}", "x\n".repeat(count - 2));
        assert!(complaints("a/src/b.rs", &(of_lines(500) + &tests(300))).is_empty());
        assert_eq!(
            complaints("a/src/b.rs", &(of_lines(500) + &tests(301))).len(),
            1
        );
    }

    #[test]
    fn length_of_tests() {
        for path in ["a/src/b/tests.rs", "tests/x/main.rs", "a/tests/b.rs"] {
            assert!(complaints(path, &of_lines(800)).is_empty());
            assert_eq!(complaints(path, &of_lines(801)).len(), 1);
        }
    }

    #[test]
    fn width() {
        let line = |count: usize| format!("//! {}\n", "é".repeat(count - 4));
        assert!(complaints("a.rs", &line(100)).is_empty());
        assert_eq!(complaints("a.rs", &line(101)).len(), 1);
        assert!(complaints("a.rs", &line(101).replace("éé", "http://")).is_empty());
        assert!(complaints("a.md", &line(300)).is_empty());
        let code = |text: &str| format!("//! Head.\nlet x = {text};\n");
        assert!(complaints("a.rs", &code(&format!("\"{}\"", "a".repeat(100)))).is_empty());
        assert_eq!(complaints("a.rs", &code(&"a".repeat(100))).len(), 1);
    }

    #[test]
    fn reminders() {
        for word in REMINDERS {
            assert_eq!(
                complaints("a.rs", &format!("//! Head.\n// {word}: x\n")).len(),
                1
            );
            assert_eq!(complaints("a.md", &format!("{word}\n")).len(), 1);
        }
    }
}
