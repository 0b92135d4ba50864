//! What is wrong with a configuration file, each with its place in it.

use super::yaml::At;
use std::fmt;
use std::path::{Path, PathBuf};

/// A configuration file that can't be used. Prints one line per problem, `FILE:LINE:COL: message`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    path: PathBuf,
    /// By place; at least one.
    problems: Vec<Problem>,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Problem {
    pub(crate) at: At,
    pub(crate) message: String,
}

/// Without a file: what stands there has no file.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.at {
            At { line: 0, .. } => f.write_str(&self.message),
            At { line, column } => write!(f, "line {line}, column {column}: {}", self.message),
        }
    }
}

/// Problems printed before the rest is only counted.
const PROBLEMS_SHOWN_MAX: usize = 20;

impl ConfigError {
    pub(crate) fn new(path: &Path, mut problems: Vec<Problem>) -> Self {
        problems.sort();
        problems.dedup();
        Self {
            path: path.to_owned(),
            problems,
        }
    }

    /// How many problems were found.
    pub fn problem_count(&self) -> usize {
        self.problems.len()
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        for (index, Problem { at, message }) in self.problems.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            if index == PROBLEMS_SHOWN_MAX {
                return write!(f, "{path}: and {} more", self.problems.len() - index);
            }
            match at {
                At { line: 0, .. } => write!(f, "{path}: {message}")?,
                At { line, column } => write!(f, "{path}:{line}:{column}: {message}")?,
            }
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}
