//! Results of steps and tests -> a summary whose last line is `N passed, N failed`.

use crate::run::say;

/// What has been counted so far.
#[derive(Debug, Default)]
pub(crate) struct Report {
    passed: usize,
    failures: Vec<String>,
    notes: Vec<String>,
}

impl Report {
    /// Counts one step; what it complained about is shown at once and named in the summary.
    pub(crate) fn step(&mut self, name: &str, complaints: &[String]) {
        for complaint in complaints {
            say(&format!("{name}: {complaint}"));
        }
        if complaints.is_empty() {
            self.passed += 1;
            say(&format!("{name}: ok"));
        } else {
            self.failures
                .push(format!("{name} ({} complaints)", complaints.len()));
        }
    }

    /// Counts the tests of one test binary.
    pub(crate) fn tests(&mut self, passed: usize, failed: &[String]) {
        self.passed += passed;
        self.failures.extend(failed.iter().cloned());
    }

    /// Something that the reader should know and that is no failure.
    pub(crate) fn note(&mut self, text: &str) {
        self.notes.push(text.to_owned());
    }

    /// How many steps and tests failed.
    pub(crate) fn failed(&self) -> usize {
        self.failures.len()
    }

    /// Prints the summary.
    pub(crate) fn print(&self) {
        say("");
        for note in &self.notes {
            say(&format!("note: {note}"));
        }
        for failure in &self.failures {
            say(&format!("failed: {failure}"));
        }
        say(&self.last_line());
    }

    fn last_line(&self) -> String {
        format!("{} passed, {} failed", self.passed, self.failures.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_and_tests_are_counted_alike() {
        let mut report = Report::default();
        report.step("a", &[]);
        report.step("b", &["broken".to_owned(), "worse".to_owned()]);
        report.tests(3, &["c::d".to_owned()]);
        assert_eq!(report.last_line(), "4 passed, 2 failed");
        assert_eq!(report.failed(), 2);
    }
}
