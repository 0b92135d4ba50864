//! A Prometheus configuration file -> the validated settings, or an error with file and line.
//!
//! Nothing is ignored: a key that doesn't exist, a value that can't be used and a key of
//! Prometheus that this version lacks are all refused. Keys are listed in tables (`Section`),
//! which the reader checks against and `docs/configuration.md` is made from.

mod agent_file;
mod clustering;
mod discovery;
mod error;
mod expand;
mod global;
mod instance;
pub mod model;
mod reference;
mod relabel;
mod remote_write;
mod scrape;
mod section;
mod service;
mod settings_hash;
#[cfg(test)]
mod tests;
mod units;
mod web;
pub(crate) mod yaml;

pub use error::ConfigError;
pub(crate) use global::Global;
pub(crate) use instance::{InstanceConfig, read as read_instance};
pub use model::*;
pub use reference::reference;
pub(crate) use settings_hash::{endpoint_hash, settings_hash};
pub use units::{format_duration, parse_duration_ms};
pub(crate) use web::read as read_web;

use error::Problem;
use section::{Fields, Problems};
use std::path::Path;
use yaml::{At, Node, Value};

impl Config {
    /// Reads and validates the file at `path`. Environment variables are looked up for
    /// `external_labels` only. Blocks on the disk.
    ///
    /// # Errors
    /// The file can't be read, is not YAML, or holds what can't be used; all problems at once.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, ConfigError> {
        let path = path.as_ref();
        let text = std::fs::read_to_string(path).map_err(|cause| {
            let message = format!("cannot read the configuration file: {cause}");
            ConfigError::new(
                path,
                vec![Problem {
                    at: At::default(),
                    message,
                }],
            )
        })?;
        Self::parse(path, &text, &|name| {
            let value = std::env::var(name).ok();
            if value.is_none() {
                tracing::warn!("external_labels name ${name}, which is not set: taken as empty");
            }
            value
        })
    }

    /// Validates the text of a file. `path` appears in messages, and relative paths start at its
    /// folder; nothing is read from it. `variable` looks up an environment variable.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn parse(
        path: &Path,
        text: &str,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        let root = yaml::parse(text).map_err(|(at, message)| {
            ConfigError::new(
                path,
                vec![Problem {
                    at,
                    message: format!("not YAML: {message}"),
                }],
            )
        })?;
        let problems = Problems::default();
        let root = match agent_file::is_agent_file(&root) {
            true => agent_file::translate(&root, &problems),
            false => root,
        };
        let file = Fields::new(&root, &global::FILE, &problems);
        let nothing = Node {
            at: root.at,
            value: Value::Null,
        };
        let section = Fields::new(
            file.node("global").unwrap_or(&nothing),
            &global::GLOBAL,
            &problems,
        );
        let global = global::read(&section, variable);
        let folder = path.parent().unwrap_or(Path::new(""));
        let config = Self {
            scrape_configs: scrape::read(&file, &global, folder),
            remote_write: remote_write::read(&file, &global),
            external_labels: global.external_labels.clone(),
            scraping_service: service::read(&file, folder),
            defaults: global,
        };
        match problems.into_vec() {
            problems if problems.is_empty() => Ok(config),
            problems => Err(ConfigError::new(path, problems)),
        }
    }
}
